"""Training rows are recognized in every command that shows results on them."""

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from report_runs import Page
from small_runs import nulls, quiet, small_config, write_csv
from tenor.checks.finding import Finding
from tenor.config.schema import Config
from tenor.console.comparison import show_comparison
from tenor.console.run import show_evaluation
from tenor.data import from_dataframe
from tenor.data.dataset import LabelledText
from tenor.data.sources import read_source
from tenor.data.splits import Splits, make_splits
from tenor.evaluation.formatting import percent
from tenor.runs.directory import RunDirectory
from tenor.runs.files import read_json
from tenor.runs.missing import Missing
from tenor.runs.text_keys import read_text_keys
from tenor.workflows.compare import compare, comparison_record
from tenor.workflows.evaluate import EvaluationResult, evaluate, evaluation_record, keep_evaluation
from tenor.workflows.export import export
from tenor.workflows.train import RunResult, train

Row = tuple[str, str]


def write_rows(path: Path, rows: Sequence[Row]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("review", "verdict"), *rows])
    return path


def new_rows(count: int, start: int = 300) -> list[Row]:
    """Rows that no split of the run has, all of five words or more."""
    return [(f"film {k} was awful and scene {k}", "bad" if k % 3 else "good") for k in range(start, start + count)]


@pytest.fixture(scope="module")
def splits(completed: RunResult) -> Splits:
    return make_splits(read_source(completed.config.data), completed.config.data, completed.config.seed)


@pytest.fixture(scope="module")
def known(splits: Splits) -> dict[str, list[Row]]:
    """The run's own rows whose texts have five words or more, by split."""
    found = {}
    for name, rows in (("train", splits.train), ("validation", splits.validation)):
        pairs = zip(rows.texts, rows.labels.tolist(), strict=True)
        found[name] = [(text, rows.class_names[label]) for text, label in pairs if len(text.split()) >= 5]
    return found


def measured(run: RunDirectory, folder: Path, rows: Sequence[Row]) -> EvaluationResult:
    return evaluate(str(run.path), console=quiet(), file=write_rows(folder / "rows.csv", rows))


def overlap_finding(found: EvaluationResult) -> Finding | None:
    assert not isinstance(found.checks, Missing)
    return next((one for one in found.checks.findings if one.code == "EVL016"), None)


def shown(found: EvaluationResult) -> str:
    console = quiet()
    show_evaluation(console, found)
    return " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]


def test_the_run_s_own_file_is_recognized(completed: RunResult, tmp_path: Path) -> None:
    found = evaluate(str(completed.run.path), console=quiet(), file=Path(str(completed.config.data.path)))
    record = evaluation_record(found)
    assert record["overlap"]["rows_in_train"] == 44
    assert record["overlap"]["rows_in_validation"] == 16
    assert "every row" in record["overlap"]["other_rows"]["missing"]
    finding = overlap_finding(found)
    assert finding is not None
    assert (finding.severity, finding.n) == ("error", 60)
    assert "EVL016" in [one["code"] for one in record["findings"]]
    assert nulls(record) == []
    text = shown(found)
    assert "error EVL016" in text
    assert "of 60 rows, 44 have a text of the run's training split (73.3%), 16 more one of its validation split" in text
    assert "there are no other rows" in text


def test_rows_without_overlap_are_also_measured_separately(
    completed: RunResult, known: dict[str, list[Row]], tmp_path: Path
) -> None:
    new = new_rows(30)
    found = measured(completed.run, tmp_path, [*known["train"][:10], *new, *known["validation"][:4]])
    alone = measured(completed.run, tmp_path, new)
    record = evaluation_record(found)
    assert (record["overlap"]["rows_in_train"], record["overlap"]["rows_in_validation"]) == (10, 4)
    others, expected = record["overlap"]["other_rows"], evaluation_record(alone)["result"]
    assert (others["n"], others["accuracy"]) == (30, pytest.approx(expected["accuracy"]))
    assert others["accuracy_interval"] == pytest.approx(expected["accuracy_interval"])
    assert record["result"]["n"] == 44
    assert evaluation_record(alone)["overlap"]["other_rows"] == {name: others[name] for name in others}
    text = shown(found)
    assert "rows new to the run, n = 30" in text
    assert "n = 44" in text
    # The figure on all rows never stands alone.
    assert "test, 10 of 44 rows trained on" in text
    assert "trained on" not in shown(alone)
    folder = keep_evaluation(found, record, tmp_path / "kept")
    stored = read_json(folder / "evaluation.json")
    assert (stored["overlap"], stored["findings"]) == (record["overlap"], json.loads(json.dumps(record["findings"])))
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert f"accuracy on the other 30: {percent(others['accuracy'])}" in page.text
    assert "Evaluated rows were in training" in page.text


@pytest.mark.parametrize(
    ("split", "count", "severity"),
    [("train", 1, "warning"), ("train", 2, "error"), ("validation", 9, "warning"), ("train", 0, None)],
)
def test_severity_depends_on_the_overlapping_share(
    split: str, count: int, severity: str | None, completed: RunResult, known: dict[str, list[Row]], tmp_path: Path
) -> None:
    found = measured(completed.run, tmp_path, [*known[split][:count], *new_rows(38 - count)])
    finding = overlap_finding(found)
    assert (finding and finding.severity) == severity


def test_short_texts_that_anyone_writes_are_a_note(
    completed: RunResult, splits: Splits, known: dict[str, list[Row]], tmp_path: Path
) -> None:
    long = {text for text, _ in known["train"]}
    short = [(text, "bad") for text in splits.train.texts if text not in long][:3]
    finding = overlap_finding(measured(completed.run, tmp_path, [*short, *new_rows(30)]))
    assert finding is not None
    assert finding.severity == "note"


def test_what_other_programs_change_in_a_text_hides_nothing(
    completed: RunResult, known: dict[str, list[Row]], tmp_path: Path
) -> None:
    for copy in ("  {}\t\n", "<p>{}</p>", "“{}”", "{}!!", "&nbsp;{}<br />"):
        copied = [(copy.format(text.title()), label) for text, label in known["train"]]
        found = measured(completed.run, tmp_path, copied)
        assert evaluation_record(found)["overlap"]["rows_in_train"] == len(copied), copy


@pytest.mark.parametrize("split", ["test", "validation"])
def test_the_run_s_own_held_out_splits_give_no_finding(split: str, completed: RunResult) -> None:
    found = evaluate(str(completed.run.path), split=split, console=quiet())
    assert overlap_finding(found) is None
    assert evaluation_record(found)["overlap"]["rows_in_train"] == 0


def test_a_requested_training_split_is_not_checked(completed: RunResult) -> None:
    found = evaluate(str(completed.run.path), split="train", console=quiet())
    assert isinstance(found.checks, Missing)
    record = evaluation_record(found)
    assert record["overlap"]["rows_in_train"] == 44
    assert "not trained on" in record["findings"]["missing"]


def test_rows_are_recognized_when_the_data_are_gone(completed: RunResult, copied: RunDirectory, tmp_path: Path) -> None:
    config = copied.config.read_text(encoding="utf-8")
    copied.config.write_text(config.replace("train.csv", "gone.csv").replace("test.csv", "gone.csv"), encoding="utf-8")
    moved = Path(shutil.copy(str(completed.config.data.path), tmp_path / "moved.csv"))
    found = evaluate(str(copied.path), console=quiet(), file=moved)
    assert evaluation_record(found)["overlap"]["rows_in_train"] == 44


def test_rows_of_a_dataframe_are_recognized(small_model: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(write_csv(tmp_path / "own.csv", 60))
    config = small_config(tmp_path / "run", small_model, "training.epochs=1", "evaluation.text_baseline=false")
    result = train(config, tmp_path / "runs", quiet(), data=from_dataframe(frame, "review", "verdict"))
    found = evaluate(
        str(result.run.path),
        ["data.text_column=review", "data.label_column=verdict"],
        console=quiet(),
        file=tmp_path / "own.csv",
    )
    assert evaluation_record(found)["overlap"]["rows_in_train"] == 44


@pytest.mark.parametrize("content", [None, b"not safetensors"])
def test_a_run_without_keys_says_that_nothing_was_compared_and_why(
    content: bytes | None, completed: RunResult, copied: RunDirectory
) -> None:
    copied.text_keys.unlink() if content is None else copied.text_keys.write_bytes(content)
    found = evaluate(str(copied.path), console=quiet(), file=Path(str(completed.config.data.path)))
    assert isinstance(found.overlap, Missing)
    assert "text_keys.safetensors" in evaluation_record(found)["overlap"]["missing"]
    assert overlap_finding(found) is None
    assert not isinstance(found.checks, Missing)
    assert next(one.reason for one in found.checks.not_applicable if one.code == "EVL016") == found.overlap.reason
    assert "not compared with the run's own rows" in shown(found)


def test_the_keys_contain_no_text(completed: RunResult, splits: Splits) -> None:
    content = completed.run.text_keys.read_bytes()
    assert not [text for text in splits.train.texts if text.encode() in content]
    assert len(read_text_keys(completed.run.text_keys)["train"]) == len({text.strip() for text in splits.train.texts})


def test_a_comparison_names_the_run_that_was_trained_on_its_rows(
    completed: RunResult, small_model: Path, tmp_path: Path
) -> None:
    """The second run learned from the first one's test rows as well."""
    own, test = Path(str(completed.config.data.path)), Path(str(completed.config.data.test_path))
    both = tmp_path / "both.csv"
    both.write_text(own.read_text() + test.read_text().partition("\n")[2])
    config = small_config(
        tmp_path / "other", small_model, f"data.path={both}", f"data.test_path={test}", "training.epochs=1"
    )
    other = train(config, tmp_path / "runs", quiet())
    expected = int(np.isin(list(read_source(config.data).test.texts), list(_train(config).texts)).sum())
    assert expected > 5
    found = compare(completed.run, other.run)
    record = comparison_record(found)
    assert record["rows_in_train"] == {"first": 0, "second": expected}
    console = quiet()
    show_comparison(console, found)
    text = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert f"{expected} of these 20 rows are training texts of {other.run.reference}" in text
    assert f"training text of {completed.run.reference}" not in text


def test_an_export_says_how_many_of_its_rows_were_in_training(completed: RunResult, tmp_path: Path) -> None:
    own = Path(str(completed.config.data.path))
    done = export(str(completed.run.path), tmp_path / "out", "safetensors", console=quiet(), file=own)
    assert done.checked.rows_in_train == 44
    assert read_json(done.folder / "export.json")["checked"]["rows_in_train"] == 44
    columns = ("data.text_column=review", "data.label_column=verdict")
    again = export(str(done.folder), tmp_path / "again", "safetensors", console=quiet(), file=own, overrides=columns)
    assert "not a run" in read_json(again.folder / "export.json")["checked"]["rows_in_train"]["missing"]


def _train(config: Config) -> LabelledText:
    return make_splits(read_source(config.data), config.data, config.seed).train
