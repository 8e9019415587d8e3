"""`tenor`: parses the command line, runs the command, and returns the exit status."""

import argparse
import os
import sys
from collections.abc import Sequence

import tenor
from tenor.cli import (
    adapt,
    audit,
    calibrate,
    check,
    compare,
    configs,
    diagnose,
    evaluate,
    experiments,
    explain,
    export,
    predict,
    report,
    rule,
    runs,
    serve,
    sweep,
    train,
    watch,
)
from tenor.errors import TenorError, UserError, harmless, system_refusal
from tenor.model.memory import collect_cycles_seldom, use_one_heap

COMMANDS = (
    *(train, adapt, check, audit, evaluate, calibrate, compare, report, predict, explain),
    *(serve, export, diagnose, watch, experiments, sweep, runs, configs, rule),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns 0 done, 1 failed, 2 wrong usage or input, 3 refused by a check, 130 interrupted."""
    use_one_heap()  # Before any library starts threads.
    collect_cycles_seldom()  # Before libraries are imported.
    options = _parse(_parser(), arguments)
    try:
        if not options.in_processes and os.environ.get("WORLD_SIZE", "1") != "1":
            from tenor.training.processes import require_one_process

            require_one_process("this command")
        return int(options.run(options))
    except TenorError as error:
        # Of processes that a launcher started, each has the same words to complain about.
        if not isinstance(error, UserError) or os.environ.get("LOCAL_RANK", "0") == "0":
            print(f"tenor: {harmless(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("tenor: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        if (refusal := system_refusal(error)) is None:
            raise
        print(f"tenor: {harmless(refusal)}", file=sys.stderr)
        return 1


def _parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Like `parse_args`, but settings and texts may also follow an option, which argparse does not allow."""
    options, rest = parser.parse_known_args(arguments)
    many = next((name for name in ("overrides", "texts") if hasattr(options, name)), None)
    if rest and many is not None and not any(word.startswith("-") for word in rest):
        setattr(options, many, [*getattr(options, many), *rest])
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tenor", description=tenor.__doc__.splitlines()[0] if tenor.__doc__ else None)
    parser.add_argument("--version", action="version", version=f"tenor {tenor.__version__}")
    parser.set_defaults(in_processes=False)
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(subparsers)
    return parser


if __name__ == "__main__":
    sys.exit(main())
