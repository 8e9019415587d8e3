"""`tenor evaluate RUN [data.key=value …]`."""

import argparse

from tenor.cli.options import add_json, add_root, print_json
from tenor.errors import UserError


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("evaluate", help="measure a run's saved model again, on its own data or on other")
    parser.add_argument("reference", metavar="RUN", help="a folder, a run id or latest")
    parser.add_argument(
        "overrides", nargs="*", metavar="data.key=value", help="other data, such as data.source=rotten_tomatoes"
    )
    parser.add_argument("--split", choices=("test", "validation", "train"), default="test", help="default: test")
    parser.add_argument(
        "--abstain-below", type=float, metavar="P", help="also: what is left where the model is less sure than P"
    )
    add_root(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from tenor.workflows.evaluate import evaluate

    if options.abstain_below is not None and not 0 <= options.abstain_below <= 1:
        raise UserError(f"--abstain-below {options.abstain_below:g}: expected a probability from 0 to 1, such as 0.9")
    found = evaluate(options.reference, options.overrides, options.split, options.runs)
    if options.json:
        from tenor.workflows.evaluate import evaluation_record

        print_json(evaluation_record(found, options.abstain_below))
    else:
        from rich.console import Console

        from tenor.workflows.show import show_evaluation
        from tenor.workflows.show_numbers import show_abstention

        console = Console()
        show_evaluation(console, found)
        if options.abstain_below is not None:
            show_abstention(console, found, options.abstain_below)
    return 0
