"""`tenor check CONFIG [dotted.key=value …]`: run the checks before the first training step."""

import argparse

from tenor.cli.options import OVERRIDES, add_json, print_json


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("check", help="check data, model and training plan before training")
    parser.add_argument("config", metavar="CONFIG", help="a built-in name (tenor configs) or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDES)
    parser.add_argument("--deep", action="store_true", help="also run longer experiments, such as random labels")
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from tenor.config.loading import load_config

    config = load_config(options.config, options.overrides)
    from rich.console import Console

    from tenor.checks.finding import findings_view, summary_line
    from tenor.console.run import show_unused
    from tenor.workflows.check import check

    report = check(config, options.deep)
    show_unused(Console(stderr=True, markup=False), config)
    if options.json:
        print_json(report.as_dict())
    else:
        console = Console(markup=False)
        console.print(findings_view(report.findings))
        console.print(summary_line(report))
    return 3 if report.errors and config.checks.policy == "stop" else 0
