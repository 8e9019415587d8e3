"""Write a run's report, and the index of all runs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from tenor.config.schema import Config
from tenor.data.dataset import LabelledText
from tenor.data.sources import read_source
from tenor.data.splits import Splits, data_fingerprint, make_splits, present_splits
from tenor.errors import UserError
from tenor.evaluation.model_card import CARD, model_card
from tenor.evaluation.report.page import run_report
from tenor.evaluation.report.run_content import RunContent, collect_run
from tenor.evaluation.report.runs_index import index_page
from tenor.runs.directory import DEFAULT_ROOT, RunDirectory, find_run
from tenor.runs.files import digest_folder, write_text
from tenor.runs.manifest import Manifest, update_manifest
from tenor.runs.missing import Missing
from tenor.runs.predictions import Predictions
from tenor.runs.summary import FILE_NAME

INDEX = "index.html"


def report(target: str, root: Path = DEFAULT_ROOT, output: Path | None = None) -> Path:
    """Write the report of the run `target`, or the index if it is a folder of runs; returns its path.

    Raises:
        UserError: there is no such run or folder, or the file cannot be written.
    """
    folder = Path(target)
    if _is_root(folder):
        return _write(output or folder / INDEX, index_page(folder))
    run = find_run(root, target)
    if run.adaptation.is_file():
        raise UserError(
            f"{run.reference} is a run of `tenor adapt`, which has no report; its numbers are in {run.adaptation}, its "
            f"curves in {run.metrics}"
        )
    return write_run_report(run, output=output)


def write_run_report(
    run: RunDirectory, rows: Mapping[str, LabelledText] | None = None, output: Path | None = None
) -> Path:
    """Write a run's report from the content of its folder.

    `rows` are its rows by split, if the caller has them; otherwise they are read again with its configuration, and the
    report contains the reason if that is not possible or they changed.
    """
    content = collect_run(run)
    rows_or_reason = rows if rows is not None else rows_again(content)
    return _write(output or run.report, run_report(content, rows_or_reason))


def rewrite(run: RunDirectory) -> None:
    """Write report and model card again after a run's numbers changed.

    The card's counts need the rows: if they cannot be read again, the card is not changed.
    """
    content = collect_run(run)
    rows = rows_again(content)
    _write(run.report, run_report(content, rows))
    if not isinstance(rows, Missing):
        write_card(run, {name: len(split) for name, split in rows.items()})
        update_manifest(run, digests={"model": digest_folder(run.model)})


@contextmanager
def report_at_exit(run: RunDirectory, console: Console) -> Iterator[dict[str, LabelledText]]:
    """Write the run's report however the block ends; the block fills in the rows, by split, as soon as it has them.

    A report that cannot be written is reported on the console, and does not change the status of the run.
    """
    rows: dict[str, LabelledText] = {}
    try:
        yield rows
    finally:
        try:
            write_run_report(run, rows or None)
        except UserError as error:
            console.print(f"the report was not written: {error}", style="yellow", highlight=False, soft_wrap=True)


@contextmanager
def card_at_exit(run: RunDirectory, splits: Splits) -> Iterator[None]:
    """Write the saved model's card after the block, which checks the result: the card states a refusal."""
    try:
        yield
    finally:
        write_card(run, {name: len(rows) for name, rows in present_splits(splits).items()})


def write_card(run: RunDirectory, counts: Mapping[str, int]) -> None:
    """The saved model's card; `counts` are the numbers of rows of each split."""
    write_text(run.model / CARD, str(model_card(collect_run(run), counts)))


def _is_root(folder: Path) -> bool:
    if not folder.is_dir() or (folder / "manifest.json").is_file():
        return False
    return (folder / FILE_NAME).is_file() or any(folder.glob("*/*/manifest.json"))


def _write(path: Path, html: str) -> Path:
    try:
        write_text(path, html)
    except OSError as error:
        raise UserError(f"{path}: can't be written ({error.strerror}); name another file with --output") from error
    return path


def rows_again(content: RunContent) -> Mapping[str, LabelledText] | Missing:
    """A run's rows by split, read again; Missing if that is not possible or they changed."""
    config, manifest = content.config, content.manifest
    if not any(isinstance(one, Predictions) for one in content.predictions.values()):
        return Missing("the run has no predictions")
    if not isinstance(config, Config) or not isinstance(manifest, Manifest):
        return Missing("the run's configuration or manifest can't be read")
    if config.data.source == "given":
        return Missing("the rows were given in Python, and the run has no copy of them")
    try:
        splits = make_splits(read_source(config.data), config.data, config.seed)
    except UserError as error:
        return Missing(f"the data can't be read again: {error}")
    if manifest.fingerprints.get("data") != data_fingerprint(splits):
        return Missing("the data changed since the run: its fingerprint differs")
    return present_splits(splits)
