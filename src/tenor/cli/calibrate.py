"""`tenor calibrate RUN [--fold] [--class NAME --precision P | --recall R | --no-threshold]`."""

import argparse

from tenor.cli.options import add_json, add_root, print_json
from tenor.errors import UserError


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "calibrate",
        help="measure a run's calibration, fold its temperature into the weights, or choose a decision threshold",
    )
    parser.add_argument("reference", metavar="RUN", help="a folder, a run id or latest")
    parser.add_argument(
        "--fold",
        action="store_true",
        help="divide the saved classifier's weights by the temperature, for use without Tenor",
    )
    parser.add_argument(
        "--class",
        dest="class_name",
        metavar="NAME",
        help="choose a threshold for this class; needs --precision or --recall",
    )
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--precision", type=float, metavar="P", help="the precision to reach on the validation rows")
    target.add_argument("--recall", type=float, metavar="R", help="the recall to reach on the validation rows")
    target.add_argument(
        "--no-threshold", action="store_true", help="remove the threshold: predict the most probable class again"
    )
    add_root(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    target = {name: value for name in ("precision", "recall") if (value := getattr(options, name)) is not None}
    if bool(options.class_name) != bool(target):
        raise UserError("a threshold needs --class NAME and one of --precision P or --recall R")
    if options.class_name and options.no_threshold:
        raise UserError("--no-threshold removes the current threshold; leave out --class")
    from tenor.config.loading import load_config
    from tenor.console.numbers import show_calibration
    from tenor.runs.directory import find_run
    from tenor.workflows.calibrate import calibrate, calibration_record, choose_threshold, fold, remove_threshold
    from tenor.workflows.report import rewrite

    run_folder = find_run(options.runs, options.reference)
    calibrated = calibrate(run_folder)
    if calibrated.changed:
        rewrite(run_folder)
    chosen = None
    if options.no_threshold:
        calibrated = remove_threshold(calibrated)
    for name, value in target.items():
        confidence = load_config(run_folder.config).evaluation.confidence
        chosen = choose_threshold(calibrated, options.class_name, name, value, confidence)
    if options.fold:
        calibrated = fold(calibrated)
    if options.json:
        print_json(calibration_record(calibrated, chosen))
    else:
        from rich.console import Console

        show_calibration(Console(markup=False), calibrated, chosen)
    return 0
