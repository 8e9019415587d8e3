"""Many files of texts → a folder with one output per file: which of them are complete, and the sum of all."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from tenor.data.files.folders import data_files, format_suffix, is_glob, matching
from tenor.data.unlike_texts import UnlikeTexts
from tenor.errors import TenorError, UserError, system_refusal
from tenor.inference.engines import EngineName
from tenor.inference.file_job import FileJob, predict_file, refuse_faults, survey
from tenor.inference.file_outputs import (
    ACCEPTED_OUTPUTS,
    JOB,
    differences,
    is_text,
    parts_of,
    refuse_existing,
    suffix_fault,
)
from tenor.inference.file_records import FileResult, read_record, stamp_of
from tenor.inference.predictor import Predictor
from tenor.runs.files import read_json, remove_whole, sha256_file, write_json

RECORDS = ".tenor"
"""The folder, in that of the outputs, with the description of the job and a record per complete output."""
SHOWN = 3


def is_folder_output(output: str) -> bool:
    """Whether the output that a user named is a folder: it exists as one, ends with a slash, or has no suffix."""
    return Path(output).is_dir() or output.endswith(("/", os.sep)) or not Path(output).suffix


def find_shards(job: FileJob) -> tuple[list[FileJob], tuple[str, ...]]:
    """One job per input file, in natural order, and notes; `job.input` is a folder, a pattern or a file, `job.output` a
    folder.

    Raises UserError: no such files, formats that are not written, outputs that would be the same file, or an input
    within the folder of the outputs.
    """
    found = _input_files(job.input)
    files = [path for path in found if path.stat().st_size or format_suffix(path) == ".parquet"]
    _refuse_place(job.output, found)
    _refuse_formats(files)
    _refuse_collisions(job.output, files)
    shards = [
        replace(
            job,
            input=path,
            output=job.output / path.name,
            record=job.output / RECORDS / f"{path.name}.json",
            restart=False,
        )
        for path in files
    ]
    return shards, _notes_on_empty([path for path in found if path not in files])


def _input_files(path: Path) -> list[Path]:
    try:
        if path.is_dir():
            if files := data_files(path):
                return files
            raise UserError(
                f"{path}: has no files to read. For files in inner folders, give a pattern: '{path}/*/*.csv'"
            )
        if is_glob(path):
            return matching(path)
        if path.is_file():
            return [path]
    except ValueError as error:  # NUL in the path.
        raise UserError(f"{str(path)!r}: is not a path ({error})") from error
    raise UserError(f"{path}: no such file or folder. Check --input")


def _refuse_place(folder: Path, files: Sequence[Path]) -> None:
    above = next((one for one in (folder, *folder.absolute().parents) if one.exists()), folder)
    if above.exists() and not above.is_dir():
        raise UserError(f"{folder}: {above} is not a folder. Set another output")
    place = folder.resolve()
    for path in files:
        if any(place in (one, *one.parents) for one in (path.parent.resolve(), path.resolve().parent)):
            raise UserError(
                f"{path}: is an input in the folder of the outputs, {folder}. Set another output, or other inputs"
            )


def _refuse_formats(files: Sequence[Path]) -> None:
    faults = [f"{path}: {fault}" for path in files if (fault := suffix_fault(path)) is not None]
    if faults:
        raise UserError(
            f"{faults[0]}. Each output gets the format of its input{_more(len(faults) - 1)}. Choose files with a "
            f"pattern, such as --input '*.csv', or predict a file alone into one of {', '.join(ACCEPTED_OUTPUTS)}: "
            f"--input {files[0].name} --output FILE.csv"
        )


def _more(count: int) -> str:
    return f" ({count:,} more such files)" if count > 0 else ""


def _refuse_collisions(folder: Path, files: Sequence[Path]) -> None:
    by_name: dict[str, Path] = {}
    for path in files:
        if (other := by_name.setdefault(os.path.normcase(path.name), path)) != path:
            raise UserError(
                f"{other} and {path}: both would be written to {folder / path.name}. Predict each folder into an "
                "output folder of its own"
            )


def _notes_on_empty(files: Sequence[Path]) -> tuple[str, ...]:
    if not files:
        return ()
    shown = ", ".join(path.name for path in files[:SHOWN]) + (", …" if len(files) > SHOWN else "")
    return (f"{len(files):,} empty files have no output: {shown}",)


def stored_engine(folder: Path) -> EngineName | None:
    """The engine of the job that began to write this folder; None if there is none."""
    path = folder / RECORDS / JOB
    if not path.exists():
        return None
    job = read_json(path)
    if not isinstance(job, dict) or job.get("engine") not in get_args(EngineName):
        raise UserError(f"{path}: is not the description of a job. Start again with --restart")
    engine: EngineName = job["engine"]
    return engine


def sample_texts(shards: Sequence[FileJob], rows: int) -> list[str]:
    """A sample of the first files that together have this many rows, by which an engine is chosen; empty if all have
    fewer. Files that cannot be read are passed over: they are reported when they are predicted."""
    sample: list[str] = []
    found = 0
    for shard in shards:
        try:
            surveyed = survey(shard.input, shard.text_column, is_text(shard.output))
        except UserError:
            continue
        sample, found = sample + surveyed.sample, found + surveyed.rows
        if found >= rows:
            return sample
    return []


def begin_folder(folder: Path, shards: Sequence[FileJob], described: Mapping[str, Any], restart: bool) -> None:
    """Write the description of the job: the model and the options (`model_and_options`).

    With `restart` everything that an earlier job wrote for these files is removed first. Raises UserError if the folder
    is that of another job.
    """
    if restart:
        remove_whole(folder / RECORDS)
        for shard in shards:
            parts_of(shard.output).remove()
            shard.output.unlink(missing_ok=True)
    path = folder / RECORDS / JOB
    if path.exists():
        if changes := differences(read_json(path), described):
            raise UserError(
                f"{folder} has the outputs of a job with other settings: {changes}. Continue it with its own command, "
                "set another output, or start again with --restart"
            )
        return
    write_json(path, dict(described))


def complete_result(shard: FileJob) -> tuple[FileResult | None, str]:
    """The result of a file whose output is complete, or None; and a note on why an output is computed again.

    A complete output is recognized by its record: the input has the same size and time of change as then, or else the
    same SHA-256, and the output has the size that was written.

    Raises UserError for an output that was not written by this job, or that was changed since.
    """
    record = None if shard.record is None else read_record(shard.record)
    if record is None or shard.record is None:
        refuse_existing(shard.output)
        return None, ""
    if (fault := record.output_fault(shard.output)) is not None:
        if shard.output.exists():
            raise UserError(
                f"{shard.output}: {fault}. Move it elsewhere, and it is predicted again; or start all files again with "
                "--restart"
            )
        why = f"{shard.output} {fault}"
    elif stamp_of(shard.input) == record.input or sha256_file(shard.input) == record.job.get("input_sha256"):
        parts_of(shard.output).remove()
        return record.result, ""
    else:
        why = f"{shard.input} changed since it was predicted"
    shard.output.unlink(missing_ok=True)  # Before its record, without which it would be somebody else's file.
    shard.record.unlink()
    return None, f"{why}: it is predicted again"


@dataclass(frozen=True)
class ShardEnd:
    """How the prediction of one file ended."""

    file: str
    result: FileResult | None
    """None if it failed."""
    fault: str = ""
    notes: tuple[str, ...] = ()
    """Messages for the user about how the file is read."""


def predict_shard(predictor: Predictor, shard: FileJob, advance: Callable[[int], None] = lambda rows: None) -> ShardEnd:
    """Predict one file; a failure that a user can fix is its end, so that the other files are predicted."""
    name = str(shard.input)
    notes: tuple[str, ...] = ()
    try:
        found = survey(shard.input, shard.text_column, is_text(shard.output))
        notes = found.notes
        refuse_faults(found, shard)
        return ShardEnd(name, predict_file(predictor, shard, found, advance), notes=notes)
    except TenorError as error:
        return ShardEnd(name, None, str(error), notes)
    except OSError as error:
        if (refusal := system_refusal(error)) is None:
            raise
        return ShardEnd(name, None, f"{name}: {refusal}", notes)


@dataclass
class FolderResult:
    """The sum over all files."""

    unlike_texts: UnlikeTexts
    files: int = 0
    resumed_files: int = 0
    """Count of files that an earlier call had completed."""
    rows: int = 0
    resumed: int = 0
    """Count of rows that an earlier call had finished."""
    failed: int = 0
    first_failures: list[str] = field(default_factory=list)
    predicted: Counter[str] = field(default_factory=Counter)
    unsure: int = 0
    faults: list[ShardEnd] = field(default_factory=list)
    """The files that could not be predicted."""

    def add(self, end: ShardEnd, is_resumed: bool = False) -> None:
        """Count one file."""
        self.files += 1
        if end.result is None:
            self.faults.append(end)
            return
        result, name = end.result, Path(end.file).name
        self.resumed_files += is_resumed
        self.rows, self.resumed = self.rows + result.rows, self.resumed + result.resumed
        self.failed, self.unsure = self.failed + result.failed, self.unsure + result.unsure
        self.first_failures += [f"{name}, {one}" for one in result.first_failures[: SHOWN - len(self.first_failures)]]
        self.predicted.update(result.predicted)
        self.unlike_texts.add_record(result.unlike, name)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {
            "files": self.files,
            "resumed_files": self.resumed_files,
            "rows": self.rows,
            "resumed": self.resumed,
            "failed": self.failed,
            "first_failures": self.first_failures,
            "predicted": dict(sorted(self.predicted.items())),
            "unsure": self.unsure,
            "unlike": self.unlike_texts.record(),
            "failed_files": [{"file": end.file, "reason": end.fault} for end in self.faults],
        }

    def fault_message(self) -> str:
        """The files that failed, and why; empty if none did."""
        if not self.faults:
            return ""
        shown = "\n".join(f"  {end.fault}" for end in self.faults[:SHOWN_FAULTS])
        rest = [Path(end.file).name for end in self.faults[SHOWN_FAULTS:]]
        more = f"\n  and {', '.join(rest[:MOST_NAMES])}{', …' if len(rest) > MOST_NAMES else ''}" if rest else ""
        return (
            f"{len(self.faults):,} of {self.files:,} files could not be predicted; the others are complete. Once these "
            f"are fixed, the same command predicts them alone:\n{shown}{more}"
        )


SHOWN_FAULTS, MOST_NAMES = 20, 200


def waiting_shards(shards: Sequence[FileJob], total: FolderResult, note: Callable[[str], None]) -> Iterator[FileJob]:
    """The files that are not complete; those that are, are added to the sum. Raises as `complete_result` does."""
    for shard in shards:
        result, why = complete_result(shard)
        if why:
            note(why)
        if result is None:
            yield shard
        else:
            total.add(ShardEnd(str(shard.input), result), is_resumed=True)
