"""`tenor train CONFIG [dotted.key=value …] [--seeds N]`, `tenor train --resume RUN`, `tenor train --repeat RUN`."""

import argparse
from typing import TYPE_CHECKING

from tenor.cli.options import OVERRIDES, add_json, add_root, print_json
from tenor.errors import UserError

if TYPE_CHECKING:
    from tenor.config.schema import Config


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("train", help="fine-tune and evaluate a classifier")
    parser.add_argument("config", nargs="?", metavar="CONFIG", help="a built-in name (tenor configs) or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDES)
    parser.add_argument("--resume", metavar="RUN", help="resume an interrupted run: a folder, a run id or latest")
    parser.add_argument("--repeat", metavar="RUN", help="repeat a run; refused if data, weights or versions changed")
    parser.add_argument(
        "--seeds", type=int, metavar="N", help="train with N consecutive seeds, and report mean and spread"
    )
    add_root(parser)
    add_json(parser)
    parser.set_defaults(run=run, in_processes=True)


def run(options: argparse.Namespace) -> int:
    if sum(source is not None for source in (options.config, options.resume, options.repeat)) != 1:
        raise UserError(
            "give exactly one of: CONFIG to start a run (`tenor configs` lists them), --resume RUN to continue a run, "
            "--repeat RUN to repeat one"
        )
    if options.config is None and options.seeds is not None:
        raise UserError("--seeds starts new runs, --resume and --repeat use an earlier one; give only one of them")
    from tenor.config.loading import load_config

    if options.seeds is not None or options.repeat is not None:
        from tenor.training.processes import require_one_process

        require_one_process("tenor train --seeds" if options.repeat is None else "tenor train --repeat")
    config = load_config(options.config, options.overrides) if options.config else None
    if config and options.seeds is not None:
        return _train_seeds(config, options)
    from tenor.workflows.experiments import repeat
    from tenor.workflows.train import resume, train

    if config:
        result = train(config, options.runs)
    elif options.resume:
        result = resume(options.resume, options.runs)
    else:
        result = repeat(options.repeat, options.runs)
    if options.json:
        from tenor.runs.files import read_json

        print_json({"run": str(result.run.path), **read_json(result.run.evaluation)})
    return 0


def _train_seeds(config: "Config", options: argparse.Namespace) -> int:
    from tenor.workflows.experiments import exit_status, seeds_record, seeds_table, train_seeds

    rows = train_seeds(config, options.seeds, options.runs)
    if options.json:
        print_json(seeds_record(rows))
    else:
        from rich.console import Console

        Console(markup=False).print(seeds_table(rows))
    return exit_status(rows, options.seeds)
