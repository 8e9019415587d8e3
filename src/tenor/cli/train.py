"""`tenor train CONFIG [dotted.key=value …] [--seeds N]`, `tenor train --resume RUN`."""

import argparse
from typing import TYPE_CHECKING

from tenor.cli.options import OVERRIDES, add_json, add_root, print_json
from tenor.errors import InterruptedRunError, UserError

if TYPE_CHECKING:
    from tenor.config.schema import Config


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("train", help="fine-tune, evaluate and trace a classifier")
    parser.add_argument("config", nargs="?", metavar="CONFIG", help="a built-in name (tenor configs) or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDES)
    parser.add_argument("--resume", metavar="RUN", help="go on with a run that was cut: a folder, a run id or latest")
    parser.add_argument(
        "--seeds", type=int, metavar="N", help="train N times, with seeds from the configuration's on: mean and spread"
    )
    add_root(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if (options.config is None) == (options.resume is None):
        raise UserError("give a CONFIG to start a run (`tenor configs` lists them), or --resume RUN to go on with one")
    if options.resume and options.seeds is not None:
        raise UserError("--seeds starts new runs and --resume goes on with one; give one of them")
    from tenor.config.loading import load_config

    config = load_config(options.config, options.overrides) if options.config else None
    if config and options.seeds is not None:
        return _train_seeds(config, options)
    from tenor.workflows.train import resume, train

    try:
        result = train(config, options.runs) if config else resume(options.resume, options.runs)
    except InterruptedRunError as interruption:
        raise InterruptedRunError(
            f"{interruption}. Go on with: tenor train --resume {options.resume or 'latest'}"
        ) from None
    if options.json:
        from tenor.runs.files import read_json

        print_json({"run": str(result.run.path), **read_json(result.run.evaluation)})
    return 0


def _train_seeds(config: "Config", options: argparse.Namespace) -> int:
    from tenor.workflows.seeds import seeds_record, seeds_table, train_seeds

    try:
        rows = train_seeds(config, options.seeds, options.runs)
    except InterruptedRunError as interruption:
        raise InterruptedRunError(
            f"{interruption}. Go on with this seed: tenor train --resume latest; later seeds were not begun"
        ) from None
    if options.json:
        print_json(seeds_record(rows))
    else:
        from rich.console import Console

        Console().print(seeds_table(rows))
    return 0 if len(rows) == options.seeds and all(row.status == "completed" for row in rows) else 1
