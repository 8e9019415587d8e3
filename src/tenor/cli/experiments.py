"""`tenor experiments CONFIG … [--set key=value]`."""

import argparse

from tenor.cli.options import add_json, add_root, print_json


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("experiments", help="train several configurations and list their results")
    parser.add_argument("configs", nargs="+", metavar="CONFIG", help="built-in names or YAML files")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="key=value",
        help="a setting to change in all configurations; may be repeated",
    )
    add_root(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from tenor.workflows.experiments import exit_status, run_experiments

    rows = run_experiments(options.configs, options.set, options.runs)
    if options.json:
        from dataclasses import asdict

        print_json([asdict(row) for row in rows])
    else:
        from rich.console import Console

        from tenor.console.run_list import experiments_table

        Console(markup=False).print(experiments_table(rows))
    return exit_status(rows, len(options.configs))
