"""No label where the model is less sure than asked for, and nothing else changed."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tenor.errors import UserError
from tenor.inference import file_job
from tenor.inference.file_job import FileJob, FileResult, predict_file, survey
from tenor.inference.predictor import Predictor
from tenor.measures.selective import answered_above
from tenor.runs.model_notes import Threshold

TEXTS = [" ".join(("film", "was", "superb", "dull", "scene")[k % 5 :]) + f" movie {k}" for k in range(40)]


def written(predictor: Predictor, folder: Path, suffix: str, below: float) -> tuple[FileResult, list[dict[str, str]]]:
    """The result and the rows of a file's prediction; one row can't be predicted."""
    source = folder / "in.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*TEXTS, ""]), encoding="utf-8")
    job = FileJob(source, folder / f"out-{below}{suffix}", on_error="null", abstain_below=below)
    result = predict_file(predictor, job, survey(source, "text"))
    if suffix == ".csv":
        with open(job.output, newline="", encoding="utf-8") as file:
            return result, list(csv.DictReader(file))
    rows = pq.read_table(job.output).to_pylist()
    return result, [{name: "" if value is None else value for name, value in row.items()} for row in rows]


def a_level(predictor: Predictor) -> float:
    """Half of the texts are surer."""
    return float(np.median(predictor.probabilities(TEXTS).max(axis=1)))


def test_the_sure_keep_their_labels_and_all_their_probabilities(small_predictor: Predictor) -> None:
    below = a_level(small_predictor)
    before, after = small_predictor.predict(TEXTS), small_predictor.predict(TEXTS, abstain_below=below)
    assert [replace(one, label="") for one in before] == [replace(one, label="") for one in after]
    assert [one.label for one in after] == [one.label if one.probability >= below else "" for one in before]
    answered = answered_above(small_predictor.probabilities(TEXTS), np.zeros(len(TEXTS), np.int64), below).answered
    assert 0 < answered == sum(bool(one.label) for one in after) < len(TEXTS), "what tenor evaluate would count"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_has_the_same_rows_with_empty_predictions(
    suffix: str, small_predictor: Predictor, tmp_path: Path
) -> None:
    below = a_level(small_predictor)
    plain, before = written(small_predictor, tmp_path, suffix, 0.0)
    result, after = written(small_predictor, tmp_path, suffix, below)
    assert [{**row, "prediction": ""} for row in before] == [{**row, "prediction": ""} for row in after]
    expected = [one.label for one in small_predictor.predict(TEXTS, abstain_below=below)]
    assert [row["prediction"] for row in after] == [*expected, ""]
    assert (plain.unsure, result.unsure, result.failed) == (0, expected.count(""), 1)
    assert sum(result.predicted.values()) + result.unsure + result.failed == result.rows


def test_a_job_that_was_cut_goes_on_with_the_same_level_only(
    small_predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(file_job, "write_output", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            written(small_predictor, tmp_path, ".csv", 0.0)
    job = FileJob(tmp_path / "in.jsonl", tmp_path / "out-0.0.csv", on_error="null", abstain_below=0.6)
    with pytest.raises(UserError, match="abstain_below"):
        predict_file(small_predictor, job, survey(job.input, "text"))


def test_a_threshold_and_what_is_no_probability_are_refused(small_predictor: Predictor, tmp_path: Path) -> None:
    threshold = Threshold(small_predictor.labels[1], 0.3, "precision", 0.9)
    decided = replace(small_predictor, source=replace(small_predictor.source, threshold=threshold))
    assert len(decided.predict(TEXTS)) == len(TEXTS)
    with pytest.raises(UserError, match="--ignore-threshold"):
        decided.predict(TEXTS, abstain_below=0.9)
    with pytest.raises(UserError, match="--ignore-threshold"):
        written(decided, tmp_path, ".csv", 0.9)
    for below in (-0.1, 1.1, float("nan")):
        with pytest.raises(UserError, match="from 0 to 1"):
            small_predictor.predict(TEXTS, abstain_below=below)
