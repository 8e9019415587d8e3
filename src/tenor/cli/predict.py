"""`tenor predict RUN "text" …`, `tenor predict RUN --input reviews.csv --output out.csv`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenor.cli.options import add_json, add_root, print_json
from tenor.errors import UserError

if TYPE_CHECKING:
    from tenor.inference.predictor import Prediction
    from tenor.model.notes import Threshold
    from tenor.workflows.predict import FilePrediction


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("predict", help="label texts, or every row of a file")
    parser.add_argument(
        "reference", metavar="RUN", help="a run (folder, id or latest), a model folder, an export or an id of the hub"
    )
    parser.add_argument("texts", nargs="*", default=[], metavar="TEXT", help="texts to label")
    parser.add_argument("--input", type=Path, metavar="FILE", help="csv, tsv, jsonl, parquet, or txt (a text per line)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="csv, tsv, jsonl or parquet")
    parser.add_argument("--text-column", default="text", metavar="NAME", help="default: text")
    parser.add_argument(
        "--long-text",
        choices=("truncate", "windows"),
        default="truncate",
        help="texts beyond the model's length: cut as in training, or averaged over windows",
    )
    parser.add_argument(
        "--on-error",
        choices=("fail", "null"),
        default="fail",
        help="a row that can't be predicted: end with a message, or leave its prediction empty and go on",
    )
    parser.add_argument(
        "--ignore-threshold",
        action="store_true",
        help="label by the most probable class, whatever threshold tenor calibrate chose",
    )
    parser.add_argument(
        "--abstain-below",
        type=float,
        default=0.0,
        metavar="P",
        help="no label where the most probable class has a probability below P; see tenor evaluate --abstain-below",
    )
    parser.add_argument("--restart", action="store_true", help="write the output anew, whatever an earlier call left")
    parser.add_argument(
        "--engine",
        choices=("auto", "torch", "onnx", "onnx-int8"),
        default="auto",
        help="auto: for a large file the fastest that agrees with PyTorch",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="for engine torch")
    parser.add_argument("--threads", type=int, metavar="N", help="default: one per physical core")
    add_root(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if bool(options.texts) == (options.input is not None):
        raise UserError("give texts to label, or a file: --input reviews.csv --output labelled.csv")
    if (options.input is None) != (options.output is None):
        raise UserError("--input and --output belong together: what to read, and where to write the predictions")
    if options.threads is not None and options.threads < 1:
        raise UserError(f"--threads is {options.threads}, expected 1 or more")
    if not 0 <= options.abstain_below <= 1:
        raise UserError(f"--abstain-below {options.abstain_below:g}: expected a probability from 0 to 1, such as 0.9")
    return _file(options) if options.input is not None else _texts(options)


def _texts(options: argparse.Namespace) -> int:
    from tenor.inference.predictor import Predictor
    from tenor.workflows.predict import threshold_message

    predictor = Predictor.load(
        options.reference,
        engine=options.engine,
        device=options.device,
        threads=options.threads,
        root=options.runs,
        ignore_threshold=options.ignore_threshold,
    )
    if (decided_by := threshold_message(predictor)) is not None:
        print(decided_by, file=sys.stderr)
    if predictor.engine.name != "torch":
        print(f"engine {predictor.engine.name}: {predictor.why}", file=sys.stderr)
    predictions = predictor.predict(options.texts, options.long_text, options.abstain_below)
    if options.json:
        told = _how(predictor.engine.name, predictor.why, predictor.threshold)
        rows = [{"text": text, **vars(one)} for text, one in zip(options.texts, predictions, strict=True)]
        print_json({**told, "predictions": rows})
    else:
        _show(options.texts, predictions)
        if options.abstain_below:
            unsure = sum(not one.label for one in predictions)
            print(f"unsure, below {options.abstain_below:g}: {unsure:,} of {len(predictions):,}")
    return 0


def _show(texts: list[str], predictions: "list[Prediction]") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", expand=True)
    table.add_column("label", no_wrap=True)
    table.add_column("probability", justify="right", no_wrap=True)
    table.add_column("read", no_wrap=True)
    table.add_column("text", no_wrap=True, overflow="ellipsis", ratio=1)
    for text, one in zip(texts, predictions, strict=True):
        read = "in part" if one.truncated else "whole" if one.windows == 1 else f"in {one.windows} windows"
        table.add_row(Text(one.label or "(unsure)"), f"{one.probability:.4f}", read, Text(" ".join(text.split())[:200]))
    Console(markup=False).print(table)


def _file(options: argparse.Namespace) -> int:
    from tenor.inference.file_job import FileJob
    from tenor.workflows.predict import predict_to_file

    job = FileJob(
        options.input,
        options.output,
        options.text_column,
        options.long_text,
        options.on_error,
        options.restart,
        options.abstain_below,
    )
    done = predict_to_file(
        options.reference,
        job,
        options.engine,
        options.device,
        options.threads,
        options.runs,
        ignore_threshold=options.ignore_threshold,
    )
    if options.json:
        told = _how(done.engine, done.why, done.threshold)
        print_json({"output": str(done.output), **told, **vars(done.result)})
    else:
        _tell(done, options.abstain_below)
    return 0


def _how(engine: str, why: str, threshold: "Threshold | None") -> dict[str, Any]:
    from tenor.model.notes import stored_threshold

    by = "the most probable class" if threshold is None else stored_threshold(threshold)
    return {"engine": engine, "why": why, "decided_by": by}


def _tell(done: "FilePrediction", abstain_below: float) -> None:
    result = done.result
    fresh = result.rows - result.resumed
    before = f", {result.resumed:,} by an earlier call" if result.resumed else ""
    speed = f", {fresh / done.seconds:.1f} reviews/s" if fresh else ""
    print(f"{done.output}: {result.rows:,} rows{before}{speed}")
    if result.predicted:
        print("  " + ", ".join(f"{name} {count:,}" for name, count in result.predicted.items()))
    if abstain_below:
        print(f"  unsure, below {abstain_below:g}: {result.unsure:,} without a label, with their probabilities")
    if result.failed:
        print(f"  {result.failed:,} without a prediction: " + "; ".join(result.first_failures), end="")
        print("; …" if result.failed > len(result.first_failures) else "")
