"""`tenor configs` lists the built-in configurations, `tenor configs NAME` prints one, `--fields` explains every key."""

import argparse

from tenor.cli.options import add_json, print_json


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("configs", help="list the built-in configurations, or print one")
    parser.add_argument("name", nargs="?", metavar="NAME", help="print this configuration, for example to copy it")
    parser.add_argument("--fields", action="store_true", help="list every setting with its default and meaning")
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from tenor.config import builtin_names, builtin_text, describe_fields, load_config

    if options.fields:
        fields = describe_fields()
        if options.json:
            print_json([vars(field) for field in fields])
        else:
            print("\n".join(f"{field.key} = {field.default}   ({field.allowed})\n    {field.doc}" for field in fields))
    elif options.name:
        if options.json:
            print_json(load_config(options.name).model_dump(mode="json"))
        else:
            print(builtin_text(options.name), end="")
    elif options.json:
        print_json(list(builtin_names()))
    else:
        for name in builtin_names():
            print(f"{name:20} {_first_comment(builtin_text(name))}")
    return 0


def _first_comment(text: str) -> str:
    return text.splitlines()[0].removeprefix("# ")
