"""`tenor diagnose PATH`: name the causes of a bad result; exit status 3 if there is an error."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tenor.cli.options import add_exit_zero, add_json, add_root, print_json
from tenor.errors import UserError

if TYPE_CHECKING:
    from tenor.checks.diagnosis import Diagnosis
    from tenor.workflows.confirm import Confirmation


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "diagnose",
        help="name the causes of a bad result, from any files of the run",
        epilog="Exit status: 3 for an error that was not allowed in the run, 2 for a path that cannot be read.",
    )
    parser.add_argument(
        "path",
        metavar="PATH",
        help="a run, a Trainer's output folder, TensorBoard events, predictions (CSV, Parquet), a summary or an "
        "evaluation (JSON)",
    )
    parser.add_argument(
        "--confirm",
        action="store_true",
        help="train twice on few rows, once with the likeliest cause fixed, and report whether the symptoms disappear",
    )
    add_exit_zero(parser)
    add_root(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from tenor.checks.diagnosis import diagnose

    path = _path(options)
    diagnosis = diagnose(path)
    confirmation = _confirmation(options, path, diagnosis) if options.confirm else None
    if options.json:
        confirmed = (
            {}
            if confirmation is None
            else {"confirmation": {**vars(confirmation), "confirmed": confirmation.confirmed}}
        )
        print_json({**diagnosis.as_dict(), **confirmed})
    else:
        from rich.console import Console

        from tenor.console.diagnosis_text import render

        console = Console(markup=False)
        console.print(render(diagnosis))
        if confirmation is not None:
            from tenor.workflows.confirm import confirmation_text

            console.print(confirmation_text(confirmation))
    return 3 if diagnosis.errors and not options.exit_zero else 0


def _path(options: argparse.Namespace) -> Path:
    """The path if it exists, else the folder of the run with this id, or of the `latest`."""
    if Path(options.path).exists():
        return Path(options.path)
    from tenor.runs.directory import find_run

    return find_run(options.runs, options.path).path


def _confirmation(options: argparse.Namespace, path: Path, diagnosis: "Diagnosis") -> "Confirmation":
    from rich.console import Console

    from tenor.checks.catalogue import find_rule
    from tenor.runs.directory import RunDirectory
    from tenor.workflows.confirm import confirm

    if not (path / "config.yaml").is_file():
        raise UserError(f"{path} has no config.yaml; --confirm needs the folder of a Tenor run, to train it again")
    code = next((cause.code for cause in diagnosis.causes if find_rule(cause.code).setting is not None), None)
    if code is None:
        raise UserError("no setting fixes any of the causes, so a rerun cannot confirm one; see the fix of each cause")
    return confirm(RunDirectory(path), code, options.runs, Console(stderr=True, markup=False))
