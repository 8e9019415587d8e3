"""`tenor audit CONFIG [dotted.key=value …]`: suspected label errors, duplicates and ambiguous texts."""

import argparse
from pathlib import Path

from tenor.cli.options import OVERRIDES, add_json, print_json


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("audit", help="find training rows that are probably labelled wrong, or twice there")
    parser.add_argument("config", metavar="CONFIG", help="a built-in name (tenor configs) or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDES)
    parser.add_argument(
        "--features",
        choices=("both", "encoder", "words"),
        default="both",
        help="what to judge by; words alone takes seconds (default: both)",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="the CSV file (default: NAME-audit.csv)")
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from tenor.config.loading import load_config

    config = load_config(options.config, options.overrides)
    from tenor.workflows.audit import audit, audit_record, write_audit

    found = audit(config, options.features)
    path = options.output or Path(f"{config.name}-audit.csv")
    write_audit(found, path)
    if options.json:
        print_json({"file": str(path), **audit_record(found)})
    else:
        from rich.console import Console

        from tenor.workflows.show_audit import show_audit

        show_audit(Console(), found, path)
    return 0
