"""An unknown rule or a missing tracker is reported before anything is read, and no file is left."""

from pathlib import Path

import pytest

from small_runs import quiet, small_config, write_config
from tenor.checks.catalogue import BY_CODE
from tenor.config.schema import Checks, Config, Training
from tenor.errors import UserError
from tenor.training.recorder import missing_trackers
from tenor.workflows import prepare as prepare_module
from tenor.workflows.check import check
from tenor.workflows.experiments import run_experiments, train_seeds
from tenor.workflows.prepare import require_available
from tenor.workflows.train import train

WRONG = ("checks.allow.XYZ=as meant", "checks.allow.dat001=as meant", "training.trackers=[swanlab, tensorboard]")
TOLD = """\
small: 3 problems in the configuration
  checks.allow.XYZ: there is no such rule; expected a rule's code, such as DAT001
  checks.allow.dat001: there is no such rule; did you mean DAT001?
  training.trackers: swanlab is not installed; install it or leave it out
"""


@pytest.fixture
def nothing_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a configuration's rows are read."""

    def refuse(*arguments: object) -> None:
        raise AssertionError("rows were read first")

    monkeypatch.setattr(prepare_module, "read_source", refuse)


@pytest.mark.usefixtures("nothing_read")
def test_train_and_check_report_all_problems_before_reading_data(small_model: Path, tmp_path: Path) -> None:
    config = small_config(tmp_path, small_model, *WRONG)
    for job in (lambda: train(config, tmp_path / "runs", quiet()), lambda: check(config)):
        with pytest.raises(UserError) as caught:
            job()
        assert str(caught.value).startswith(TOLD)
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("nothing_read")
def test_experiments_report_problems_before_the_first_run(small_model: Path, tmp_path: Path) -> None:
    sound, wrong = write_config(tmp_path / "a", small_model), write_config(tmp_path / "b", small_model)
    wrong.write_text(wrong.read_text() + "  allow: {DAT0001: as meant}\n")
    with pytest.raises(UserError, match=r"checks\.allow\.DAT0001: .* did you mean DAT001\?"):
        run_experiments([str(sound), str(wrong)], [], tmp_path / "runs", quiet())
    with pytest.raises(UserError, match="swanlab"):
        train_seeds(small_config(tmp_path, small_model, *WRONG), 2, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_every_rule_can_be_allowed_and_default_trackers_are_installed() -> None:
    require_available(Config(checks=Checks(allow=dict.fromkeys(BY_CODE, "as meant"))))
    assert missing_trackers(Training().trackers) == []
    assert missing_trackers(()) == []
