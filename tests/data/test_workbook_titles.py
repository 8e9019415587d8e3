"""Sheets with a title above the names of the columns, as reports have one."""

import zipfile
from html import escape
from pathlib import Path

import pytest

from tenor.config import load_config
from tenor.data.dataset import LabelledText
from tenor.data.sources import read_source
from tenor.errors import UserError

pytest.importorskip("python_calamine")

Sheet = list[list[str]]
TITLE: Sheet = [["Customer voice export, Q1 2025"], []]
HEADER = ["Date", "Store", "Review", "Rating"]
ROWS: Sheet = [["2025-01-02", "Lyon", f"film {at} was fine", str(at % 2)] for at in range(12)]
KIND = "application/vnd.openxmlformats-officedocument.spreadsheetml"
SPACE = "http://schemas.openxmlformats.org"


def workbook(path: Path, sheets: dict[str, Sheet]) -> Path:
    """The smallest workbook with cells of text."""
    names = list(enumerate(sheets, start=1))
    listed = "".join(f'<sheet name="{name}" sheetId="{at}" r:id="r{at}"/>' for at, name in names)
    related = "".join(
        f'<Relationship Id="r{at}" Type="{SPACE}/officeDocument/2006/relationships/worksheet" Target="s{at}.xml"/>'
        for at, _ in names
    )
    parts = "".join(f'<Override PartName="/xl/s{at}.xml" ContentType="{KIND}.worksheet+xml"/>' for at, _ in names)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{SPACE}/package/2006/content-types"><Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/xl/workbook.xml" ContentType="{KIND}.sheet.main+xml"/>{parts}</Types>',
        )
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{SPACE}/package/2006/relationships"><Relationship Id="r0" Target="xl/workbook.xml" '
            f'Type="{SPACE}/officeDocument/2006/relationships/officeDocument"/></Relationships>',
        )
        archive.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{SPACE}/spreadsheetml/2006/main" '
            f'xmlns:r="{SPACE}/officeDocument/2006/relationships"><sheets>{listed}</sheets></workbook>',
        )
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{SPACE}/package/2006/relationships">{related}</Relationships>',
        )
        for at, rows in enumerate(sheets.values(), start=1):
            archive.writestr(f"xl/s{at}.xml", _sheet(rows))
    return path


def _sheet(rows: Sheet) -> str:
    lines = []
    for number, cells in enumerate(rows, start=1):
        written = "".join(
            f'<c r="{chr(65 + column)}{number}" t="inlineStr"><is><t>{escape(cell)}</t></is></c>'
            for column, cell in enumerate(cells)
        )
        lines.append(f'<row r="{number}">{written}</row>')
    return f'<worksheet xmlns="{SPACE}/spreadsheetml/2006/main"><sheetData>{"".join(lines)}</sheetData></worksheet>'


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
