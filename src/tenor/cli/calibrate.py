"""`tenor calibrate RUN [--fold] [--class NAME --precision P | --recall R | --no-threshold]`."""

import argparse

from tenor.cli.options import add_json, add_root, print_json
from tenor.errors import UserError


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "calibrate",
        help="show how far a run's probabilities can be trusted; fold the temperature; choose a threshold",
    )
    parser.add_argument("reference", metavar="RUN", help="a folder, a run id or latest")
    parser.add_argument(
        "--fold", action="store_true", help="divide the saved classifier by the temperature, for users without Tenor"
    )
    parser.add_argument(
        "--class",
        dest="class_name",
        metavar="NAME",
        help="choose the threshold on this class's probability that gives …",
    )
    wanted = parser.add_mutually_exclusive_group()
    wanted.add_argument("--precision", type=float, metavar="P", help="… this precision on the validation rows, or …")
    wanted.add_argument("--recall", type=float, metavar="R", help="… this recall; from then on tenor predict uses it")
    wanted.add_argument("--no-threshold", action="store_true", help="forget it: the most probable class decides again")
    add_root(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    wanted = {name: value for name in ("precision", "recall") if (value := getattr(options, name)) is not None}
    if bool(options.class_name) != bool(wanted):
        raise UserError("a threshold needs --class NAME and one of --precision P and --recall R")
    if options.class_name and options.no_threshold:
        raise UserError("--no-threshold forgets the threshold that there is; it takes no --class")
    from tenor.config.loading import load_config
    from tenor.console.numbers import show_calibration
    from tenor.runs.directory import find_run
    from tenor.workflows.calibrate import calibrate, calibration_record, choose_threshold, fold, remove_threshold
    from tenor.workflows.report import rewrite

    found_run = find_run(options.runs, options.reference)
    calibrated = calibrate(found_run)
    if calibrated.changed:
        rewrite(found_run)
    chosen = None
    if options.no_threshold:
        calibrated = remove_threshold(calibrated)
    for name, value in wanted.items():
        confidence = load_config(found_run.config).evaluation.confidence
        chosen = choose_threshold(calibrated, options.class_name, name, value, confidence)
    if options.fold:
        calibrated = fold(calibrated)
    if options.json:
        print_json(calibration_record(calibrated, chosen))
    else:
        from rich.console import Console

        show_calibration(Console(markup=False), calibrated, chosen)
    return 0
