"""What can go wrong: rules by family, and three stages that run them.

`preflight` before the first step, `Watchdog` during training, `diagnose` after the fact.
"""

from importlib import import_module
from typing import Any

_LAZY = {
    "preflight": "tenor.checks.before_training",
    "Watchdog": "tenor.checks.watchdog",
    "diagnose": "tenor.checks.diagnosis",
    "Report": "tenor.checks.finding",
    "Finding": "tenor.checks.finding",
    "Rule": "tenor.checks.rule",
    "TenorCallback": "tenor.checks.callback",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'tenor.checks' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
