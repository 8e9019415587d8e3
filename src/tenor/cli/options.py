"""Options that several commands share."""

import argparse
import json
from pathlib import Path
from typing import Any

from tenor.errors import UserError

OVERRIDES = "settings to change, such as training.epochs=3 data.subset.size=500"


def add_root(parser: argparse.ArgumentParser) -> None:
    """`--runs DIR`."""
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of the runs (default: runs)"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print machine-readable output on stdout")


def add_exit_zero(parser: argparse.ArgumentParser) -> None:
    """`--exit-zero`."""
    parser.add_argument("--exit-zero", action="store_true", help="end with 0 instead of 3 if there is an error finding")


def add_allow(parser: argparse.ArgumentParser) -> None:
    """`--allow CODE=REASON`, any number of times."""
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="CODE=REASON",
        help="accept a finding, with a reason, so that it does not stop the program",
    )


def allowances(given: list[str]) -> dict[str, str]:
    """The reasons by code.

    Raises:
        UserError: a code without a reason.
    """
    pairs = [text.partition("=") for text in given]
    for code, _, reason in pairs:
        if not reason:
            raise UserError(
                f"--allow {code}: no reason is given; write for example --allow {code}='known and accepted'"
            )
    return {code.upper(): reason for code, _, reason in pairs}


def print_json(value: Any) -> None:
    """A value as JSON on stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False))
