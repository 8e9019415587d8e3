"""The case, reproduced: docs/case.md quotes the output of these commands."""

import json
from pathlib import Path

import pytest

from tenor.checks import diagnose
from tenor.cli.main import main
from tenor.runs.directory import find_run

DOCS = Path(__file__).parents[2] / "docs"
ALLOWED = ("DAT001", "DAT002", "FRZ001", "EVL001", "EVL003")


@pytest.mark.slow
def test_the_case_is_refused_then_reproduced_then_diagnosed(tmp_path, capsys):
    assert main(["check", "case_one_class", "--json"]) == 3
    report = json.loads(capsys.readouterr().out)
    errors = {one["code"] for one in report["findings"] if one["severity"] == "error" and not one["allowed"]}
    assert errors == {"DAT001", "DAT002", "FRZ001"}

    allowances = [f"checks.allow.{code}=the case, on purpose" for code in ALLOWED]
    assert main(["train", "case_one_class", *allowances, "--runs", str(tmp_path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [row[1] for row in result["test"]["confusion_matrix"]] == [0, 0], "one column: class 0 for every row"

    diagnosis = diagnose(find_run(tmp_path, "latest").path)
    first = diagnosis.causes[0]
    assert (first.code, first.status) == ("DAT002", "confirmed")
    assert {"DAT001", "EVL001"} <= set(first.symptoms)


def test_the_evaluation_alone_suspects_training_rows_of_one_class():
    diagnosis = diagnose(DOCS / "case_evaluation.json")
    by_code = {cause.code: cause for cause in diagnosis.causes[:3]}
    assert by_code["DAT001"].status == "suspected"
    assert "labels" in by_code["DAT001"].settled_by
