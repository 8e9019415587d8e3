"""Tenor fine-tunes transformer encoders for sentiment classification and proves that the result can be trusted.

Nothing heavy is imported here: each name below loads what it needs on first use.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "load_config": "tenor.config",
    "train": "tenor.workflows.train",
    "resume": "tenor.workflows.train",
    "repeat": "tenor.workflows.experiments",
    "evaluate": "tenor.workflows.evaluate",
    "Predictor": "tenor.inference.predictor",
    "Prediction": "tenor.inference.predictor",
    "TextError": "tenor.errors",
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'tenor' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
