"""Findings of the watchdog survive an interruption, and a run that it stopped cannot be resumed."""

import json
from pathlib import Path
from typing import Any

import pytest

from same_end import differences
from small_runs import quiet, small_run
from tenor.errors import RefusedError, UserError
from tenor.runs.directory import RunDirectory, list_runs
from tenor.runs.files import read_json
from tenor.runs.manifest import read_manifest
from tenor.runs.step_records import read_records
from tenor.runs.summary import read_summary
from tenor.training.recorder import Recorder
from tenor.workflows.train import RunResult, resume

CLIPPED = ("training.max_grad_norm=0.001", "training.log_every=1")
"""Every gradient is far above the limit: OPT013 says so at the tenth of the run's 12 steps."""

STILL = ("training.learning_rate=1e-12", "checks.policy=stop", "checks.allow.DAT004=few rows")
"""Updates are rounded away: OPT021 stops the run at the second validation, after step 6."""


class Killed(BaseException):
    """As a process that is killed: nothing may catch it and tidy up."""


@pytest.fixture(scope="module")
def whole(small_model: Path, session_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A run with a finding, never interrupted. Read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENOR_CACHE", str(session_cache))
        return small_run(tmp_path_factory.mktemp("whole"), small_model, *CLIPPED)


def found_in(run: RunDirectory, stage: str = "training") -> list[dict[str, Any]]:
    return [f for one in read_json(run.findings)["stages"] if one["stage"] == stage for f in one["findings"]]


def cut(
    folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch, after: int, end: type[BaseException]
) -> RunDirectory:
    """A run that ends when the record of step `after` was written."""
    real = Recorder.record

    def record(self: Recorder, kind: str, step: int, **values: Any) -> None:
        real(self, kind, step, **values)
        if (kind, step) == ("train", after):
            raise end

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "record", record)
        with pytest.raises(BaseException):  # noqa: B017 - the message differs.
            small_run(folder, model, *CLIPPED)
    (run,) = list_runs(folder / "runs")
    return run


@pytest.mark.parametrize("end", [Killed, KeyboardInterrupt])
@pytest.mark.parametrize("after", [5, 10, 11, 12])
def test_a_resumed_run_has_the_findings_of_an_uninterrupted_run(
    after: int,
    end: type[BaseException],
    whole: RunResult,
    small_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert [one["code"] for one in found_in(whole.run)] == ["OPT013"]
    run = cut(tmp_path, small_model, monkeypatch, after, end)
    console = quiet()
    resume("latest", tmp_path / "runs", console)
    assert differences(run, whole.run) == []
    (row,) = read_summary(tmp_path / "runs")
    (other,) = read_summary(whole.run.path.parent.parent)
    assert row.findings == other.findings
    message = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("OPT013" in message) == (after <= 10), "a finding from before the interruption was reported again"


def test_findings_between_checkpoint_and_interruption_are_recorded_once(
    whole: RunResult, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint is of step 8: a finding of step 10 is dropped with its step, and reported again."""
    run = cut(tmp_path, small_model, monkeypatch, 11, Killed)
    for path in sorted(run.checkpoints.iterdir())[-1:]:
        (path / "model.safetensors").unlink()
    resume("latest", tmp_path / "runs", quiet())
    assert [r["step"] for r in read_records(run.metrics) if r["kind"] == "finding"] == [10]
    assert found_in(run) == found_in(whole.run)


def test_a_run_that_the_watchdog_stopped_is_not_resumed(small_model: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="OPT021"):
        small_run(tmp_path, small_model, *STILL)
    (run,) = list_runs(tmp_path / "runs")
    before = {path: path.read_bytes() for path in (run.manifest, run.findings, run.metrics)}
    with pytest.raises(RefusedError, match=r"stopped in training by OPT021 .*checks\.allow\.OPT021="):
        resume("latest", tmp_path / "runs", quiet())
    assert read_manifest(run).status == "refused"
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"loss": ', '"loss": "a", "was": '),
        ('"label_counts": [', '"label_counts": ["a", '),
        ('"grad_norm": ', f'"grad_norm": 1{"0" * 400}, "was": '),
        ('"skipped_steps": 0', '"skipped_steps": "none"'),
        ('"severity": ', '"grade": '),
    ],
)
def test_an_invalid_record_is_reported(
    old: str, new: str, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = cut(tmp_path, small_model, monkeypatch, 12, Killed)
    run.metrics.write_text(run.metrics.read_text().replace(old, new, 1))
    assert json.loads(run.metrics.read_text().splitlines()[0])
    with pytest.raises(UserError, match=r"metrics\.jsonl( contains a|, line 1: is not a) record"):
        resume("latest", tmp_path / "runs", quiet())
