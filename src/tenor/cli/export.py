"""`tenor export RUN --format onnx|safetensors [--quantize int8] [--input FILE]`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tenor.cli.options import add_json, add_root, print_json

if TYPE_CHECKING:
    from tenor.workflows.export import Exported


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("export", help="export a model, and verify that it predicts the same")
    parser.add_argument("reference", metavar="RUN", help="a run (folder, id or latest), a model folder or hub id")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="data.key=value",
        help="other data for the verification, such as data.text_column=review",
    )
    parser.add_argument("--input", type=Path, metavar="FILE", help="file with labelled rows for the verification")
    parser.add_argument("--format", choices=("onnx", "safetensors"), default="onnx", help="default: onnx")
    parser.add_argument(
        "--quantize", choices=("none", "int8"), default="none", help="int8: 8-bit weights, only with --format onnx"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: exports/RUN-FORMAT")
    parser.add_argument(
        "--reviews",
        type=int,
        default=500,
        metavar="N",
        help="number of held-out texts for the verification (default: 500)",
    )
    add_root(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from tenor.errors import UserError
    from tenor.workflows.export import export

    if options.reviews < 1:
        raise UserError(f"--reviews {options.reviews}: expected 1 or more")
    done = export(
        options.reference,
        options.output,
        options.format,
        options.quantize,
        options.reviews,
        options.runs,
        file=options.input,
        overrides=options.overrides,
    )
    if options.json:
        from tenor.runs.files import read_json

        print_json({"folder": str(done.folder), "files": done.files, **read_json(done.folder / "export.json")})
    else:
        _print_result(done)
    return 0


def _print_result(done: "Exported") -> None:
    checked = done.checked
    size = done.files[done.notes.file] / 1e6
    print(f"{done.folder / done.notes.file}: {size:.1f} MB, SHA-256 {done.notes.sha256}")
    print(f"  compared with PyTorch on {checked.reviews:,} texts of {checked.origin}:")
    print(f"  largest difference between probabilities {checked.largest_difference:.2g}")
    print(f"  equal labels {checked.agreement:.2%}")
    print(f"  accuracy {_accuracies(checked.accuracy_before, checked.accuracy_after)}")
    if checked.rows_in_train:
        print(f"  {_rows_in_train(checked.rows_in_train)}")
    print(f"  processor's instruction sets: {', '.join(checked.instruction_sets) or 'none that PyTorch detects'}")


def _rows_in_train(count: int | str) -> str:
    if isinstance(count, int):
        return f"{count:,} of these texts are training texts of the run, so the accuracy is not an unbiased estimate"
    return f"unknown whether these texts are training texts of the run: {count}"


def _accuracies(before: float | str, after: float | str) -> str:
    if isinstance(before, float) and isinstance(after, float):
        return f"{before:.2%} before, {after:.2%} after"
    return f"unknown: {before if isinstance(before, str) else after}"
