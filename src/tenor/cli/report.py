"""`tenor report RUN` and `tenor report FOLDER`."""

import argparse
from pathlib import Path

from tenor.cli.options import add_json, add_root, print_json


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("report", help="write the HTML report of a run, or the index of a folder of runs")
    parser.add_argument("target", metavar="RUN|FOLDER", help="a run (folder, id or latest), or a folder of runs")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="default: report.html in the run's folder, index.html in the folder of runs",
    )
    add_root(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from tenor.workflows.report import report

    path = report(options.target, options.runs, options.output)
    if options.json:
        print_json({"report": str(path)})
    else:
        print(path)
    return 0
