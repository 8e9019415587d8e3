"""How a command ends: the exit status, and one clear message."""

import json
from pathlib import Path

import pytest

from commands import Command
from small_runs import write_config
from tenor.cli import train as train_command
from tenor.cli.main import main
from tenor.config.loading import load_config
from tenor.errors import InterruptedRunError, RefusedError, TenorError
from tenor.runs.directory import RunDirectory
from tenor.runs.summary import SummaryRow, read_summary

ONE_CLASS = '{"test": {"confusion_matrix": [[500, 0], [500, 0]]}}'
SOUND = '{"test": {"confusion_matrix": [[450, 50], [50, 450]]}}'
CHANCE = '{"test": {"confusion_matrix": [[250, 250], [250, 250]]}}'


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "COMMAND"),
        (("tain",), "tain"),
        (("train",), "give exactly one of: CONFIG"),
        (("train", "smoke", "--resume", "latest"), "give exactly one of: CONFIG"),
        (("train", "smok"), "smoke"),
        (("train", "nowhere.yaml"), "nowhere.yaml"),
        (("train", "smoke", "training.epoch=3"), "training.epochs"),
        (("train", "smoke", "training.epochs=three"), "training.epochs"),
        (("train", "smoke", "training.epochs=0"), "training.epochs"),
        (("train", "smoke", "training.epochs"), "training.epochs"),
        (("train", "smoke", "--epochs", "3"), "--epochs"),
        (("train", "smoke", "data.path=my.csv"), "data.source 'embedded' does not read it"),
        (("train", "smoke", "checks.allow.XYZ=on purpose"), "checks.allow.XYZ: there is no such rule"),
        (("check", "smoke", "checks.allow.XYZ=on purpose"), "checks.allow.XYZ: there is no such rule"),
        (("check", "smoke", "training.trackers=[swanlab]"), "swanlab is not installed"),
        (("train", "--resume", "latest"), "contains no run"),
        (("train", "--resume", "2020"), "2020"),
        (("evaluate", "latest"), "contains no run"),
        (("evaluate", "latest", "--split", "dev"), "dev"),
        (("experiments",), "CONFIG"),
        (("experiments", "smoke", "smok"), "smoke"),
        (("experiments", "smoke", "--set", "training.epoch=3"), "training.epochs"),
        (("runs", "--prune", "-1"), "--prune -1"),
        (("runs", "--prune", "many"), "many"),
        (("configs", "smok"), "smoke"),
        (("report",), "RUN|FOLDER"),
        (("report", "latest"), "contains no run"),
        (("report", "."), "manifest.json"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_ends_with_2_and_one_message(
    arguments: tuple[str, ...], words: str, command: Command, tmp_path: Path
) -> None:
    ended = command(*arguments)
    assert ended.status == 2
    assert ended.out == ""
    assert words in ended.err
    assert not list(tmp_path.glob("runs/*/*")), "a run was begun"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.path=nowhere.csv", "nowhere.csv"),
        ("data.text_column=body", "'review'"),
        ("data.class_names=[bad, great]", "good"),
        ("model.name=./no-model", "no-model"),
        ("data.subset.size=1000", "44"),
        ("training.device=mps", "available"),
    ],
)
def test_input_that_can_t_be_used_ends_with_2_and_writes_nothing(
    override: str, words: str, command: Command, small_model: Path, tmp_path: Path
) -> None:
    if override.startswith("training.device"):
        import torch

        if torch.backends.mps.is_available():
            pytest.skip("there is such a device here")
    config = write_config(tmp_path, small_model)
    ended = command("train", str(config), override)
    assert ended.status == 2
    assert words in ended.message
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("review,verdict\n", "train.csv"),
        ("", "train.csv"),
        ("review,verdict\nfilm,\n", "train.csv"),
    ],
)
def test_a_broken_data_file_is_named(
    content: str, words: str, command: Command, small_model: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path, small_model)
    (tmp_path / "train.csv").write_text(content)
    ended = command("train", str(config))
    assert ended.status == 2
    assert words in ended.message


@pytest.mark.parametrize("content", ["name: [", "- a list", "", "name: x\nname: y"])
def test_an_invalid_configuration_is_reported_in_one_message(content: str, command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(content)
    ended = command("train", "mine.yaml")
    assert ended.status == 2
    assert "mine.yaml" in ended.message


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TenorError("it failed"), 1),
        (RefusedError("DAT001"), 3),
        (InterruptedRunError("SIGTERM after step 3"), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_the_exit_status_tells_how_it_ended(
    error: BaseException, status: int, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tenor.workflows import train as workflow

    def end(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(workflow, "train", end)
    ended = command("train", "smoke")
    assert ended.status == status
    assert ended.message.strip()


@pytest.mark.parametrize("as_json", [False, True])
def test_evaluate_ends_with_3_on_an_error_and_keeps_the_result(
    as_json: bool, copied: RunDirectory, command: Command, tmp_path: Path
) -> None:
    own = str(load_config(copied.config).data.path)
    arguments = ("evaluate", "latest", "--input", own, *(("--json",) if as_json else ()))
    ended = command(*arguments, "--output", str(tmp_path / "kept"))
    assert ended.status == 3
    assert "EVL016 (Evaluated rows were in training)" in ended.message
    assert "checks.allow.EVL016=" in ended.message
    stored = json.loads((tmp_path / "kept" / "evaluation.json").read_text(encoding="utf-8"))
    errors = [finding["code"] for finding in stored["findings"] if finding["severity"] == "error"]
    assert errors == ["EVL016"]
    assert (tmp_path / "kept" / "report.html").is_file()
    if as_json:
        assert json.loads(ended.out)["findings"] == stored["findings"]


@pytest.mark.parametrize(
    ("overrides", "allowed"),
    [(("--exit-zero",), ""), (("checks.allow.EVL016=on purpose",), "on purpose")],
)
def test_an_error_that_is_accepted_ends_evaluate_with_0(
    overrides: tuple[str, ...], allowed: str, copied: RunDirectory, command: Command
) -> None:
    own = str(load_config(copied.config).data.path)
    ended = command("evaluate", "latest", "--input", own, "--json", *overrides)
    assert ended.status == 0
    (finding,) = [one for one in json.loads(ended.out)["findings"] if one["code"] == "EVL016"]
    assert (finding["severity"], finding["allowed"]) == ("error", allowed)


def test_evaluate_without_an_error_ends_with_0(copied: RunDirectory, command: Command) -> None:
    assert command("evaluate", "latest").status == 0
    assert command("evaluate", "latest", "--split", "train").status == 0


def test_evaluate_refuses_a_rule_that_does_not_exist(copied: RunDirectory, command: Command) -> None:
    ended = command("evaluate", "latest", "checks.allow.EVL999=why")
    assert (ended.status, ended.out) == (2, "")
    assert "checks.allow.EVL999: there is no such rule" in ended.message


@pytest.mark.parametrize(
    ("policy", "train", "check"), [("stop", 3, 3), ("warn", 0, 0)], ids=["errors stop", "errors are recorded"]
)
def test_check_and_train_end_with_3_where_errors_stop(
    policy: str, train: int, check: int, command: Command, small_model: Path, tmp_path: Path
) -> None:
    """The test split is the training file: DAT013."""
    config = write_config(tmp_path, small_model)
    same = (f"data.test_path={tmp_path / 'train.csv'}", f"checks.policy={policy}", "training.epochs=1")
    checked = command("check", str(config), *same, "--json")
    assert checked.status == check
    assert "DAT013" in [finding["code"] for finding in json.loads(checked.out)["findings"]]
    assert command("train", str(config), *same).status == train


@pytest.mark.parametrize(
    ("broken", "status"),
    [((), 0), (("refused",), 3), (("refused", "refused"), 3), (("refused", "failed"), 1), (("failed",), 1)],
)
def test_experiments_and_seeds_end_with_3_where_all_that_stopped_was_refused(
    broken: tuple[str, ...], status: int, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses = [*broken, *("completed" for _ in range(2 - len(broken)))]
    none = {"missing": "a test"}
    rows = [SummaryRow(str(k), "smoke", {"seed": k}, one, 1.0, none, none, none) for k, one in enumerate(statuses)]
    monkeypatch.setattr("tenor.workflows.experiments.run_experiments", lambda *arguments: rows)
    monkeypatch.setattr("tenor.workflows.experiments.train_seeds", lambda *arguments: rows)
    assert command("experiments", "smoke", "smoke").status == status
    assert command("train", "smoke", "--seeds", "2").status == status


def test_a_failed_run_ends_with_1(
    command: Command, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tenor.training import checkpoint

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    ended = command("train", str(write_config(tmp_path, small_model)))
    assert ended.status == 1
    assert "No space left" in ended.message
    (row,) = read_summary(tmp_path / "runs")
    assert row.status == "failed"


@pytest.mark.parametrize(
    ("content", "severities", "status"),
    [(ONE_CLASS, {"error", "warning"}, 3), (CHANCE, {"warning"}, 0), (SOUND, set(), 0), ("[", set(), 2)],
    ids=["an error", "a warning", "nothing", "unreadable"],
)
def test_a_diagnosis_with_an_error_ends_with_3(
    content: str, severities: set[str], status: int, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "evaluation.json").write_text(content)
    shown, printed = command("diagnose", "evaluation.json"), command("diagnose", "evaluation.json", "--json")
    assert (shown.status, printed.status) == (status, status)
    if status != 2:
        assert {finding["severity"] for finding in json.loads(printed.out)["findings"]} == severities


@pytest.mark.parametrize(("reason", "status"), [("", 3), ("a smoke test", 0)])
def test_an_error_that_was_allowed_in_the_run_does_not_end_its_diagnosis_with_3(
    reason: str, status: int, command: Command, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "eval_best_model.json").write_text(ONE_CLASS)
    (run / "config.yaml").write_text(json.dumps({"checks": {"allow": {"EVL001": reason} if reason else {}}}))
    ended = command("diagnose", "run")
    assert ended.status == status
    assert ("a smoke test" in ended.out) == bool(reason)


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(options: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(train_command, "run", defect)
    with pytest.raises(ZeroDivisionError):
        main(["train", "smoke"])


@pytest.mark.parametrize("command_line", [("diagnose", "evaluation.json"), ("diagnose", "evaluation.json", "--json")])
def test_exit_zero_changes_the_status_and_nothing_else(
    command_line: tuple[str, ...], command: Command, tmp_path: Path
) -> None:
    (tmp_path / "evaluation.json").write_text(ONE_CLASS)
    strict, lenient = command(*command_line), command(*command_line, "--exit-zero")
    assert (strict.status, lenient.status) == (3, 0)
    assert strict.out == lenient.out
