"""`tenor predict` and `tenor export` as a user calls them: labels on stdout, everything else on stderr."""

import csv
import json
from pathlib import Path

import pytest

from commands import Command
from exports import save_export
from small_runs import write_csv
from tenor.model import device
from tenor.runs.directory import RunDirectory

TEXTS = ("film 3 was superb", "film 4 was dull")


@pytest.fixture(autouse=True)
def on_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("predict", "latest"), "give either texts to classify"),
        (("predict", "latest", "good", "--input", "a.csv", "--output", "b.csv"), "give either texts to classify"),
        (("predict", "latest", "--input", "a.csv"), "go together"),
        (("predict", "latest", "--output", "a.csv", "good"), "go together"),
        (("predict", "latest", "good", "--threads", "0"), "expected 1 or more"),
        (("predict", "latest", "good", "--abstain-below", "90"), "expected a probability from 0 to 1"),
        (("predict", "latest", "good", "  "), "texts[1] contains only white space"),
        (("predict", "latest", ""), "texts[0] is empty"),
        (("predict", "nowhere", "good"), "No run 'nowhere'"),
        (("predict", "latest", "--input", "none.csv", "--output", "b.csv"), "no such file"),
        (("predict", "latest", "--input", "reviews.csv", "--output", "b.xls"), "unknown suffix '.xls'"),
        (("predict", "latest", "--input", "reviews.csv", "--output", "b.csv"), "--text-column review"),
        (("export", "latest", "--format", "safetensors", "--quantize", "int8"), "needs --format onnx"),
        (("export", "latest", "--reviews", "0"), "expected 1 or more"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_ends_with_2_and_writes_nothing(
    arguments: tuple[str, ...],
    words: str,
    copied: RunDirectory,
    tmp_path: Path,
    command: Command,
) -> None:
    write_csv(tmp_path / "reviews.csv", 6)
    status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    assert words in " ".join(err.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reviews.csv", "runs"]


def test_texts_may_follow_an_option(copied: RunDirectory, command: Command) -> None:
    expected = json.loads(command("predict", "latest", *TEXTS, "--json")[1])
    status, out, _ = command("predict", "latest", "--json", *TEXTS)
    assert (status, json.loads(out)) == (0, expected)
    assert [row["text"] for row in expected["predictions"]] == list(TEXTS)


def test_the_engine_and_its_reason_are_shown(
    small_model: Path, copied: RunDirectory, tmp_path: Path, command: Command
) -> None:
    _, out, err = command("predict", "latest", *TEXTS, "--json")
    messages = json.loads(out)
    assert (messages["engine"], messages["decided_by"], err) == ("torch", "the most probable class", "")
    assert messages["why"]
    assert command("predict", "latest", *TEXTS)[2] == "", "what needs no word gets none"

    artefact = save_export(small_model, tmp_path / "artefact")
    status, out, err = command("predict", str(artefact), *TEXTS)
    assert (status, err) == (0, "engine onnx: the engine of the exported file\n")
    messages = json.loads(command("predict", str(artefact), *TEXTS, "--json")[1])
    assert (messages["engine"], messages["why"]) == ("onnx", "the engine of the exported file")


def test_int8_on_another_kind_of_processor_says_so(
    small_model: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "instruction_sets", lambda: ("avx", "avx2", "sse4a"))
    save_export(small_model, tmp_path / "a", {"instruction_sets": ["avx", "avx2", "avx512_vnni"]}, quantize="int8")
    write_csv(tmp_path / "reviews.csv", 6)
    status, _, err = command("predict", "a", *TEXTS)
    assert (status, err.count("\n")) == (0, 1)
    assert "another kind of processor (this one has no avx512_vnni)" in err
    job = ("predict", "a", "--input", "reviews.csv", "--text-column", "review", "--output", "b.csv")
    assert "another kind of processor (this one has no avx512_vnni)" in command(*job)[2]
    save_export(small_model, tmp_path / "b", {"instruction_sets": ["avx2", "sse"]}, quantize="int8")
    assert "processor" not in command("predict", "b", *TEXTS)[2], "nothing that int8 uses differs"
    save_export(small_model, tmp_path / "c", {"instruction_sets": ["avx2", "avx512_vnni"]})
    assert "processor" not in command("predict", "c", *TEXTS)[2], "float is the same everywhere"
    save_export(small_model, tmp_path / "d", {"instruction_sets": ["neon", "dot"]}, quantize="int8")
    assert "(this one has no dot, neon, but avx2)" in command("predict", "d", *TEXTS)[2]


def test_the_unsure_are_shown_and_counted(copied: RunDirectory, tmp_path: Path, command: Command) -> None:
    status, out, _ = command("predict", "latest", *TEXTS, "--abstain-below", "1")
    assert (status, out.count("(unsure)")) == (0, 2)
    assert "unsure (probability below 1): 2 of 2" in out
    write_csv(tmp_path / "reviews.csv", 6)
    job = ("predict", "latest", "--input", "reviews.csv", "--text-column", "review", "--output", "out.csv")
    status, out, _ = command(*job, "--abstain-below", "1")
    assert (status, "unsure (probability below 1): 6, without a label" in out) == (0, True)


def test_a_threshold_decides_and_is_shown(copied: RunDirectory, tmp_path: Path, command: Command) -> None:
    write_csv(tmp_path / "reviews.csv", 30, start=200)
    with open(tmp_path / "reviews.csv", newline="", encoding="utf-8") as file:
        texts = [row["review"] for row in csv.DictReader(file)]
    plain = json.loads(command("predict", "latest", *texts, "--json")[1])["predictions"]
    scores = [row["probabilities"]["good"] for row in plain]
    assert command("calibrate", "latest", "--class", "good", "--recall", "1")[0] == 0
    threshold = json.loads((copied.model / "tenor.json").read_text())["threshold"]["threshold"]

    status, out, err = command("predict", "latest", *texts, "--json")
    assert (status, "threshold: good at a probability of" in err) == (0, True)
    expected = ["good" if score >= threshold else "bad" for score in scores]
    assert json.loads(out)["decided_by"]["class"] == "good"
    rows = json.loads(out)["predictions"]
    assert [row["label"] for row in rows] == expected
    assert [row["probability"] for row in rows] == pytest.approx(
        [score if label == "good" else 1 - score for label, score in zip(expected, scores, strict=True)]
    )

    job = ("predict", "latest", "--input", "reviews.csv", "--text-column", "review", "--engine", "torch", "--json")
    status, out, err = command(*job, "--output", "out.csv")
    assert (status, json.loads(out)["decided_by"]["class"]) == (0, "good")
    assert "threshold: good at a probability of" in err
    with open("out.csv", newline="", encoding="utf-8") as file:
        assert [row["prediction"] for row in csv.DictReader(file)] == expected

    ignored = [*job, "--output", "plain.csv", "--ignore-threshold"]
    status, out, err = command(*ignored)
    assert (status, json.loads(out)["decided_by"]) == (0, "the most probable class")
    assert "threshold:" not in err
    with open("plain.csv", newline="", encoding="utf-8") as file:
        assert [row["prediction"] for row in csv.DictReader(file)] == [row["label"] for row in plain]

    assert command("calibrate", "latest", "--no-threshold")[0] == 0
    _, out, err = command("predict", "latest", *texts, "--json")
    assert ([row["label"] for row in json.loads(out)["predictions"]], "threshold:" in err) == (
        [r["label"] for r in plain],
        False,
    )


def test_a_job_that_was_begun_with_another_threshold_is_another(
    copied: RunDirectory, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tenor.inference import file_job

    write_csv(tmp_path / "reviews.csv", 30)
    job = ("predict", "latest", "--input", "reviews.csv", "--text-column", "review", "--output", "out.csv")
    with monkeypatch.context() as patch:
        patch.setattr(file_job, "write_output", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        assert command(*job)[0] == 130
    assert command("calibrate", "latest", "--class", "good", "--recall", "1")[0] == 0
    status, _, err = command(*job)
    assert status == 2
    assert "threshold" in err
    assert "--restart" in err
    assert command(*job, "--ignore-threshold")[0] == 0


def test_a_folder_gets_one_output_per_file_and_a_bad_file_ends_with_1(
    copied: RunDirectory, tmp_path: Path, command: Command
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        write_csv(tmp_path / "in" / f"{number}.csv", 6, start=10 * number)
    (tmp_path / "in" / "1.csv").write_text("review,label\n,bad\n")
    job = ("predict", "latest", "--input", "in/*.csv", "--text-column", "review", "--output", "out/")
    status, out, err = command(*job, "--json")
    record = json.loads(out)
    assert (status, record["files"], record["rows"], record["output"]) == (1, 3, 12, "out")
    assert [Path(one["file"]).name for one in record["failed_files"]] == ["1.csv"]
    assert "tenor: 1 of 3 files could not be predicted" in err
    assert "in/1.csv: 1 of 1 rows can't be predicted, the first: row 1 has a text that is empty" in err

    write_csv(tmp_path / "in" / "1.csv", 4)
    status, out, err = command(*job)
    assert status == 0
    assert "out: 3 of 3 files, 2 of them from an earlier call" in out
    assert "out: 16 rows, 12 of them from an earlier call" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".tenor", "0.csv", "1.csv", "2.csv"]
    # A folder is also one that exists, or a name without a suffix; a file of all rows is still one file.
    assert command(*job[:-1], "out")[0] == 0
    assert command(*job[:-1], "all.csv")[0] == 0
    assert len((tmp_path / "all.csv").read_text(encoding="utf-8").splitlines()) == 17
