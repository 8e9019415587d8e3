"""Sheets with a title above the names of the columns, as reports have one."""

from pathlib import Path

import pytest

from sheets import Sheet, workbook
from tenor.config import load_config
from tenor.data.dataset import LabelledText
from tenor.data.sources import read_source
from tenor.errors import UserError

pytest.importorskip("python_calamine")

TITLE: Sheet = [["Customer voice export, Q1 2025"], []]
HEADER = ["Date", "Store", "Review", "Rating"]
ROWS: Sheet = [["2025-01-02", "Lyon", f"film {at} was fine", str(at % 2)] for at in range(12)]


def read(path: str | Path, *options: str) -> LabelledText:
    rows = read_source(load_config("demo", ["data.source=file", f"data.path={path}", *options]).data).train
    assert isinstance(rows, LabelledText)
    return rows


COLUMNS = ("data.text_column=Review", "data.label_column=Rating")


@pytest.mark.parametrize("above", [TITLE, [["Customer voice"], ["all stores"], []], [["", "Customer voice"]]])
def test_the_names_below_a_title_are_the_header(above: Sheet, tmp_path: Path) -> None:
    rows = read(workbook(tmp_path / "a.xlsx", {"Reviews": [*above, HEADER, *ROWS]}), *COLUMNS)
    assert list(rows.texts) == [row[2] for row in ROWS]
    assert f"row {len(above) + 1} has the names of the columns" in rows.notes[0]
    assert "Customer voice" in rows.notes[0]


def test_rows_keep_their_numbers_below_a_title(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", {"Reviews": [*TITLE, HEADER, *ROWS, ["2025-01-03", "Lyon", "fine", ""]]})
    with pytest.raises(UserError, match=r"row 16: Rating is missing"):
        read(path, *COLUMNS)


def test_columns_that_are_missing_below_a_title_come_with_the_settings(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", {"Info": [["About"], ["x", "y"]], "Reviews": [*TITLE, HEADER, *ROWS]})
    with pytest.raises(UserError, match=r"Reviews'$"):  # The sheet with the most rows is named.
        read(path)
    with pytest.raises(UserError, match=r"data\.text_column=Review data\.label_column=Rating"):
        read(f"{path}#Reviews")


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        ([["text", "label"], *([f"film {at}", str(at % 2)] for at in range(9))], ()),
        ([["text"], *([f"film {at}", str(at % 2)] for at in range(9))], ()),
        ([["Review"], *([f"film {at}", str(at % 2)] for at in range(9))], ()),
    ],
    ids=["no title", "a header with a name too few", "the same, of another name"],
)
def test_a_row_of_data_is_not_taken_for_the_header(rows: Sheet, columns: tuple[str, ...], tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", {"Reviews": rows})
    if len(rows[0]) == 2:
        assert len(read(path, *columns)) == 9
    else:
        with pytest.raises(UserError, match=f"Available columns: '{rows[0][0]}'"):
            read(path, *columns)
