"""`tenor compare RUN RUN`."""

import argparse
from pathlib import Path

from tenor.cli.options import add_json, add_root, print_json


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("compare", help="say whether one run is better than another, on the same rows")
    parser.add_argument("first", metavar="RUN", help="a folder, a run id or latest")
    parser.add_argument("second", metavar="RUN", help="the one to measure against it")
    parser.add_argument("--split", choices=("test", "validation"), default="test", help="default: test")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write all rows on which they differ, as CSV")
    add_root(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from tenor.runs.directory import find_run
    from tenor.workflows.compare import compare, comparison_record, write_disagreements

    first, second = (find_run(options.runs, reference) for reference in (options.first, options.second))
    found = compare(first, second, options.split)
    if options.output is not None:
        write_disagreements(found, options.output)
    if options.json:
        print_json(comparison_record(found))
    else:
        from rich.console import Console

        from tenor.console.comparison import show_comparison

        console = Console(markup=False)
        show_comparison(console, found)
        if options.output is not None:
            console.print(f"\nall of them: {options.output}", highlight=False, soft_wrap=True)
    return 0
