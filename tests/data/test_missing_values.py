"""Values that are missing although a file has something there: NULL of databases, merged cells, formulas."""

import csv
from pathlib import Path

import pytest

from tenor.data.sources.labels import read_table
from tenor.errors import UserError
from tenor.inference.file_job import survey

ROWS = [(f"film {at} was fine", ("good", "bad")[at % 2]) for at in range(12)]


def table(folder: Path, rows: list[tuple[str, str]], suffix: str = ".tsv") -> Path:
    path = folder / f"rows{suffix}"
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",").writerows([("text", "label"), *rows])
    return path


@pytest.mark.parametrize("suffix", [".tsv", ".csv"])
@pytest.mark.parametrize("place", [0, 1], ids=["text", "label"])
def test_null_of_a_database_is_missing_as_an_empty_cell_is(place: int, suffix: str, tmp_path: Path) -> None:
    told = {}
    for value in ("\\N", ""):
        odd = (value, ROWS[3][1]) if place == 0 else (ROWS[3][0], value)
        path = table(tmp_path, [*ROWS[:3], odd, *ROWS[4:]], suffix)
        left = read_table(path, faulty_rows="leave_out")
        assert left.class_names == ("bad", "good")
        assert list(left.texts) == [text for at, (text, _) in enumerate(ROWS) if at != 3]
        if value or place == 1:  # A blank text is judged by a rule.
            with pytest.raises(UserError, match=f"(?s)1 of 12 rows.*{('text', 'label')[place]} is missing") as caught:
                read_table(path)
            told[value] = str(caught.value)
        if place == 0:
            assert survey(path, "text").faults == 1
    assert len(set(told.values())) == 1


def test_null_within_a_text_is_text_and_a_class_if_the_user_says_so(tmp_path: Path) -> None:
    path = table(tmp_path, [(f"{text} \\N", label) for text, label in ROWS])
    assert all(text.endswith("\\N") for text in read_table(path).texts)
    assert survey(path, "text").faults == 0
    path = table(tmp_path, [*ROWS, ("odd", "\\N")])
    assert read_table(path, class_names=("good", "bad", "\\N")).class_names[2] == "\\N"
    assert len(read_table(path, relabel={"\\N": None}).texts) == len(ROWS)
    with pytest.raises(UserError, match="'label' is missing in all"):
        read_table(table(tmp_path, [(text, "\\N") for text, _ in ROWS]))
