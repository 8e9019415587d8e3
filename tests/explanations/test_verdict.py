"""When explanations are shown: only with a successful test of the same weights."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tenor.errors import UserError
from tenor.explanations.verdict import explanations_place, read_verdict, run_of_model, verdict_of
from tenor.runs.directory import RunDirectory
from tenor.runs.explanations import EXPLANATIONS, as_record, read_explanations, write_explanations

DELETION = {
    "rows": 200,
    "deleted_words": 9.5,
    "important": 0.31,
    "random": 0.07,
    "difference": 0.24,
    "low": 0.2,
    "high": 0.28,
    "confidence": 0.95,
}
RECORD: dict[str, Any] = {
    "digest": "d" * 64,
    "weights_sha256": "5" * 64,
    "at": "2026-11-29T00:00:00+00:00",
    "origin": "test.csv",
    "split": "test",
    "rows_available": 2000,
    "seconds": 80.0,
    "settings": {"method": "m", "steps": 20, "most_steps": 160, "share": 0.1, "random_draws": 5, "seed": 0},
    "deletion": DELETION,
    "gap": 0.01,
    "words": [{"term": "great", "label": "positive", "mean": 1.2, "count": 9, "rows": 8}],
    "pairs": [],
    "shortcuts": {"missing": "none"},
    "labelled": "2,000 rows: train",
}


def record(**changes: Any) -> Any:
    return as_record({**RECORD, **changes})


def test_a_successful_test() -> None:
    verdict = verdict_of(record())
    assert verdict.shown
    assert "0.310" in verdict.why
    assert "as many random words by 0.070" in verdict.why
    assert "200 test rows" in verdict.why
    assert "95% CI of the difference +0.200 to +0.280" in verdict.why


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"deletion": {**DELETION, "low": 0.0}}, "no better than random words"),
        ({"deletion": {**DELETION, "difference": 0.004, "low": 0.001}}, "hardly move"),
        ({"deletion": {"missing": "12 rows are too few"}}, "not tested: 12 rows"),
    ],
    ids=["random", "tiny", "missing"],
)
def test_explanations_that_are_not_shown(changes: dict[str, Any], why: str) -> None:
    verdict = verdict_of(record(**changes))
    assert not verdict.shown
    assert why in verdict.why


def test_a_verdict_is_read_from_the_run(copied: RunDirectory, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    before = read_verdict(copied.path, root, "d" * 64)
    assert not before.shown
    assert f"tenor explain {copied.path}" in before.why
    write_explanations(copied.path / EXPLANATIONS, record())
    for reference in (copied.path, copied.reference, copied.run_id, copied.model):
        assert read_verdict(reference, root, "d" * 64).shown
    other = read_verdict(copied.path, root, "e" * 64)
    assert not other.shown
    assert "other weights" in other.why


def test_a_damaged_file_is_not_a_verdict(copied: RunDirectory, tmp_path: Path) -> None:
    path = copied.path / EXPLANATIONS
    write_explanations(path, record())
    path.write_text(path.read_text().replace('"low": 0.2,', '"low": "x",'))
    with pytest.raises(UserError, match=r"deletion.*make it again: tenor explain RUN"):
        read_explanations(path)
    verdict = read_verdict(copied.path, tmp_path / "runs", "d" * 64)
    assert not verdict.shown
    assert "explanations.json" in verdict.why


def test_a_model_without_a_run_keeps_its_test_in_the_cache(
    copied: RunDirectory, tmp_path: Path, own_cache: Path
) -> None:
    folder = Path(shutil.copytree(copied.model, tmp_path / "elsewhere"))
    assert run_of_model(folder, tmp_path / "runs") is None
    place = explanations_place(folder, tmp_path / "runs", "d" * 64)
    assert place.is_relative_to(own_cache)
    write_explanations(place, record())
    assert read_verdict(folder, tmp_path / "runs", "d" * 64).shown
    assert not read_verdict(folder, tmp_path / "runs", "e" * 64).shown


def test_a_record_survives_writing(tmp_path: Path) -> None:
    errors = {"test": [{"id": "1", "label": "positive", "characters": 5, "spans": [[0, 5]], "values": [0.5]}]}
    written = record(errors=errors)
    write_explanations(tmp_path / EXPLANATIONS, written)
    assert read_explanations(tmp_path / EXPLANATIONS) == written


def test_spans_without_values_are_refused() -> None:
    broken = {"id": "1", "label": "positive", "characters": 5, "spans": [[0, 5]], "values": []}
    with pytest.raises(ValueError, match="1 spans and 0 values"):
        record(errors={"test": [broken]})
