"""`tenor sweep SWEEP [key=value …] [--worker]`: search for the best configuration, with any number of workers."""

import argparse
from typing import Any

from tenor.cli.options import add_json, add_root, print_json
from tenor.errors import UserError


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("sweep", help="search for the best settings, with any number of workers")
    parser.add_argument("sweep", nargs="?", metavar="SWEEP", help="a built-in name (sweep_demo) or a YAML file")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="keys of the sweep to change, such as phases.full.trials=10"
    )
    parser.add_argument("--worker", action="store_true", help="join a sweep that another process started")
    parser.add_argument("--print", action="store_true", help="print a built-in sweep, for example to copy it")
    parser.add_argument("--fields", action="store_true", help="list every key of a sweep with its default and meaning")
    add_root(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.fields:
        return _fields(options.json)
    if options.sweep is None:
        from tenor.config.loading import builtin_names

        raise UserError(f"SWEEP is missing: give a built-in name ({', '.join(builtin_names('sweep'))}) or a YAML file")
    if options.print:
        from tenor.config.loading import builtin_text

        print(builtin_text(options.sweep, "sweep"), end="")
        return 0
    return _sweep(options)


def _sweep(options: argparse.Namespace) -> int:
    from tenor.config.sweep import load_sweep

    plan = load_sweep(options.sweep, options.overrides)
    from tenor.console.trials import sweep_view
    from tenor.workflows.sweep.search import join_sweep, run_sweep

    if options.worker:
        ended = join_sweep(plan, options.runs)
        if options.json:
            print_json({"sweep": plan.sweep.name, "trials_ended": ended})
        else:
            print(f"no trial is left to start: {ended} trials of {plan.sweep.name} have ended")
        return 0
    result = run_sweep(plan, options.runs)
    if options.json:
        print_json(result.as_dict())
    else:
        from rich.console import Console

        console = Console()
        console.print(sweep_view(plan, result.trials, result.winner))
        console.print(result.description(), highlight=False, soft_wrap=True, markup=False)
    return 0


def _fields(as_json: bool) -> int:
    from tenor.config.describe import describe_fields
    from tenor.config.sweep import Dimension, Phase, Sweep

    places: dict[str, Any] = {"": Sweep, "phases.NAME.": Phase, "phases.NAME.space.KEY.": Dimension}
    fields = [(place, field) for place, schema in places.items() for field in describe_fields(schema)]
    if as_json:
        print_json([{**vars(field), "key": place + field.key} for place, field in fields])
    else:
        for place, field in fields:
            print(f"{place}{field.key} = {field.default}   ({field.allowed})\n    {field.doc}")
    return 0
