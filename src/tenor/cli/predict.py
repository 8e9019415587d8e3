"""`tenor predict RUN "text" …`, `tenor predict RUN --input reviews.csv --output out.csv`, and `--output folder/`."""

import argparse
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenor.cli.options import add_json, add_root, print_json
from tenor.errors import TenorError, UserError

if TYPE_CHECKING:
    from tenor.inference.file_job import FileJob
    from tenor.inference.file_records import FileResult
    from tenor.inference.file_shards import FolderResult
    from tenor.inference.predictor import Prediction
    from tenor.inference.ray_shards import RayPool
    from tenor.runs.model_notes import Threshold
    from tenor.workflows.predict import FinishedJob


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("predict", help="predict the classes of texts, or of every row of a file")
    parser.add_argument(
        "reference", metavar="RUN", help="a run (folder, id or latest), a model folder, an export or a hub id"
    )
    parser.add_argument("texts", nargs="*", default=[], metavar="TEXT", help="texts to classify")
    parser.add_argument(
        "--input",
        type=Path,
        metavar="FILE",
        help="csv, tsv, json, jsonl, parquet, arrow, xlsx or txt (a text per line), compressed or not; or a folder, or "
        "a pattern in quotes: 'reviews/*.parquet'",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="csv, tsv, jsonl or parquet; or a folder (labelled/), which gets one output per input file",
    )
    parser.add_argument("--text-column", default="text", metavar="NAME", help="column of the texts (default: text)")
    parser.add_argument(
        "--long-text",
        choices=("truncate", "windows"),
        default="truncate",
        help="texts above the maximum length: truncate as in training, or average over windows (default: truncate)",
    )
    parser.add_argument(
        "--on-error",
        choices=("fail", "null"),
        default="fail",
        help="at a row that cannot be predicted: fail, or leave its prediction empty and continue (default: fail)",
    )
    parser.add_argument(
        "--ignore-threshold",
        action="store_true",
        help="predict the most probable class, even if tenor calibrate chose a threshold",
    )
    parser.add_argument(
        "--abstain-below",
        type=float,
        default=0.0,
        metavar="P",
        help="leave the label empty if the highest probability is below P; see tenor evaluate --abstain-below",
    )
    parser.add_argument(
        "--restart", action="store_true", help="start again and overwrite the output of an earlier call"
    )
    parser.add_argument(
        "--engine",
        choices=("auto", "fastest", "torch", "torch-bf16", "onnx", "onnx-int8"),
        default="auto",
        help="auto: torch, or for a large file the fastest engine that agrees with torch; fastest: also engines with "
        "16 and 8 bits, if no probability differs by more than 0.01",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="for engine torch")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="default: one per physical core; with --ray one per worker"
    )
    parser.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="predict many files with the workers of a Ray cluster: HOST:PORT or auto; without ADDRESS one is started "
        "on this machine",
    )
    parser.add_argument(
        "--workers",
        metavar="N or MIN-MAX",
        help="with --ray: the number of workers, or its limits (default: all that the cluster has CPUs or GPUs for)",
    )
    add_root(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if bool(options.texts) == (options.input is not None):
        raise UserError("give either texts to classify or a file: --input reviews.csv --output labelled.csv")
    if (options.input is None) != (options.output is None):
        raise UserError("--input and --output go together: the file to read, and the file for the predictions")
    if options.threads is not None and options.threads < 1:
        raise UserError(f"--threads {options.threads}: expected 1 or more")
    if not 0 <= options.abstain_below <= 1:
        raise UserError(f"--abstain-below {options.abstain_below:g}: expected a probability from 0 to 1, such as 0.9")
    if options.workers is not None and options.ray is None:
        raise UserError("--workers is for the workers of a Ray cluster; add --ray")
    if options.input is not None:
        from tenor.inference.file_shards import is_folder_output

        if is_folder_output(options.output):
            return _folder(options)
    if options.ray is not None:
        raise UserError("--ray predicts many files into a folder: --input 'reviews/*.parquet' --output labelled/")
    return _file(options) if options.input is not None else _texts(options)


def _texts(options: argparse.Namespace) -> int:
    from tenor.inference.predictor import Predictor, UnlikeTextsWarning
    from tenor.workflows.predict import threshold_message

    predictor = Predictor.load(options.reference, **_model_options(options))
    if (message := threshold_message(predictor)) is not None:
        print(message, file=sys.stderr)
    if predictor.engine.name != "torch":
        print(f"engine {predictor.engine.name}: {predictor.why}", file=sys.stderr)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnlikeTextsWarning)  # Each text's caution is printed instead.
        predictions = predictor.predict(options.texts, options.long_text, options.abstain_below)
    if options.json:
        method = _method(predictor.engine.name, predictor.why, predictor.threshold)
        rows = [{"text": text, **vars(row)} for text, row in zip(options.texts, predictions, strict=True)]
        print_json({**method, "predictions": rows})
    else:
        _show(options.texts, predictions)
        if options.abstain_below:
            unsure = sum(not row.label for row in predictions)
            print(f"unsure (probability below {options.abstain_below:g}): {unsure:,} of {len(predictions):,}")
    for number, row in enumerate(predictions, start=1):
        if row.caution:
            print(f"text {number}: do not trust this prediction: {row.caution}", file=sys.stderr)
    return 0


def _show(texts: list[str], predictions: "list[Prediction]") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", expand=True)
    table.add_column("label", no_wrap=True)
    table.add_column("probability", justify="right", no_wrap=True)
    table.add_column("used", no_wrap=True)
    table.add_column("text", no_wrap=True, overflow="ellipsis", ratio=1)
    for text, row in zip(texts, predictions, strict=True):
        part = "truncated" if row.truncated else "all" if row.windows == 1 else f"{row.windows} windows"
        table.add_row(Text(row.label or "(unsure)"), f"{row.probability:.4f}", part, Text(" ".join(text.split())[:200]))
    Console(markup=False).print(table)


def _model_options(options: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments with which texts, a file and many files load the model."""
    return {
        "engine": options.engine,
        "device": options.device,
        "threads": options.threads,
        "root": options.runs,
        "ignore_threshold": options.ignore_threshold,
    }


def _job(options: argparse.Namespace) -> "FileJob":
    from tenor.inference.file_job import FileJob

    return FileJob(
        options.input,
        Path(options.output),
        options.text_column,
        options.long_text,
        options.on_error,
        options.restart,
        options.abstain_below,
    )


def _folder(options: argparse.Namespace) -> int:
    from tenor.workflows.predict_folder import predict_to_folder

    pool = None if options.ray is None else _pool(options.ray, options.workers)
    done = predict_to_folder(options.reference, _job(options), **_model_options(options), ray=pool)
    if options.json:
        method = _method(done.engine, done.why, done.threshold)
        print_json({"output": str(done.output), **method, **done.result.as_dict()})
    else:
        _print_folder(done, options.abstain_below)
    if message := done.result.fault_message():
        raise TenorError(message)
    return 0


def _pool(address: str, workers: str | None) -> "RayPool":
    from tenor.inference.ray_shards import RayPool

    if workers is None:
        return RayPool(address or None)
    limits = [int(part) for part in workers.split("-") if part.isdecimal()]
    if len(limits) != workers.count("-") + 1 or len(limits) > 2 or not 1 <= limits[0] <= limits[-1]:
        raise UserError(f"--workers {workers}: expected a number of workers such as 8, or limits such as 2-16")
    return RayPool(address or None, limits[0], limits[-1])


def _file(options: argparse.Namespace) -> int:
    from tenor.workflows.predict import predict_to_file

    done = predict_to_file(options.reference, _job(options), **_model_options(options))
    if options.json:
        method = _method(done.engine, done.why, done.threshold)
        print_json({"output": str(done.output), **method, **vars(done.result)})
    else:
        _print_result(done, options.abstain_below)
    return 0


def _method(engine: str, why: str, threshold: "Threshold | None") -> dict[str, Any]:
    from tenor.runs.model_notes import stored_threshold

    by = "the most probable class" if threshold is None else stored_threshold(threshold)
    return {"engine": engine, "why": why, "decided_by": by}


def _print_folder(done: "FinishedJob[FolderResult]", abstain_below: float) -> None:
    result = done.result
    complete = result.files - len(result.faults)
    resumed = f", {result.resumed_files:,} of them from an earlier call" if result.resumed_files else ""
    print(f"{done.output}: {complete:,} of {result.files:,} files{resumed}")
    _print_rows(str(done.output), result, result.unlike_texts.notes, done.seconds, abstain_below)


def _print_result(done: "FinishedJob[FileResult]", abstain_below: float) -> None:
    _print_rows(str(done.output), done.result, done.result.unlike["notes"], done.seconds, abstain_below)


def _print_rows(
    output: str, result: "FileResult | FolderResult", notes: Iterable[str], seconds: float, abstain_below: float
) -> None:
    new = result.rows - result.resumed
    resumed = f", {result.resumed:,} of them from an earlier call" if result.resumed else ""
    speed = f", {new / seconds:.1f} reviews/s" if new else ""
    print(f"{output}: {result.rows:,} rows{resumed}{speed}")
    if result.predicted:
        print("  " + ", ".join(f"{name} {count:,}" for name, count in sorted(result.predicted.items())))
    if abstain_below:
        print(f"  unsure (probability below {abstain_below:g}): {result.unsure:,}, without a label, with probabilities")
    if result.failed:
        print(f"  {result.failed:,} without a prediction: " + "; ".join(result.first_failures), end="")
        print("; …" if result.failed > len(result.first_failures) else "")
    for note in notes:
        print(f"  {note}")
