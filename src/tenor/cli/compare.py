"""`tenor compare RUN_A RUN_B`."""

import argparse
from pathlib import Path

from tenor.cli.options import add_json, add_root, print_json


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("compare", help="test whether one run is significantly better than another")
    parser.add_argument("first", metavar="RUN_A", help="a folder, a run id or latest")
    parser.add_argument("second", metavar="RUN_B", help="the run to compare with it")
    parser.add_argument("--split", choices=("test", "validation"), default="test", help="the rows (default: test)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write all rows with different predictions, as CSV")
    add_root(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from tenor.runs.directory import find_run
    from tenor.workflows.compare import compare, comparison_record, write_disagreements

    first, second = (find_run(options.runs, reference) for reference in (options.first, options.second))
    comparison = compare(first, second, options.split)
    if options.output is not None:
        write_disagreements(comparison, options.output)
    if options.json:
        print_json(comparison_record(comparison))
    else:
        from rich.console import Console

        from tenor.console.comparison import show_comparison

        console = Console(markup=False)
        show_comparison(console, comparison)
        if options.output is not None:
            console.print(f"\nall rows with different predictions: {options.output}", highlight=False, soft_wrap=True)
    return 0
