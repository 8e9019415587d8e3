"""`tenor rule CODE`: explain a rule; without a code, list all rules."""

import argparse

from tenor.cli.options import add_json, print_json


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("rule", help="explain a rule of the checks, or list all")
    parser.add_argument("code", nargs="?", metavar="CODE", help="for example FRZ001")
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from tenor.checks.catalogue import RULES, find_rule, page

    if options.code:
        rule = find_rule(options.code)
        if options.json:
            print_json({"code": rule.code, "severity": rule.severity, "title": rule.title, "doc": rule.doc})
        else:
            print(page(rule), end="")
    elif options.json:
        print_json([{"code": rule.code, "severity": rule.severity, "title": rule.title} for rule in RULES])
    else:
        for rule in RULES:
            print(f"{rule.code}  {rule.severity:8} {rule.title}")
    return 0
