"""`tenor evaluate RUN [data.key=value …]`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenor.cli.options import add_json, add_root, print_json
from tenor.errors import UserError

if TYPE_CHECKING:
    from tenor.workflows.evaluate import Evaluation


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("evaluate", help="measure a run's saved model again, on its own data or on other")
    parser.add_argument("reference", metavar="RUN", help="a folder, a run id or latest")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="data.key=value",
        help="other data, such as data.source=rotten_tomatoes; evaluation.token_budget=N where memory is short, "
        "training.device=auto training.precision=auto where the GPU of the training is not there; "
        "checks.allow.CODE=reason accepts a finding",
    )
    parser.add_argument("--input", type=Path, metavar="FILE", help="labelled rows of your own, instead of a split")
    parser.add_argument("--split", choices=("test", "validation", "train"), default="test", help="default: test")
    parser.add_argument(
        "--abstain-below", type=float, metavar="P", help="also: what is left where the model is less sure than P"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="for numbers, predictions and report (default: RUN/evaluations/NAME)"
    )
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
    found = evaluate(options.reference, options.overrides, options.split, options.runs, file=options.input)
    show_notes(Console(stderr=True, markup=False), found.rows.notes)
    notes = {"data_notes": list(found.rows.notes)} if found.rows.notes else {}
    record = {**evaluation_record(found, options.abstain_below), **notes}
    kept = _keep(found, record, options.output)
    if options.json:
        print_json({**record, **({} if kept is None else {"kept": str(kept)})})
    else:
        _show(found, kept, options.abstain_below)
    refuse_errors(found.checks, found.config.checks)
    return 0 if kept is not None or options.output is None else 2


def _show(found: "Evaluation", kept: Path | None, abstain_below: float | None) -> None:
    from rich.console import Console

    from tenor.console.numbers import show_abstention
    from tenor.console.run import show_evaluation

    console = Console(markup=False)
    show_evaluation(console, found, kept)
    if abstain_below is not None:
        show_abstention(console, found, abstain_below)


def _keep(found: "Evaluation", record: dict[str, Any], output: Path | None) -> Path | None:
    """The folder; None where nothing can be written and none was asked for, which costs no one the numbers."""
    from tenor.workflows.evaluate import keep_evaluation

    try:
        return keep_evaluation(found, record, output)
    except UserError as error:
        print(f"tenor: not kept: {error}", file=sys.stderr)
        return None
