"""The command line: exit statuses, one clear message, JSON on stdout and everything else on stderr."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import tenor
from small_runs import write_config
from tenor.cli import train as train_command
from tenor.cli.main import main
from tenor.config import builtin_names, load_config
from tenor.errors import InterruptedRunError, RefusedError, TenorError
from tenor.runs.directory import RunDirectory, list_runs
from tenor.runs.files import read_json
from tenor.runs.manifest import read_manifest
from tenor.runs.summary import read_summary
from tenor.workflows.train import RunResult

SHORT = ["training.epochs=1", "evaluation.text_baseline=false"]


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """What follows `tenor: `, the only message of its kind."""
        _, found, message = self.err.partition("tenor: ")
        assert found, self.err
        assert "tenor: " not in message
        return message


Command = Callable[..., Ended]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `tenor …` in an empty folder; a traceback fails the test."""
    monkeypatch.chdir(tmp_path)
    # Where a terminal's capabilities are read from the environment, the answer should not be one.
    monkeypatch.setenv("TERM", "dumb")

    def run(*arguments: str) -> Ended:
        capsys.readouterr()
        try:
            status = main(arguments)
        except SystemExit as exit:  # argparse's own
            status = int(exit.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Ended(status, out, err)

    return run


# Wrong usage.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "COMMAND"),
        (("tain",), "tain"),
        (("train",), "give a CONFIG"),
        (("train", "smoke", "--resume", "latest"), "give a CONFIG"),
        (("train", "smok"), "smoke"),
        (("train", "nowhere.yaml"), "nowhere.yaml"),
        (("train", "smoke", "training.epoch=3"), "training.epochs"),
        (("train", "smoke", "training.epochs=three"), "training.epochs"),
        (("train", "smoke", "training.epochs=0"), "training.epochs"),
        (("train", "smoke", "training.epochs"), "training.epochs"),
        (("train", "smoke", "--epochs", "3"), "--epochs"),
        (("train", "--resume", "latest"), "holds no run"),
        (("train", "--resume", "2020"), "2020"),
        (("evaluate", "latest"), "holds no run"),
        (("evaluate", "latest", "--split", "dev"), "dev"),
        (("experiments",), "CONFIG"),
        (("experiments", "smoke", "smok"), "smoke"),
        (("experiments", "smoke", "--set", "training.epoch=3"), "training.epochs"),
        (("runs", "--prune", "-1"), "--prune -1"),
        (("runs", "--prune", "many"), "many"),
        (("configs", "smok"), "smoke"),
        (("report",), "RUN|FOLDER"),
        (("report", "latest"), "holds no run"),
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
def test_a_broken_configuration_is_told_in_one_message(content: str, command: Command, tmp_path: Path) -> None:
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


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(options: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(train_command, "run", defect)
    with pytest.raises(ZeroDivisionError):
        main(["train", "smoke"])


# What is printed.


def test_training_prints_json_on_stdout_alone(command: Command, small_model: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, small_model)
    ended = command("train", str(config), *SHORT, "--json", "--runs", "elsewhere")
    assert ended.status == 0
    printed = json.loads(ended.out)
    (run,) = list_runs(tmp_path / "elsewhere")
    assert printed["run"].endswith(run.run_id)
    assert printed["test"] == read_json(run.evaluation)["test"]
    assert "validation accuracy" in ended.err


@pytest.mark.parametrize("place", ["before", "between", "after"])
def test_options_may_stand_anywhere_among_the_settings(
    place: str, command: Command, small_model: Path, tmp_path: Path
) -> None:
    config, options = str(write_config(tmp_path, small_model)), ["--runs", "elsewhere"]
    arguments = {
        "before": [*options, config, *SHORT],
        "between": [config, SHORT[0], *options, SHORT[1]],
        "after": [config, *SHORT, *options],
    }[place]
    ended = command("train", *arguments)
    assert ended.status == 0, ended.err
    (run,) = list_runs(tmp_path / "elsewhere")
    assert load_config(run.config) == load_config(config, SHORT)


def test_without_json_stdout_stays_clean(command: Command, small_model: Path, tmp_path: Path) -> None:
    ended = command("train", str(write_config(tmp_path, small_model)), *SHORT)
    assert ended.status == 0
    assert ended.out == ""
    assert "eval_best_model.json" in ended.err.replace("\n", "")


def test_a_run_is_resumed_by_its_name(
    command: Command, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tenor.training.recorder import Recorder

    real = Recorder.record

    def interrupted(self: Recorder, kind: str, step: int, **values: float) -> None:
        real(self, kind, step, **values)
        if step == 4:
            raise KeyboardInterrupt

    config = str(write_config(tmp_path, small_model))
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "record", interrupted)
        assert command("train", config, *SHORT).status == 130
    (run,) = list_runs(tmp_path / "runs")
    assert read_manifest(run).status == "interrupted"
    ended = command("train", "--resume", run.run_id, "--json")
    assert ended.status == 0
    assert "going on from" in ended.err
    assert json.loads(ended.out)["run"].endswith(run.run_id)
    again = command("train", "--resume", run.run_id)
    assert again.status == 2
    assert "is complete" in again.message


def test_evaluate_prints_a_table_or_json(command: Command, completed: RunResult) -> None:
    ended = command("evaluate", str(completed.run.path))
    assert ended.status == 0
    assert "majority class" in ended.out
    ended = command("evaluate", str(completed.run.path), "--json")
    stored = read_json(completed.run.evaluation)
    assert json.loads(ended.out)["result"]["accuracy"] == stored["test"]["accuracy"]


def test_evaluate_refuses_weights_that_changed(command: Command, copied: RunDirectory) -> None:
    file = copied.model / "model.safetensors"
    file.write_bytes(file.read_bytes() + b" ")
    ended = command("evaluate", "latest")
    assert ended.status == 2
    assert "is not what was saved" in ended.message


def test_experiments_end_with_1_where_one_failed(command: Command, small_model: Path, tmp_path: Path) -> None:
    good = str(write_config(tmp_path / "good", small_model))
    bad = write_config(tmp_path / "bad", small_model)
    bad.write_text(bad.read_text().replace("label_column: verdict", "label_column: stars"))
    sets = [word for setting in SHORT for word in ("--set", setting)]
    ended = command("experiments", str(bad), good, *sets, "--json")
    assert ended.status == 1
    assert [row["status"] for row in json.loads(ended.out)] == ["failed", "completed"]
    assert len(read_summary(tmp_path / "runs")) == 1


def test_experiments_end_with_0_where_all_completed(command: Command, small_model: Path, tmp_path: Path) -> None:
    config = str(write_config(tmp_path, small_model))
    ended = command("experiments", config, "--set", SHORT[0], "--set", SHORT[1])
    assert ended.status == 0
    assert "completed" in ended.out


def test_runs_are_listed(command: Command, copied: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    ended = command("runs")
    assert ended.status == 0
    assert copied.run_id in ended.out
    rows = json.loads(command("runs", "--json").out)
    assert [row["run_id"] for row in rows] == [copied.run_id]


def test_no_runs_are_no_error(command: Command) -> None:
    ended = command("runs")
    assert ended.status == 0
    assert "no runs below runs" in ended.out
    assert json.loads(command("runs", "--json").out) == []


def test_old_runs_are_pruned_when_asked_for(command: Command, copied: RunDirectory, tmp_path: Path) -> None:
    ended = command("runs", "--prune", "0", "--dry-run")
    assert ended.status == 0
    assert "would remove 1" in ended.out
    assert copied.path.exists()
    assert command("runs", "--prune", "1").status == 0
    assert copied.path.exists()
    ended = command("runs", "--prune", "0", "--json")
    assert json.loads(ended.out) == {"removed": [copied.reference], "still_running": []}
    assert not copied.path.exists()
    assert read_summary(tmp_path / "runs") == []


def test_configs_are_listed_and_printed_to_copy(command: Command, tmp_path: Path) -> None:
    listed = command("configs").out
    assert json.loads(command("configs", "--json").out) == list(builtin_names())
    for name in builtin_names():
        assert name in listed
        printed = command("configs", name)
        assert printed.status == 0
        (tmp_path / "mine.yaml").write_text(printed.out)
        assert load_config(tmp_path / "mine.yaml") == load_config(name)
        as_json = json.loads(command("configs", name, "--json").out)
        assert as_json == load_config(name).model_dump(mode="json")


def test_every_setting_is_explained(command: Command) -> None:
    text = command("configs", "--fields").out
    assert "training.learning_rate" in text
    fields = json.loads(command("configs", "--fields", "--json").out)
    assert all(field["doc"] for field in fields)


def test_version(command: Command) -> None:
    ended = command("--version")
    assert (ended.status, ended.out.strip()) == (0, f"tenor {tenor.__version__}")


# What is not loaded.

HEAVY = ("torch", "transformers", "numpy", "pyarrow", "sklearn", "matplotlib", "accelerate", "pydantic", "rich")

IMPORTS = """
import sys
from tenor.cli.main import main
try:
    main({arguments!r})
except SystemExit:
    pass
print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], HEAVY),
        (["train", "--help"], HEAVY),
        (["--version"], HEAVY),
        (["configs"], ("torch", "transformers", "sklearn", "matplotlib", "accelerate")),
        (["runs"], ("torch", "transformers", "sklearn", "matplotlib", "accelerate")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_command_does_not_need_is_not_imported(
    arguments: list[str], heavy: tuple[str, ...], tmp_path: Path
) -> None:
    code = IMPORTS.format(arguments=arguments, heavy=heavy)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "[]"


def test_the_installed_command_is_this_one() -> None:
    command = Path(sys.executable).with_name("tenor")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip().startswith("tenor ")


def test_json_holds_no_nan() -> None:
    from contextlib import redirect_stdout

    from tenor.cli.options import print_json

    with redirect_stdout(io.StringIO()), pytest.raises(ValueError):
        print_json({"loss": float("nan")})


def test_report_names_what_it_wrote(command: Command, copied: RunDirectory, tmp_path: Path) -> None:
    ended = command("report", "latest", "--output", "mine.html")
    assert (ended.status, ended.out, ended.err) == (0, "mine.html\n", "")
    assert (tmp_path / "mine.html").read_text().startswith("<!doctype html>")
    ended = command("report", "runs", "--json")
    assert json.loads(ended.out) == {"report": "runs/index.html"}
    assert copied.run_id in (tmp_path / "runs" / "index.html").read_text()
    assert command("report", "latest", "--output", "runs").status == 2
