"""`tenor export`: a model in another format, verified against its source before it is saved."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console

from tenor.config.loading import load_config
from tenor.console.run import progress_line, show_notes
from tenor.data.dataset import LabelledText
from tenor.data.sources import read_source
from tenor.data.splits import make_splits, stratified_rows
from tenor.errors import TenorError, UserError
from tenor.inference.engine_choice import FLOAT_TOLERANCE
from tenor.inference.engines import ONNX_PACKAGES, require_onnx
from tenor.inference.onnx_files import quantize_onnx, write_onnx
from tenor.inference.predictor import Predictor
from tenor.inference.source import saved_model
from tenor.inference.texts import text_fault
from tenor.measures.hybrid import save_hybrid
from tenor.model.classifier import quiet_transformers
from tenor.model.device import instruction_sets
from tenor.runs.directory import DEFAULT_ROOT, RunDirectory, find_run
from tenor.runs.environment import package_versions
from tenor.runs.export_notes import VERSION, ExportCheck, ExportedTruncation, ExportNotes, write_export_notes
from tenor.runs.files import atomic_path, sha256_file
from tenor.runs.missing import Missing, missing_because
from tenor.runs.model_notes import NOTES, WEIGHTS, stored_threshold
from tenor.workflows.evaluate import config_for_rows, require_data_overrides, rows_of_file
from tenor.workflows.measure import count_training_texts

CHECK_REVIEWS = 500
INT8_AGREEMENT = 0.99
"""Share of labels that must not change with int8."""
EMBEDDED = "demo"
"""A built-in configuration with the embedded reviews."""


@dataclass(frozen=True)
class Checked:
    """Source and export compared on the same reviews."""

    reviews: int
    origin: str
    """The source of the reviews."""
    largest_difference: float
    """Of a probability."""
    agreement: float
    """Share of labels that are the same, in 0 … 1."""
    accuracy_before: float | str
    """A str is the reason why it is missing."""
    accuracy_after: float | str
    instruction_sets: tuple[str, ...]
    """Of the processor that the comparison ran on."""
    rows_in_train: int | str
    """Reviews that have a training text of the run; a str is the reason why that is unknown."""


@dataclass(frozen=True)
class Exported:
    """A verified export."""

    folder: Path
    files: dict[str, int]
    """Bytes by name."""
    notes: ExportNotes
    checked: Checked


def export(
    reference: str,
    output: Path | None = None,
    form: Literal["onnx", "safetensors"] = "onnx",
    quantize: Literal["none", "int8"] = "none",
    reviews: int = CHECK_REVIEWS,
    root: Path = DEFAULT_ROOT,
    console: Console | None = None,
    file: Path | None = None,
    overrides: Sequence[str] = (),
) -> Exported:
    """Write a model to the folder `output` with tokenizer, labels, length and digest, and compare it with its source.

    The default for `output` is a folder in `exports/`.

    Both models predict the same held-out reviews: those of the run's own test split (its validation split if it has
    none), or the embedded reviews for a model that is not a run; or the labelled rows of a `file`; or those of the data
    given by `overrides` (`data.…=…`). The folder is created only if probabilities differ by at most 1e-4 in float32,
    or 99% of labels agree in int8.

    Raises:
        UserError: there is nothing to export, the format is impossible, there are no rows to compare on, or the output
            exists.
        TenorError: PyTorch's exporter does not support the model, or the export differs from it, with the figures.
    """
    console = console or Console(stderr=True, markup=False)
    output = output or _default_output(reference, root, f"{form}-int8" if quantize == "int8" else form)
    _refuse(output, form, quantize)
    require_data_overrides("export", overrides)
    before = Predictor.load(reference, engine="torch", device="cpu", root=root)
    own_rows = [] if file is None else rows_of_file(file, before.labels)
    rows = _held_out(reference, root, reviews, [*own_rows, *overrides])
    show_notes(console, rows.notes)
    with atomic_path(output) as temporary:
        temporary.mkdir()
        notes = _write_onnx(before, temporary, quantize) if form == "onnx" else _copy(reference, root, temporary)
        write_export_notes(temporary, notes)
        after = Predictor.load(temporary, device="cpu", root=root)
        checked = _compare(before, after, rows, _rows_in_train(_run_of(reference, root), rows), console)
        _refuse_difference(checked, quantize)
        notes = notes.model_copy(update={"checked": ExportCheck.model_validate(_record(checked, form))})
        write_export_notes(temporary, notes)
    return Exported(output, {path.name: path.stat().st_size for path in sorted(output.iterdir())}, notes, checked)


def _default_output(reference: str, root: Path, kind: str) -> Path:
    run = _run_of(reference, root)
    return Path("exports") / f"{f'{run.config_name}-{run.run_id}' if run else Path(reference).name}-{kind}"


def _refuse(output: Path, form: str, quantize: str) -> None:
    if quantize != "none" and form != "onnx":
        raise UserError(f"--quantize {quantize} needs --format onnx: PyTorch's weights stay in float32")
    if form == "onnx":
        require_onnx()
    if output.exists():
        raise UserError(f"{output} exists; name another folder, or remove it")


def _held_out(reference: str, root: Path, count: int, overrides: Sequence[str]) -> LabelledText:
    """Reviews that the model was not trained on, or those of the data given by the overrides."""
    run = _run_of(reference, root)
    config = config_for_rows(run, overrides) if run else load_config(EMBEDDED, overrides)
    if config.data.source == "given":
        raise UserError(
            f"{reference}: its rows were given in Python, so there are none to verify the export on; "
            f"give a file with labelled rows: tenor export {reference} --input FILE"
        )
    source = read_source(config.data)
    rows = make_splits(source, config.data, config.seed).validation if isinstance(source.test, Missing) else source.test
    sound = rows.select([row for row, text in enumerate(rows.texts) if text_fault(text) is None])
    if not len(sound):
        raise UserError(f"{rows.origin}: no row has a text, so there is nothing to verify the export on")
    return sound.select(stratified_rows(sound.labels, count, seed=0)) if len(sound) > count else sound


def _run_of(reference: str, root: Path) -> RunDirectory | None:
    """The run behind a reference, or None for a model that is not a run."""
    if (Path(reference) / "config.json").is_file():
        return None
    try:
        return find_run(root, reference)
    except UserError:
        return None


def _copy(reference: str, root: Path, folder: Path) -> ExportNotes:
    run = _run_of(reference, root)
    model = saved_model(run) if run else Path(reference)
    if not (model / NOTES).is_file():
        raise UserError(f"{reference}: --format safetensors copies a run's model; this model has that format already")
    shutil.copytree(model, folder, dirs_exist_ok=True)
    return _notes(Predictor.load(model, engine="torch", device="cpu", root=root), folder, WEIGHTS, "none")


def _write_onnx(before: Predictor, folder: Path, quantize: Literal["none", "int8"]) -> ExportNotes:
    source, path = before.source, folder / "model.onnx"
    model: Any = source.model
    write_onnx(model, path, before.framing.token_types is not None)
    if quantize == "int8":
        quantize_onnx(path, folder / "model.int8.onnx")
        path.unlink()
        path = folder / "model.int8.onnx"
    tokenizer = source.tokenizer
    tokenizer.model_max_length = source.truncation.max_length
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        backend.no_truncation()
        backend.no_padding()
    with quiet_transformers():
        model.config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return _notes(before, folder, path.name, quantize)


def _notes(before: Predictor, folder: Path, file: str, quantize: Literal["none", "int8"]) -> ExportNotes:
    source = before.source
    return ExportNotes(
        version=VERSION,
        file=file,
        sha256=sha256_file(folder / file),
        quantize=quantize,
        labels=source.labels,
        truncation=ExportedTruncation(**asdict(source.truncation)),
        temperature=source.temperature,
        source=source.origin,
        source_sha256=source.digest,
        threshold=None if source.threshold is None else stored_threshold(source.threshold),
        hybrid=None if source.hybrid is None else save_hybrid(source.hybrid, folder),
        training_texts=source.training_texts,
    )


def _rows_in_train(run: RunDirectory | None, rows: LabelledText) -> int | str:
    if run is None:
        return "the exported model is not a run, so its training rows are unknown"
    try:
        return count_training_texts(run, rows.texts)
    except UserError as error:
        return str(error)


def _compare(
    before: Predictor, after: Predictor, rows: LabelledText, rows_in_train: int | str, console: Console
) -> Checked:
    with progress_line(console, f"comparing both models on {rows.origin}", 2 * len(rows)) as line:
        expected, observed = (
            np.concatenate([scores.probabilities for _, scores in one.stream([((), rows.texts)], advance=line.advance)])
            for one in (before, after)
        )
    return Checked(
        reviews=len(rows),
        origin=rows.origin,
        largest_difference=float(np.abs(expected - observed).max()),
        agreement=float((expected.argmax(axis=1) == observed.argmax(axis=1)).mean()),
        accuracy_before=_accuracy(before, expected, rows),
        accuracy_after=_accuracy(after, observed, rows),
        instruction_sets=instruction_sets(),
        rows_in_train=rows_in_train,
    )


def _accuracy(predictor: Predictor, probabilities: np.ndarray, rows: LabelledText) -> float | str:
    if set(predictor.labels) != set(rows.class_names):
        return f"the model has {', '.join(predictor.labels)}; the reviews have {', '.join(rows.class_names)}"
    predicted = [predictor.labels[index] for index in probabilities.argmax(axis=1)]
    return float(np.mean([rows.class_names[label] == name for label, name in zip(rows.labels, predicted, strict=True)]))


def _refuse_difference(checked: Checked, quantize: str) -> None:
    agrees = checked.agreement >= INT8_AGREEMENT and math.isfinite(checked.largest_difference)
    if not (agrees if quantize == "int8" else checked.largest_difference <= FLOAT_TOLERANCE):
        wanted = f"{INT8_AGREEMENT:.0%} of labels" if quantize == "int8" else f"a difference of {FLOAT_TOLERANCE:g}"
        raise TenorError(
            f"the export predicts differently, and nothing was written: on {checked.reviews:,} reviews of "
            f"{checked.origin} probabilities differ by up to {checked.largest_difference:.3g}, {checked.agreement:.2%} "
            f"of labels agree, accuracy {_shown(checked.accuracy_before)} became {_shown(checked.accuracy_after)}. "
            f"Allowed: {wanted}. " + ("Export without --quantize" if quantize == "int8" else "Predict with torch")
        )


def _shown(accuracy: float | str) -> str:
    return f"{accuracy:.2%}" if isinstance(accuracy, float) else "unknown"


def _record(checked: Checked, form: str) -> dict[str, Any]:
    """The content of `export.json`, where a missing value has a reason."""
    names = ("accuracy_before", "accuracy_after", "rows_in_train")
    values = {
        name: missing_because(value) if isinstance(value := getattr(checked, name), str) else value for name in names
    }
    exporters = {name: version(name) for name in ONNX_PACKAGES} if form == "onnx" else {}
    return {**asdict(checked), **values, "packages": {**package_versions(), **exporters}}
