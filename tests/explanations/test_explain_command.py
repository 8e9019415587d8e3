"""`tenor explain` as a user sees it: the test of the explanations, words of a text, refusals, and the report."""

import json
import re
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from commands import Command
from small_models import BAD, GOOD
from small_runs import quiet, small_config, write_csv
from tenor.explanations.verdict import verdict_of
from tenor.runs.directory import RunDirectory
from tenor.runs.explanations import EXPLANATIONS, read_explanations, write_explanations
from tenor.runs.files import read_json, sha256_file, write_json
from tenor.workflows.report import write_run_report
from tenor.workflows.train import train

TEXT = "film 3 was superb and scene 4"


def damage_weights(run: RunDirectory, factor: float) -> None:
    """Scale the classifier's last layer, as if another model had been saved."""
    weights = load_file(run.model / "model.safetensors")
    weights["classifier.weight"] = weights["classifier.weight"] * factor
    weights["classifier.bias"] = weights["classifier.bias"] * factor
    save_file(weights, run.model / "model.safetensors", {"format": "pt"})
    notes = read_json(run.model / "tenor.json")
    write_json(run.model / "tenor.json", {**notes, "weights_sha256": sha256_file(run.model / "model.safetensors")})


def test_the_test_is_made_printed_and_kept_and_the_report_has_it(command: Command, copied: RunDirectory) -> None:
    ended = command("explain", str(copied.path))
    assert ended.status == 0, ended.err
    assert "explanations are shown" in ended.out
    assert re.search(r"lowers the probability of the predicted class by 0\.\d{3}, as many random words by", ended.out)
    assert "words that decide most" in ended.out
    assert {*GOOD, *BAD} & set(ended.out.split())
    assert "suspected shortcuts" in ended.out
    record = read_explanations(copied.path / EXPLANATIONS)
    assert verdict_of(record).shown
    assert (record.split, record.rows_available, record.deletion.rows) == ("test", 40, 30)  # type: ignore[union-attr]
    assert record.labelled == "44 training rows"
    report = copied.report.read_text(encoding="utf-8")
    assert "What decides" in report
    assert "Explanations were tested" in report
    assert any(f'<th scope="row" class="left name">{word}</th>' in report for word in (*GOOD, *BAD))


@pytest.mark.slow
def test_a_text_makes_the_test_first_and_then_reuses_it(command: Command, copied: RunDirectory) -> None:
    first = command("explain", str(copied.path), TEXT)
    assert first.status == 0
    assert "superb++" in first.out
    assert "completeness gap" in first.out
    assert "explaining" in first.err
    whole = json.loads(command("explain", str(copied.path), "--json").out)
    assert {"file", "report", "shown", "why", "words", "pairs", "shortcuts", "deletion", "digest"} <= set(whole)
    kept = (copied.path / EXPLANATIONS).read_bytes()
    second = command("explain", str(copied.path), TEXT, "film 3 was stale and scene 4")
    assert second.status == 0
    assert "stale++" in second.out
    assert "explaining" not in second.err
    assert (copied.path / EXPLANATIONS).read_bytes() == kept


def test_json(command: Command, tested: RunDirectory) -> None:
    content = json.loads(command("explain", str(tested.path), "--json", TEXT).out)
    assert content["shown"]
    (one,) = content["explanations"]
    assert one["prediction"]["label"] == one["explains"] == "good"
    assert all(TEXT[word["start"] : word["end"]] == word["word"] for word in one["words"])
    assert max(one["words"], key=lambda word: word["value"])["word"] == "superb"
    assert (one["read_until"], one["skipped"]) == (len(TEXT), [])
    assert content["digest"] == read_explanations(tested.path / EXPLANATIONS).digest


@pytest.mark.slow
def test_a_model_whose_words_do_not_matter_is_refused_an_explanation(command: Command, copied: RunDirectory) -> None:
    damage_weights(copied, 1e-3)
    ended = command("explain", str(copied.path), TEXT)
    assert ended.status == 3
    assert "no explanation is shown: the words hardly move" in ended.out + ended.err
    assert "superb" not in ended.out
    content = json.loads(command("explain", str(copied.path), TEXT, "--json").out)
    assert not content["shown"]
    assert content["explanations"][0]["words"] == []


@pytest.mark.slow
def test_random_weights_are_refused_an_explanation(tmp_path: Path, small_model: Path, command: Command) -> None:
    tests = write_csv(tmp_path / "others.csv", 40, start=201)
    config = small_config(tmp_path, small_model, f"data.test_path={tests}", "training.learning_rate=1e-12")
    run = train(config, tmp_path / "runs", quiet()).run
    damage_weights(run, 0.02)  # A new head is initialized this small; that of the small model is not.
    ended = command("explain", str(run.path))
    assert ended.status == 0
    assert "explanations are not shown" in ended.out
    assert "words that decide most" not in ended.out


@pytest.mark.slow
def test_other_weights_are_tested_again(command: Command, copied: RunDirectory) -> None:
    command("explain", str(copied.path))
    before = read_explanations(copied.path / EXPLANATIONS)
    damage_weights(copied, 0.5)
    assert command("explain", str(copied.path), TEXT).status == 0
    assert read_explanations(copied.path / EXPLANATIONS).digest != before.digest


def test_a_report_does_not_show_explanations_of_other_weights(copied: RunDirectory, tested: RunDirectory) -> None:
    record = read_explanations(tested.path / EXPLANATIONS)
    write_explanations(copied.path / EXPLANATIONS, record.model_copy(update={"weights_sha256": "0" * 64}))
    text = write_run_report(copied).read_text(encoding="utf-8")
    assert "is of other weights than the evaluation" in text
    assert "Explanations were tested" not in text


@pytest.mark.slow
def test_too_few_rows_give_no_verdict_and_more_rows_one(command: Command, copied: RunDirectory, tmp_path: Path) -> None:
    few = write_csv(tmp_path / "few.csv", 10, start=301)
    ended = command("explain", str(copied.path), TEXT, "--data", str(few))
    assert ended.status == 3
    assert "too few" in ended.err
    assert "--data" in ended.err
    more = write_csv(tmp_path / "more.csv", 40, start=301)
    assert command("explain", str(copied.path), TEXT, "--data", str(more)).status == 0
    assert read_explanations(copied.path / EXPLANATIONS).split == "more.csv"


@pytest.mark.slow
def test_training_rows_are_no_held_out_rows(command: Command, copied: RunDirectory, tmp_path: Path) -> None:
    seen = write_csv(tmp_path / "seen.csv", 60)
    ended = command("explain", str(copied.path), "--data", str(seen))
    assert ended.status == 0
    assert read_explanations(copied.path / EXPLANATIONS).rows_available == 16  # The validation rows.


@pytest.mark.slow
def test_a_model_without_a_run_needs_rows(
    command: Command, copied: RunDirectory, tmp_path: Path, own_cache: Path
) -> None:
    folder = Path(shutil.copytree(copied.model, tmp_path / "elsewhere"))
    ended = command("explain", str(folder), TEXT)
    assert ended.status == 2
    assert "belongs to no run" in ended.message
    assert f"tenor explain {folder} --data ROWS.csv" in ended.message
    rows = write_csv(tmp_path / "more.csv", 40, start=301)
    without = command("explain", str(folder), TEXT, "--data", str(rows))
    assert without.status == 2
    assert "--text-column review --label-column verdict" in without.message
    columns = ("--text-column", "review", "--label-column", "verdict")
    assert command("explain", str(folder), TEXT, "--data", str(rows), *columns).status == 0
    assert command("explain", str(folder), TEXT).status == 0  # The test is kept.


def test_data_that_changed_are_refused(command: Command, copied: RunDirectory, completed_data: Path) -> None:
    text = completed_data.read_text(encoding="utf-8")
    try:
        completed_data.write_text(text.replace("film", "movie"), encoding="utf-8")
        ended = command("explain", str(copied.path))
    finally:
        completed_data.write_text(text, encoding="utf-8")
    assert ended.status == 2
    assert "fingerprint differs" in ended.message
    assert "--data ROWS.csv" in ended.message


@pytest.mark.parametrize("text", ["", " \n"])
def test_a_text_that_cannot_be_predicted(command: Command, tested: RunDirectory, text: str) -> None:
    ended = command("explain", str(tested.path), text)
    assert ended.status == 2
    assert "texts[0]" in ended.message


def test_markup_and_control_characters_stay_text(command: Command, tested: RunDirectory) -> None:
    ended = command("explain", str(tested.path), "film 3 was [red]superb[/red] \x1b[31m and <b>scene</b>")
    assert ended.status == 0
    assert "[red]" in re.sub("[+−]", "", ended.out)
    assert "\x1b" not in ended.out
    assert "<b>" in re.sub("[+−]", "", ended.out)


def test_rows_are_not_read_again_after_a_verdict(command: Command, tested: RunDirectory, tmp_path: Path) -> None:
    ended = command("explain", str(tested.path), TEXT, "--data", str(tmp_path / "missing.csv"))
    assert ended.status == 0
    assert "--data is not read: explanations were tested before on test rows" in ended.err
