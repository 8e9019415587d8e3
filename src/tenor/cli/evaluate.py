"""`tenor evaluate RUN [data.key=value …]`."""

import argparse

from tenor.cli.options import add_json, add_root, print_json


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("evaluate", help="measure a run's saved model again, on its own data or on other")
    parser.add_argument("reference", metavar="RUN", help="a folder, a run id or latest")
    parser.add_argument(
        "overrides", nargs="*", metavar="data.key=value", help="other data, such as data.source=rotten_tomatoes"
    )
    parser.add_argument("--split", choices=("test", "validation", "train"), default="test", help="default: test")
    add_root(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from tenor.workflows.evaluate import evaluate

    found = evaluate(options.reference, options.overrides, options.split, options.runs)
    if options.json:
        from tenor.workflows.evaluate import evaluation_record

        print_json(evaluation_record(found))
    else:
        from rich.console import Console

        from tenor.workflows.show import show_evaluation

        show_evaluation(Console(), found)
    return 0
