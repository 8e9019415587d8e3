"""`tenor adapt CONFIG [dotted.key=value …]`, `tenor adapt --resume RUN`."""

import argparse

from tenor.cli.options import OVERRIDES, add_json, add_root, print_json
from tenor.errors import UserError


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "adapt", help="train an encoder on texts without labels, before it is fine-tuned (masked language model)"
    )
    parser.add_argument("config", nargs="?", metavar="CONFIG", help="a built-in name (tenor configs) or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDES)
    parser.add_argument("--resume", metavar="RUN", help="resume an interrupted run: a folder, a run id or latest")
    add_root(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if (options.config is None) == (options.resume is None):
        raise UserError(
            "give exactly one of: CONFIG to start a run (`tenor configs` lists them), --resume RUN to continue a run"
        )
    from tenor.config.loading import load_config

    config = load_config(options.config, options.overrides) if options.config else None
    from tenor.workflows.adapt import adapt, resume_adaptation

    result = adapt(config, options.runs) if config else resume_adaptation(options.resume, options.runs)
    if options.json:
        from tenor.runs.files import read_json

        print_json({"run": str(result.run.path), **read_json(result.run.adaptation)})
    return 0
