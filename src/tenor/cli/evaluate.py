"""`tenor evaluate RUN [data.key=value …]`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenor.cli.options import add_exit_zero, add_json, add_root, print_json
from tenor.errors import UserError

if TYPE_CHECKING:
    from tenor.workflows.evaluate import EvaluationResult


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="evaluate a run's saved model on its own or other data",
        epilog="Exit status: 3 for an error that was not allowed; the result is printed and saved first.",
    )
    parser.add_argument("reference", metavar="RUN", help="a folder, a run id or latest")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="data.key=value",
        help="other data, such as data.source=rotten_tomatoes; evaluation.token_budget=N if memory runs out; "
        "training.device=auto training.precision=auto on a machine without the GPU used in training; "
        "checks.allow.CODE=reason to accept a finding",
    )
    parser.add_argument("--input", type=Path, metavar="FILE", help="evaluate on the labelled rows of this file")
    parser.add_argument(
        "--split", choices=("test", "validation", "train"), default="test", help="the rows (default: test)"
    )
    parser.add_argument(
        "--abstain-below",
        type=float,
        metavar="P",
        help="also report coverage and accuracy if the model abstains below probability P",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for numbers, predictions and report (default: RUN/evaluations/NAME)",
    )
    add_exit_zero(parser)
    add_root(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from tenor.workflows.evaluate import evaluate, evaluation_record

    if options.abstain_below is not None and not 0 <= options.abstain_below <= 1:
        raise UserError(f"--abstain-below {options.abstain_below:g}: expected a probability from 0 to 1, such as 0.9")
    from rich.console import Console

    from tenor.console.run import show_notes
    from tenor.workflows.evaluate import require_place
    from tenor.workflows.run_checks import refuse_errors

    require_place(options.output)
    evaluation = evaluate(options.reference, options.overrides, options.split, options.runs, file=options.input)
    show_notes(Console(stderr=True, markup=False), evaluation.rows.notes)
    notes = {"data_notes": list(evaluation.rows.notes)} if evaluation.rows.notes else {}
    record = {**evaluation_record(evaluation, options.abstain_below), **notes}
    folder = _keep(evaluation, record, options.output)
    if options.json:
        print_json({**record, **({} if folder is None else {"folder": str(folder)})})
    else:
        _show(evaluation, folder, options.abstain_below)
    if not options.exit_zero:
        refuse_errors(evaluation.checks)
    return 0 if folder is not None or options.output is None else 2


def _show(evaluation: "EvaluationResult", folder: Path | None, abstain_below: float | None) -> None:
    from rich.console import Console

    from tenor.console.numbers import show_abstention
    from tenor.console.run import show_evaluation

    console = Console(markup=False)
    show_evaluation(console, evaluation, folder)
    if abstain_below is not None:
        show_abstention(console, evaluation, abstain_below)


def _keep(evaluation: "EvaluationResult", record: dict[str, Any], output: Path | None) -> Path | None:
    """Write the result; its folder, or None if it could not be written: the numbers are printed all the same."""
    from tenor.workflows.evaluate import keep_evaluation

    try:
        return keep_evaluation(evaluation, record, output)
    except UserError as error:
        print(f"tenor: the result was not saved: {error}", file=sys.stderr)
        return None
