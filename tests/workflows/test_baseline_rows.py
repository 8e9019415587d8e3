"""The text baseline of very many texts uses a stratified subset, and reports it."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from small_runs import small_config
from tenor.measures.text_baseline import TextBaseline
from tenor.workflows import measure
from tenor.workflows.measure import fit_baselines
from tenor.workflows.prepare import prepare
from tenor.workflows.train import train


def test_all_rows_are_used_below_the_limit(small_model: Path, tmp_path: Path) -> None:
    config = small_config(tmp_path, small_model)
    assert fit_baselines(prepare(config).splits.train, config, tmp_path / "baseline").note == ""


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_a_stratified_subset_is_trained_on_and_reported(
    share: float, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(tmp_path, small_model)
    rows = prepare(config).splits.train
    monkeypatch.setattr(measure, "BASELINE_CHARACTERS", int(sum(map(len, rows.texts)) * share))
    found = fit_baselines(rows, config, tmp_path / "baseline")
    learned = int(re.search(r"subset of (\d+)", found.note)[1])  # type: ignore[index]
    assert learned == pytest.approx(max(2, len(rows) * share), abs=1)
    assert found.note == f"trained on a stratified subset of {learned} of {len(rows)} training rows"
    assert isinstance(found.text, TextBaseline)
    assert found.text.class_frequencies.min() > 0
    assert TextBaseline.load(tmp_path / "baseline").note == found.note


def test_a_run_prints_the_note_on_the_baseline(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "BASELINE_CHARACTERS", 1000)
    console = Console(file=io.StringIO(), width=200)
    train(small_config(tmp_path, small_model), tmp_path / "runs", console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "text baseline: trained on a stratified subset" in shown
