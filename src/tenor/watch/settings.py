"""What a watched process is told: by environment variables, so that its children and launchers pass it on."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from tenor.errors import UserError

StopOn = Literal["never", "warning", "error"]
FOLDER, STOP_ON, SECONDS, ALLOW = (
    "TENOR_WATCH_FOLDER",
    "TENOR_WATCH_STOP_ON",
    "TENOR_WATCH_SECONDS",
    "TENOR_WATCH_ALLOW",
)
UNWATCHED: list[str] = []
"""Libraries that the program imported, and whose training steps no hook can see."""


@dataclass(frozen=True)
class WatchSettings:
    """How a program is watched."""

    folder: Path
    """Where findings and report go."""
    stop_on: StopOn = "never"
    """The severity of a finding that ends the program, with status 3."""
    seconds: float = 5.0
    """Limit of the short experiments before the first step."""
    allow: Mapping[str, str] = field(default_factory=dict)
    """Codes of findings that are accepted → the reason."""

    @classmethod
    def from_environment(cls) -> "WatchSettings":
        """The settings that `environment` has written; default settings for a variable that is not set.

        Raises:
            UserError: TENOR_WATCH_STOP_ON has another value than those of `--stop-on`.
        """
        stop_on = next((one for one in get_args(StopOn) if one == os.environ.get(STOP_ON, cls.stop_on)), None)
        if stop_on is None:
            raise UserError(f"{STOP_ON} is {os.environ[STOP_ON]!r}; expected {', '.join(get_args(StopOn))}")
        return cls(
            folder=Path(os.environ.get(FOLDER) or default_folder()),
            stop_on=stop_on,
            seconds=float(os.environ.get(SECONDS, cls.seconds)),
            allow=json.loads(os.environ.get(ALLOW, "{}")),
        )

    def environment(self) -> dict[str, str]:
        """The variables that make Python processes watch themselves, PYTHONPATH included."""
        inject = str(Path(__file__).parent / "inject")
        others = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != inject]
        return {
            "TENOR_WATCH": "1",
            "PYTHONPATH": os.pathsep.join([inject, *others]),
            FOLDER: str(self.folder),
            STOP_ON: self.stop_on,
            SECONDS: str(self.seconds),
            ALLOW: json.dumps(dict(self.allow)),
        }


def default_folder() -> Path:
    """`tenor-watch/<time>` in the current directory, with a number where that is taken."""
    from datetime import datetime

    base = Path.cwd() / "tenor-watch" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    candidates = (base.with_name(f"{base.name}{suffix}") for suffix in ("", *(f"_{k}" for k in range(2, 1000))))
    return next((folder for folder in candidates if not folder.exists()), base)
