"""Unusual ways in which rows were read: every command that reads them prints a note, and the run records it."""

import csv
import json
from pathlib import Path

from commands import Command
from small_runs import write_config, write_csv
from tenor.runs.directory import RunDirectory
from tenor.runs.manifest import read_manifest

LETTERS = "double quotes are read as part of the texts"


def rows_of(path: Path, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(path.open(encoding="utf-8", newline=""), delimiter=delimiter))


def respelled(path: Path) -> Path:
    """Every fifth label in another case, with a blank behind it."""
    header, *rows = rows_of(path)
    for row in rows[::5]:
        row[1] = f"{row[1].upper()} "
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def with_letters(path: Path) -> Path:
    """The rows as a TSV in which some quotes open and never close."""
    header, *rows = rows_of(path)
    rows[3][0], rows[7][0] = f'"{rows[3][0]}', f'{rows[7][0]}"'
    lines = "".join("\t".join(row) + "\n" for row in [header, *rows])
    path.with_suffix(".tsv").write_text(lines, encoding="utf-8")
    return path.with_suffix(".tsv")


def test_training_and_checking_tell_of_merged_labels(small_model: Path, tmp_path: Path, command: Command) -> None:
    config = str(write_config(tmp_path, small_model))
    plain = command("check", config, "--json")
    respelled(tmp_path / "train.csv")
    words = "'bad' is written 'bad' (24 rows), 'BAD ' (6 rows)"
    merged = command("check", config, "--json")
    assert words in merged.err
    assert merged.out == plain.out
    assert "is written" not in plain.err
    assert words in command("audit", config, "--features", "words", "data.validation.size=2").err
    ended = command("train", config, "training.epochs=1")
    assert (ended.status, words in ended.err) == (0, True)
    (folder,) = (tmp_path / "runs" / "small").iterdir()
    (note,) = read_manifest(RunDirectory(folder)).data_notes
    assert words in note
    assert json.loads((folder / "model" / "config.json").read_text())["id2label"] == {"0": "bad", "1": "good"}


def test_evaluation_matches_labels_to_the_model_s_and_tells_so(
    copied: RunDirectory, tmp_path: Path, command: Command
) -> None:
    columns = ("data.text_column=review", "data.label_column=verdict")
    expected = json.loads(
        command("evaluate", "latest", "--input", str(write_csv(tmp_path / "a.csv", 20)), "--json").out
    )
    found = command(
        "evaluate", "latest", "--input", str(respelled(write_csv(tmp_path / "b.csv", 20))), "--json", *columns
    )
    record = json.loads(found.out)
    assert record["result"]["confusion_matrix"] == expected["result"]["confusion_matrix"]
    assert "'bad' is written 'bad' (8 rows), 'BAD ' (2 rows)" in found.err
    assert "'BAD ' (2 rows)" in record["data_notes"][0]
    assert "data_notes" not in expected
    assert json.loads((Path(record["folder"]) / "evaluation.json").read_text())["data_notes"] == record["data_notes"]


def test_a_file_whose_quotes_are_letters_is_predicted_row_by_row(
    copied: RunDirectory, tmp_path: Path, command: Command
) -> None:
    source = with_letters(write_csv(tmp_path / "reviews.csv", 30))
    texts = [line.split("\t")[0] for line in source.read_text(encoding="utf-8").splitlines()[1:]]
    job = ("predict", "latest", "--input", source.name, "--text-column", "review", "--engine", "torch")
    for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
        ended = command(*job, "--output", f"out{suffix}")
        assert (ended.status, LETTERS in ended.err) == (0, True)
        header, *rows = rows_of(tmp_path / f"out{suffix}", delimiter)
        assert header[:3] == ["review", "verdict", "prediction"]
        assert [row[0] for row in rows] == texts
    alone = json.loads(command("predict", "latest", texts[3], texts[7], "--json").out)["predictions"]
    assert [rows[3][2], rows[7][2]] == [one["label"] for one in alone]
    again = ("predict", "latest", "--input", "out.tsv", "--text-column", "review", "--output", "again.jsonl")
    assert "columns with the names of prediction columns" in command(*again).message
    training = ("data.text_column=review", "data.label_column=verdict", "--json")
    assert LETTERS in command("evaluate", "latest", "--input", str(source), *training).err
    assert LETTERS not in command("evaluate", "latest", "--input", str(tmp_path / "out.tsv"), *training).err
