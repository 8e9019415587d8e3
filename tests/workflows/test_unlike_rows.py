"""A run records what its training texts are recognized by, and its evaluation says which rows are unlike them."""

from pathlib import Path

from small_runs import nulls, quiet
from tenor.console.run import show_evaluation
from tenor.runs.model_notes import read_model_notes
from tenor.workflows.evaluate import evaluate, evaluation_record
from tenor.workflows.train import RunResult


def test_rows_in_another_script_are_counted_and_printed(completed: RunResult, tmp_path: Path) -> None:
    known = read_model_notes(completed.run.model).training_texts
    assert known is not None
    assert known.scripts == {"LATIN": 1.0}
    assert known.frequent_words == "", "44 texts characterize no language"
    rows = tmp_path / "rows.csv"
    english = [f"film {k} was awful and scene {k},bad" for k in range(300, 305)]
    rows.write_text("\n".join(["review,verdict", *english, *["这部电影太好看了,good"] * 3]), encoding="utf-8")
    found = evaluate(str(completed.run.path), console=quiet(), file=rows)
    record = evaluation_record(found)
    assert (record["unlike"]["rows"], record["unlike"]["other_script"]) == (8, 3)
    assert "no record" in record["unlike"]["other_language"]["missing"]
    assert nulls(record) == []
    console = quiet()
    show_evaluation(console, found)
    text = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert (
        "3 of 8 texts (37.5%) are written in another script than the training texts (latin), for example row 6" in text
    )


def test_a_run_s_own_rows_are_not_unlike(completed: RunResult) -> None:
    assert evaluate(str(completed.run.path), console=quiet()).unlike.record()["notes"] == []
