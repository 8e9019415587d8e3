"""Several seeds of one configuration: each is an ordinary run; mean and spread over them."""

from pathlib import Path
from statistics import mean, stdev

import pytest

from small_runs import nulls, quiet, small_config
from tenor.errors import TenorError, UserError
from tenor.runs.directory import RunDirectory
from tenor.runs.manifest import read_manifest
from tenor.runs.summary import SummaryRow
from tenor.workflows import experiments
from tenor.workflows.experiments import seeds_record, seeds_table, spreads, train_seeds

pytestmark = pytest.mark.slow

SHORT = ("training.epochs=1", "evaluation.text_baseline=false")


def _shown(rows: list[SummaryRow]) -> str:
    console = quiet()
    console.print(seeds_table(rows))
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_the_spread_is_that_of_ordinary_runs_with_consecutive_seeds(small_model: Path, tmp_path: Path) -> None:
    config = small_config(tmp_path, small_model, *SHORT)
    rows = train_seeds(config, 2, tmp_path / "runs")
    assert [row.config["seed"] for row in rows] == [34, 35]
    for row in rows:
        manifest = read_manifest(RunDirectory(tmp_path / "runs" / row.config_name / row.run_id))
        assert (manifest.status, manifest.seed) == ("completed", row.config["seed"])
    for split, metrics in (("test", [row.test_metrics for row in rows]), ("validation", [r.val_metrics for r in rows])):
        found = spreads(rows)[split]["accuracy"]
        values = [one["accuracy"] for one in metrics]
        assert (found.n, found.mean, found.deviation) == (2, mean(values), stdev(values))
    assert nulls({**seeds_record(rows), "runs": []}) == []
    shown = _shown(rows)
    assert "n = 2" in shown
    assert "training and validation rows" in shown


def test_a_failed_seed_is_reported_and_the_others_count(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = experiments.train

    def fragile(config: object, *rest: object) -> object:
        if config.seed == 34:  # type: ignore[attr-defined]
            monkeypatch.setattr("tenor.workflows.train.run_preflight", _fail)
        else:
            monkeypatch.undo()
        return real(config, *rest)  # type: ignore[arg-type]

    def _fail(prepared: object) -> object:
        raise TenorError("a defect of the first")

    monkeypatch.setattr(experiments, "train", fragile)
    rows = train_seeds(small_config(tmp_path, small_model, *SHORT), 2, tmp_path / "runs")
    assert [row.status for row in rows] == ["failed", "completed"]
    one = spreads(rows)["test"]["accuracy"]
    assert (one.n, one.deviation) == (1, None)
    assert "missing" in str(seeds_record(rows)["summary"]["test"]["accuracy"]["deviation"])
    assert "a defect of the first" in _shown(rows)


def test_without_a_completed_run_there_is_no_mean() -> None:
    row = SummaryRow("id", "name", {"seed": 1}, "failed", error="it failed")
    assert spreads([row]) == {}
    assert "it failed" in _shown([row])


def test_one_seed_has_no_spread(small_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="2 or more"):
        train_seeds(small_config(tmp_path, small_model), 1, tmp_path / "runs")
