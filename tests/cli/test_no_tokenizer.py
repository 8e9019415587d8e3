"""Every command that needs a tokenizer names the folder without one, and the fix."""

from pathlib import Path

from classifiers import save_classifier
from commands import Command
from tenor.runs.directory import RunDirectory


def without_tokenizer(folder: Path) -> Path:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    return folder


def test_commands_end_with_the_reason(small_bert: Path, tmp_path: Path, command: Command) -> None:
    folder = without_tokenizer(save_classifier(small_bert, tmp_path / "model"))
    for words in (
        ("predict", str(folder), "a bright film"),
        ("export", str(folder), "--output", str(tmp_path / "out")),
        ("train", "demo", f"model.name={folder}"),
        ("check", "demo", f"model.name={folder}"),
    ):
        ended = command(*words)
        assert ended.status == 2, ended
        assert f"no tokenizer in {folder}" in ended.message
        assert "tokenizer.save_pretrained" in ended.message
    assert not (tmp_path / "out").exists()


def test_a_run_whose_tokenizer_was_deleted_is_not_evaluated(copied: RunDirectory, command: Command) -> None:
    without_tokenizer(copied.model)
    for words in (("evaluate", str(copied.path)), ("predict", str(copied.path), "a bright film")):
        ended = command(*words)
        assert ended.status == 2, ended
        assert "no tokenizer in" in ended.message
