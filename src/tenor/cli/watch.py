"""`tenor watch -- COMMAND`: run anyone's training program and check it, without changing a line of it."""

import argparse
from pathlib import Path

from tenor.cli.options import add_allow, allowances


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "watch",
        help="run a training program in PyTorch as it is, and check it meanwhile",
        usage="tenor watch [options] -- COMMAND …   or   tenor watch [options] -m MODULE …",
        epilog="Exit status: that of the command; 3 if a finding stopped it. Findings go to stderr and to the folder.",
    )
    parser.add_argument(
        "-m", dest="module", nargs=argparse.REMAINDER, help="a Python module to run, with its arguments"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command as you run it, such as python train.py")
    parser.add_argument(
        "--stop-on",
        choices=("never", "warning", "error"),
        default="never",
        help="end the program at the first finding of this severity (default: never)",
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="default: tenor-watch/<time>")
    parser.add_argument("--sarif", type=Path, metavar="FILE", help="write the findings as SARIF 2.1.0")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the rules as JUnit XML")
    parser.add_argument(
        "--probe-seconds", type=float, default=5.0, help="limit of the short experiments before the first step"
    )
    add_allow(parser)
    parser.set_defaults(run=run, in_processes=True)


def run(options: argparse.Namespace) -> int:
    from tenor.watch.command import run_watched
    from tenor.watch.settings import WatchSettings, default_folder

    words = options.command[1:] if options.command[:1] == ["--"] else options.command
    command = ["-m", *options.module] if options.module else words
    folder = options.output.absolute() if options.output else default_folder()
    settings = WatchSettings(folder, options.stop_on, options.probe_seconds, allowances(options.allow))
    return run_watched(command, settings, options.sarif, options.junit)
