"""A sweep's trials are ordinary runs; a run with an error cannot win; the winning configuration can be trained."""

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest

from small_runs import quiet
from sweeps import write_sweep
from tenor.config.loading import load_config
from tenor.config.sweep import SweepPlan, load_sweep
from tenor.errors import RefusedError, TenorError, UserError
from tenor.runs.directory import RunDirectory, find_run
from tenor.runs.files import read_json
from tenor.runs.manifest import read_manifest
from tenor.runs.missing import is_missing
from tenor.runs.summary import read_summary
from tenor.workflows.sweep.search import SweepResult, join_sweep, run_sweep
from tenor.workflows.sweep.study import open_studies, trials_of

pytestmark = pytest.mark.slow

Planned = Callable[..., SweepPlan]
SECOND_CHOICE = "seed=1"
"""With it the second trial draws the second of two choices; the first tries the configuration's own."""


def swept(plan: SweepPlan, root: Path) -> SweepResult:
    return run_sweep(plan, root, quiet())


@pytest.fixture(scope="module")
def done(small_model: Path, session_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepResult, Path]:
    """The result of a sweep of three trials, and its root."""
    folder = tmp_path_factory.mktemp("done")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENOR_CACHE", str(session_cache))
        return swept(load_sweep(write_sweep(folder, small_model)), folder / "runs"), folder / "runs"


def test_trials_are_traced_runs_and_the_winner_is_ready_to_train(done: tuple[SweepResult, Path]) -> None:
    result, root = done
    plan = result.plan
    assert [trial.status for trial in result.trials] == ["completed"] * 3
    assert result.trials[0].is_base, "the configuration's own values were not among the trials"
    assert len({trial.run for trial in result.trials}) == 3
    rows = {f"{row.config_name}/{row.run_id}": row for row in read_summary(root)}
    for trial in result.trials:
        run = find_run(root, str(trial.run))
        assert read_manifest(run).status == "completed"
        assert run.findings.is_file()
        assert run.report.is_file()
        assert trial.value == read_json(run.evaluation)["val"]["accuracy"]
        assert load_config(run.config) == plan.config("a", trial.tried)
        assert trial.seconds > 0
        is_winner = trial == result.winner
        assert run.checkpoints.exists() == run.model.exists() == is_winner, "the weights of the wrong runs were kept"
        assert is_missing(rows[str(trial.run)].ckpt_path) != is_winner
    assert result.winner.value == max(trial.value or 0 for trial in result.trials)
    winner = load_config(result.config)
    assert winner == plan.config("a", result.winner.tried).model_copy(update={"name": "search-winner"})
    assert result.minutes == pytest.approx(sum(trial.seconds for trial in result.trials) / 60)


def test_the_page_holds_everything_it_shows(done: tuple[SweepResult, Path]) -> None:
    html = done[0].page.read_text(encoding="utf-8")
    shown = unescape(re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL))
    assert "default-src 'none'" in shown
    assert not re.search(r"""(src|href)=["'](?!#|\d{8}-)""", shown), "the page asks for something from outside"
    assert shown.count("<svg") == 2, "history and parallel coordinates"
    assert "estimating importance needs 10" in shown, "an importance of three trials"


def test_a_finished_sweep_continues_with_more_trials(planned: Planned, tmp_path: Path) -> None:
    first = swept(planned("phases.a.trials=1"), tmp_path / "runs")
    more = swept(planned("phases.a.trials=2"), tmp_path / "runs")
    assert more.trials[:1] == first.trials
    assert [trial.status for trial in more.trials] == ["completed"] * 2
    assert swept(planned("phases.a.trials=2"), tmp_path / "runs").trials == more.trials


def test_trials_that_can_t_be_compared_are_not_mixed(planned: Planned, tmp_path: Path) -> None:
    open_studies(planned(), tmp_path / "runs", join=False)
    with pytest.raises(UserError, match=r"another training\.batch_size"):
        swept(planned("set.training.batch_size=4"), tmp_path / "runs")
    with pytest.raises(UserError, match=r"another space\.training\.learning_rate"):
        swept(planned("phases.a.space.training.learning_rate.high=1.0"), tmp_path / "runs")
    open_studies(planned("phases.a.budget_minutes=3", "set.training.threads=2"), tmp_path / "runs", join=True)


def test_other_data_under_the_same_name_are_noticed(planned: Planned, tmp_path: Path) -> None:
    swept(planned("phases.a.trials=1"), tmp_path / "runs")
    train = tmp_path / "train.csv"
    train.write_text(train.read_text(encoding="utf-8").replace("film 7 ", "film 8 "), encoding="utf-8")
    other = swept(planned("phases.a.trials=2"), tmp_path / "runs").trials[1]
    assert other.status == "failed"
    assert "data on this machine differ from those of the study's first trial" in other.reason


@pytest.mark.parametrize("policy", [pytest.param("stop", marks=pytest.mark.slow), "warn"])
def test_a_refused_trial_does_not_win(policy: str, planned: Planned, tmp_path: Path) -> None:
    # Less accuracy is better here, so what learns nothing would win, were it not refused.
    plan = planned(
        f"set.checks.policy={policy}",
        "objective=report.accuracy",
        "direction=minimize",
        "phases.a.space={training.learning_rate: {choices: [3e-3, 0.0]}}",
        "phases.a.trials=2",
        SECOND_CHOICE,
    )
    result = swept(plan, tmp_path / "runs")
    by_rate = {trial.tried["training.learning_rate"]: trial for trial in result.trials}
    assert by_rate[3e-3].status == "completed"
    assert by_rate[0.0].status == "refused"
    assert re.search(r"[A-Z]{3}\d{3} ", by_rate[0.0].reason), "the reason names no rule"
    assert by_rate[0.0].value is None
    assert result.winner.tried["training.learning_rate"] == 3e-3
    if policy == "warn":
        run = RunDirectory(tmp_path / "runs" / str(by_rate[0.0].run))
        assert read_json(run.evaluation)["val"]["accuracy"] <= (result.winner.value or 0), "nothing was at stake"


def test_a_failed_trial_is_recorded_with_its_reason(planned: Planned, tmp_path: Path) -> None:
    plan = planned("phases.a.space={data.max_length: {choices: [16, 4096]}}", "phases.a.trials=2", SECOND_CHOICE)
    result = swept(plan, tmp_path / "runs")
    failed = [trial for trial in result.trials if trial.tried["data.max_length"] == 4096]
    assert failed
    assert all(trial.status == "failed" and "positions" in trial.reason for trial in failed)
    assert result.winner.tried["data.max_length"] == 16


def test_a_sweep_ends_if_every_trial_fails(planned: Planned, tmp_path: Path) -> None:
    plan = planned("set.data.label_column=stars", "phases.a.trials=50")
    with pytest.raises(TenorError, match=r"none of 5 trials.*stars"):
        swept(plan, tmp_path / "runs")
    assert (tmp_path / "runs" / "search" / "sweep.html").is_file()
    assert not (tmp_path / "runs" / "search" / "winner.yaml").exists()


@pytest.mark.parametrize("trials", [2, 50], ids=["all requested", "more than are started"])
def test_a_sweep_whose_every_trial_is_refused_by_a_check_is_refused(
    trials: int, planned: Planned, tmp_path: Path
) -> None:
    # The test split is the training file: DAT013.
    same = f"set.data.test_path={tmp_path / 'train.csv'}"
    plan = planned(same, "set.checks.policy=stop", f"phases.a.trials={trials}")
    with pytest.raises(RefusedError, match="DAT013"):
        swept(plan, tmp_path / "runs")


def test_a_budget_ends_trials_and_starts_no_more(planned: Planned, tmp_path: Path) -> None:
    plan = planned("phases.a.budget_minutes=1e-4", "set.training.evaluate_every=0.5")
    with pytest.raises(TenorError, match="no trial of search completed"):
        swept(plan, tmp_path / "runs")
    (only,) = trials_of(plan, "a", open_studies(plan, tmp_path / "runs", join=True)["a"])
    assert only.status == "pruned"
    assert only.reason == "the phase's 0.0001 minutes were spent"
    assert read_manifest(find_run(tmp_path / "runs", str(only.run))).status == "interrupted"


def test_a_trial_worse_than_the_median_is_pruned(planned: Planned, tmp_path: Path) -> None:
    # Whatever is random, a rate of zero leaves the accuracy at chance, and 3e-3 does not.
    plan = planned(
        "set.training.evaluate_every=0.5",
        "set.training.epochs=2",
        "phases.a.pruner=median",
        "phases.a.sampler=random",
        "phases.a.startup_trials=1",
        "phases.a.space={training.learning_rate: {choices: [3e-3, 0.0]}}",
        "phases.a.trials=2",
        SECOND_CHOICE,
        "objective=loss",
    )
    result = swept(plan, tmp_path / "runs")
    still = [trial for trial in result.trials if trial.tried["training.learning_rate"] == 0.0]
    assert still
    assert all(trial.status in ("pruned", "refused") for trial in still)
    assert result.winner.tried["training.learning_rate"] == 3e-3


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        ("redis://localhost:6379", "no such kind of database"),
        ("sqlite:////no/such/folder/study.db", "unable to open database file"),
    ],
)
def test_an_unusable_storage_is_reported(storage: str, words: str, planned: Planned, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        swept(planned(f"storage={storage}"), tmp_path / "runs")


def test_a_password_is_not_printed(planned: Planned, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        swept(planned("storage=nosuch://user:secret@host/base"), tmp_path / "runs")
    assert "secret" not in str(caught.value)


def test_a_worker_joins_only_an_existing_study(planned: Planned, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no study to join"):
        join_sweep(planned(), tmp_path / "runs", quiet())
    assert not (tmp_path / "runs").exists()
    with pytest.raises(UserError, match="no such study to join"):
        join_sweep(planned(f"storage=sqlite:///{tmp_path / 'empty.db'}"), tmp_path / "runs", quiet())
