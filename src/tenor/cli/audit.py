"""`tenor audit CONFIG [dotted.key=value …]`: suspected label errors, duplicates and ambiguous texts."""

import argparse
from pathlib import Path

from tenor.cli.options import OVERRIDES, add_json, print_json
from tenor.errors import UserError


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("audit", help="find training rows that are mislabelled, duplicated or ambiguous")
    parser.add_argument("config", metavar="CONFIG", help="a built-in name (tenor configs) or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDES)
    parser.add_argument(
        "--features",
        choices=("both", "encoder", "words"),
        default="both",
        help="features of the classifier that examines the labels; words takes seconds (default: both)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the CSV file; the report has the same name with .html (default: NAME-audit.csv)",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from tenor.config.loading import load_config

    config = load_config(options.config, options.overrides)
    path = options.output or Path(f"{config.name}-audit.csv")
    if path.suffix.lower() != ".csv":
        raise UserError(f"--output {path}: expected a name that ends with .csv; the report gets that name with .html")
    from tenor.workflows.audit import audit, audit_record, write_audit
    from tenor.workflows.audit_report import write_audit_report

    result = audit(config, options.features)
    report = path.with_suffix(".html")
    write_audit(result, path)
    write_audit_report(result, config, path, report, ["tenor", "audit", options.config, *options.overrides])
    if options.json:
        print_json({"file": str(path), "report": str(report), **audit_record(result)})
    else:
        from rich.console import Console

        from tenor.console.comparison import show_audit

        show_audit(Console(markup=False), result, path, report)
    return 0
