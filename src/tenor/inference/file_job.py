"""A file of texts → the same file with predictions: streamed, and resumable."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa

from tenor.data.files.folders import conversion_in_place
from tenor.data.files.headers import Wanted, missing_columns
from tenor.data.files.json_records import parse_record
from tenor.data.files.nested import names_of
from tenor.data.files.opening import encoding_fix
from tenor.data.files.stream import NOT_UTF8, RECORD, FileRows
from tenor.data.tokenization import tokenizer_digest
from tenor.data.unlike_texts import UnlikeTexts
from tenor.errors import TextError, UserError
from tenor.inference.engines import EngineName
from tenor.inference.file_inputs import (
    CHUNK_CHARACTERS,
    CHUNK_ROWS,
    OPTION,
    TEXT_COLUMN,
    Chunk,
    describe_fault,
    open_input,
    place_of,
    read_chunks,
)
from tenor.inference.file_outputs import JOB, Parts, claim_parts, is_text, locked_output, parts_of, write_output
from tenor.inference.file_records import FileResult, ShardRecord, Stamp, read_record, stamp_of
from tenor.inference.predictor import Predictor, Scores
from tenor.inference.texts import LongText, text_fault
from tenor.runs.files import write_json

SAMPLE_ROWS = 512
SAMPLE_CHARACTERS = 20_000
"""Kept of a sampled text: far more than a model reads at once, yet small enough to keep hundreds of texts."""

Drawn = list[tuple[float, str]]


@dataclass
class Survey:
    """The result of one pass over the whole input file."""

    file: FileRows
    sha256: str = ""
    rows: int = 0
    columns: dict[str, None] = field(default_factory=dict)
    """Names, in order of appearance."""
    fields: dict[str, None] = field(default_factory=dict)
    """The names that `--text-column` can be for JSON: those of the columns, and of fields within them."""
    faults: int = 0
    """Count of rows that cannot be predicted or written, as far as this is known without a tokenizer."""
    first_fault: str = ""
    fix: str = ""
    """The next step, if rows have bytes that are not UTF-8."""
    stamp: Stamp | None = None
    """Of the file before it was read; None for several files."""
    sample: list[str] = field(default_factory=list)
    """A uniform sample of the predictable texts of the whole file, the same at every reading; long texts are cut
    off."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Messages for the user about how the file is read."""
        return self.file.notes

    @property
    def has_records(self) -> bool:
        """Whether the columns are the keys of JSON objects."""
        return self.file.kind == "records"


def survey(path: Path, text_column: str, as_text: bool = False) -> Survey:
    """Read a file once completely; `as_text`: the output format is not Parquet.

    Raises:
        UserError: a file that cannot be read, a missing text column, or a column that cannot be written.
    """
    found = Survey(open_input(path, text_column, as_text))
    found.stamp = stamp_of(found.file.files[0]) if len(found.file.files) == 1 else None
    rows, spoiled = found.file, ""
    spoiled_texts: list[Path] = []
    random, drawn = np.random.default_rng(0), Drawn()
    for chunk in read_chunks(rows, text_column, as_text):
        found.rows += len(chunk.texts)
        if found.has_records:
            for record in _records(chunk):
                found.columns.update(dict.fromkeys(record))
                own = [text_column] if text_column in record else []
                found.fields.update(dict.fromkeys((*names_of(record), *own)))
        else:
            found.columns.update(dict.fromkeys(chunk.kept.column_names))
        sound = []
        for position, text in enumerate(chunk.texts):
            fault = text_fault(text)
            if fault is None and position not in chunk.faults:
                sound.append(str(text))
                continue
            found.faults += 1
            if chunk.faults.get(position) == NOT_UTF8 and rows.unit == "file":
                spoiled_texts.append(rows.files[chunk.places[position] - 1])
            elif chunk.faults.get(position) == NOT_UTF8:
                spoiled = spoiled or chunk.file or rows.files[0].name
            found.first_fault = found.first_fault or describe_fault(rows, chunk, position, fault or "")
        drawn = _drawn(drawn, sound, random)
    found.sample = [text for _, text in drawn]
    if spoiled:
        file = next(path for path in rows.files if path.name == spoiled)
        found.fix = encoding_fix(file)
    if spoiled_texts:
        found.fix = conversion_in_place(spoiled_texts)
    if found.has_records and found.columns and text_column not in found.fields:
        raise missing_columns(rows.where, [Wanted("text", text_column, OPTION)], list(found.fields))
    found.sha256 = _digest(rows)
    return found


def refuse_faults(found: Survey, job: "FileJob") -> None:
    """Raises UserError if rows cannot be predicted and the job does not leave their predictions empty."""
    if found.faults and job.on_error == "fail":
        raise UserError(
            f"{job.input}: {found.faults:,} of {found.rows:,} rows can't be predicted, the first: "
            f"{found.first_fault}. {found.fix or 'Fix them'}, or leave their predictions empty: --on-error null"
        )


def _digest(rows: FileRows) -> str:
    """The SHA-256 of a file, or of the names and digests of several."""
    digests = []
    for path in rows.files:
        with open(path, "rb") as file:
            digests.append((path.name, hashlib.file_digest(file, "sha256").hexdigest()))
    if len(digests) == 1:
        return digests[0][1]
    return hashlib.sha256(repr(digests).encode("utf-8", "surrogateescape")).hexdigest()


def _drawn(drawn: Drawn, texts: list[str], random: np.random.Generator) -> Drawn:
    """Every text gets a random number and the lowest are kept, so that all texts have the same chance."""
    numbers = random.random(len(texts))
    limit = drawn[-1][0] if len(drawn) == SAMPLE_ROWS else 1.0
    lower = [(float(numbers[at]), texts[at][:SAMPLE_CHARACTERS]) for at in np.flatnonzero(numbers < limit)]
    return sorted([*drawn, *lower], key=itemgetter(0))[:SAMPLE_ROWS]


def _records(chunk: Chunk) -> Iterator[dict[str, object]]:
    for line in chunk.kept[RECORD].to_pylist():
        yield parse_record(line)[0]


VERSION = 1
ERROR = "error"


@dataclass(frozen=True)
class FileJob:
    """The settings of a prediction job."""

    input: Path
    output: Path
    text_column: str = TEXT_COLUMN
    long_text: LongText = "truncate"
    on_error: Literal["fail", "null"] = "fail"
    restart: bool = False
    """Delete the output and the parts of an interrupted job."""
    abstain_below: float = 0.0
    """Probability of the most probable class below which a row gets no prediction; it keeps its probabilities."""
    record: Path | None = None
    """Of a job that is one of many: the file that says what the complete output was computed from. With it, parts of
    another input are discarded, and every output has a column of errors, so that all outputs have the same columns."""


def predict_file(
    predictor: Predictor, job: FileJob, found: Survey, advance: Callable[[int], None] = lambda rows: None
) -> FileResult:
    """Write `job.output`: the input's columns, then `prediction`, `probability`, one column per class, and more.

    `found` is the survey of the input for this output. An interrupted job resumes after the last finished chunk when
    it is called again; the output is the same as without the interruption. `advance` is called with the count of
    finished rows.

    Raises:
        UserError: an output that exists, colliding columns, an interrupted job with another input or model, or an
            input that changes during the job.
        TextError: with `on_error="fail"`, a row that cannot be predicted.
        TenorError: finished chunks that something else removed or changed; no output is written then.
    """
    predictor.require_abstention(job.abstain_below)
    added = _added_columns(predictor, job)
    if collisions := [name for name in added if name in found.columns]:
        raise UserError(
            f"{job.input} already has columns with the names of prediction columns: {', '.join(collisions)}. "
            "Rename them, or predict from the original file"
        )
    identity = _identity(predictor, job, found)
    with locked_output(job.output, 0.0 if job.record is None else OTHER_WORKER_SECONDS):
        if (complete := _complete(job, identity)) is not None:
            parts_of(job.output).remove()
            return complete
        parts = claim_parts(job.output, identity, job.restart, discard_other=job.record is not None)
        result = _predict_parts(predictor, job, found, parts, added, advance)
        if job.record is not None and found.stamp is not None:
            # Before the parts are removed: whoever is killed here has either of them.
            record = ShardRecord(
                job=identity,
                input=found.stamp,
                output_bytes=job.output.stat().st_size,
                result=replace(result, resumed=result.rows),
            )
            write_json(job.record, record.model_dump(mode="json"))
        parts.remove()
    return result


OTHER_WORKER_SECONDS = 120.0
"""A worker that was lost with its machine may still hold the lock of its file for a moment."""


def _complete(job: FileJob, identity: Mapping[str, Any]) -> FileResult | None:
    """The result of a job that another worker completed; None if there is none."""
    record = None if job.record is None else read_record(job.record)
    if record is None or record.job != identity or record.output_fault(job.output) is not None:
        return None
    return record.result


def _predict_parts(
    predictor: Predictor,
    job: FileJob,
    found: Survey,
    parts: Parts,
    added: list[str],
    advance: Callable[[int], None],
) -> FileResult:
    """Compute the missing parts, and join all of them to the output."""
    chunks = read_chunks(found.file, job.text_column, is_text(job.output))
    unlike = UnlikeTexts(predictor.source.training_texts)
    rows = []
    for chunk in islice(chunks, parts.count):
        rows.append(len(chunk.texts))
        tokens = predictor.tokenized(chunk.texts, job.long_text)
        unlike.add(chunk.texts, tokens.lengths, tokens.unknown, partial(place_of, found.file, chunk))
    resumed = sum(rows)
    rest = ((chunk, chunk.texts) for chunk in chunks)
    for chunk, scores in predictor.stream(rest, job.long_text, advance):
        parts.write(len(rows), _result(chunk, scores, predictor, job, found.file))
        unlike.add(chunk.texts, scores.tokens, scores.unknown, partial(place_of, found.file, chunk))
        rows.append(len(chunk.texts))
    if sum(rows) != found.rows:
        again = "Run the same command again" if job.record is not None else "Predict it again with --restart"
        raise UserError(f"{job.input} changed while it was read. {again}")
    tables = partial(parts.tables, rows)
    shown = [name for name in added if name != ERROR or job.on_error == "null" or job.record is not None]
    result = _summary(tables(), found.rows, resumed)
    write_output(job.output, tables, list(found.columns), shown, found.has_records)
    return replace(result, unlike={**unlike.record(), "examples": dict(unlike.first)})


@dataclass(frozen=True)
class InterruptedJob:
    """An interrupted job."""

    engine: EngineName
    rows: int
    """Count of finished rows."""


def interrupted_job(output: Path) -> InterruptedJob | None:
    """The interrupted job that was writing `output`, or None if there is none."""
    parts = parts_of(output)
    stored = parts.job
    if stored is None:
        return None
    if stored.get("engine") not in get_args(EngineName):
        raise UserError(f"{parts.folder / JOB}: has no valid engine. Start again with --restart")
    return InterruptedJob(stored["engine"], parts.rows)


def _added_columns(predictor: Predictor, job: FileJob) -> list[str]:
    how = "windows" if job.long_text == "windows" else "truncated"
    return ["prediction", "probability", *(f"probability_{name}" for name in predictor.labels), how, ERROR]


def _identity(predictor: Predictor, job: FileJob, found: Survey) -> dict[str, Any]:
    """Everything that determines the content of a part."""
    reading = {"reading": dict(found.file.reading)} if found.file.reading else {}
    return {**model_and_options(predictor, job), "input_sha256": found.sha256, **reading}


def model_and_options(predictor: Predictor, job: FileJob) -> dict[str, Any]:
    """Everything but the input that determines the content of a part."""
    source, threshold = predictor.source, predictor.threshold
    return {
        "version": VERSION,
        "text_column": job.text_column,
        "chunk": [CHUNK_ROWS, CHUNK_CHARACTERS],
        "weights_sha256": source.digest,
        "tokenizer": tokenizer_digest(source.tokenizer),
        "truncation": asdict(source.truncation),
        "temperature": source.temperature,
        "labels": list(source.labels),
        "threshold": None if threshold is None else f"{threshold.class_name} from {threshold.probability!r}",
        "engine": predictor.engine.name,
        "long_text": job.long_text,
        "abstain_below": job.abstain_below,
    }


def _result(chunk: Chunk, scores: Scores, predictor: Predictor, job: FileJob, rows: FileRows) -> pa.Table:
    faults = sorted({*scores.faults, *chunk.faults})
    places = [describe_fault(rows, chunk, position, scores.faults.get(position, "")) for position in faults]
    if places and job.on_error == "fail":
        raise TextError(
            f"{job.input}: {places[0]}. Fix it and start again, or skip such rows: --on-error null",
            chunk.places[faults[0]] - 1,
        )
    right = np.ones(len(chunk.texts), dtype=bool)
    right[faults] = False
    table = chunk.kept
    for name, values in _columns(scores, predictor, right, job).items():
        table = table.append_column(name, values)
    errors = np.full(len(right), None, dtype=object)
    errors[faults] = places
    return table.append_column(ERROR, pa.array(errors, pa.large_string()))


def _columns(scores: Scores, predictor: Predictor, right: np.ndarray, job: FileJob) -> dict[str, pa.Array]:
    wrong, probabilities = ~right, np.nan_to_num(scores.probabilities)
    labels, best = predictor.labels, predictor.decide(probabilities)
    of_best = probabilities[np.arange(len(best)), best]
    silent = wrong | (of_best < job.abstain_below)
    columns = {
        "prediction": pa.array(np.array(labels, dtype=object)[best], pa.string(), mask=silent),
        "probability": pa.array(of_best, pa.float64(), mask=wrong),
    }
    for index, name in enumerate(labels):
        columns[f"probability_{name}"] = pa.array(probabilities[:, index], pa.float64(), mask=wrong)
    if job.long_text == "windows":
        columns["windows"] = pa.array(scores.windows, pa.int64(), mask=wrong)
    else:
        columns["truncated"] = pa.array(scores.truncated, pa.bool_(), mask=wrong)
    return columns


def _summary(tables: Iterator[pa.Table], rows: int, resumed: int) -> FileResult:
    predicted: Counter[str] = Counter()
    failures: list[str] = []
    failed = unlabelled = 0
    for table in tables:
        unlabelled += table["prediction"].null_count
        predicted.update(name for name in table["prediction"].to_pylist() if name is not None)
        errors = table[ERROR].drop_null().to_pylist()
        failed += len(errors)
        failures += errors[: 3 - len(failures)]
    return FileResult(rows, resumed, failed, tuple(failures), dict(sorted(predicted.items())), unlabelled - failed)
