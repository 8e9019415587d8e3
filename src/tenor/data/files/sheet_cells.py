"""Cells of Excel workbooks: as texts, and those that look empty but are not: merged ones, and formulas that no program
has computed."""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time
from pathlib import Path
from posixpath import join, normpath
from shlex import quote
from xml.etree import ElementTree

from tenor.data.files.commands import literal
from tenor.data.files.opening import compression_of, set_path
from tenor.errors import UserError

Range = tuple[tuple[int, int], tuple[int, int]]
"""The first and the last cell of merged ones, each as row and column from 0."""
MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
SHOWN = 3


def column_letters(at: int) -> str:
    """The letters of a column: A for 0, AA for 26."""
    letters = ""
    at += 1
    while at:
        at, rest = divmod(at - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def cell_text(cell: object) -> str:
    """A cell as CSV would have it: whole numbers without a decimal point, dates as in ISO 8601."""
    if isinstance(cell, bool):
        return str(cell)
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return str(int(cell))
    if isinstance(cell, datetime) and cell.time() == time():
        return cell.date().isoformat()
    return cell.isoformat() if isinstance(cell, date | time) else str(cell)


def refuse_merged(
    path: Path,
    sheet: str,
    header: int,
    columns: Mapping[int, str],
    merged: Sequence[Range],
    sample: Mapping[int, Sequence[str]],
) -> None:
    """Raises UserError if cells of these columns are merged over several rows below the header: only the first of them
    has the value, although it holds for all.

    `header`: the number of its row, from 1; `columns`: their names, by position; `sample`: the first rows below the
    header, by number. A merged cell without a value is left to the checks of missing values.
    """
    found: dict[str, list[str]] = {}
    rows = 0
    for (first, left), (last, right) in merged:
        for at in (at for at in columns if left <= at <= right):
            value = sample[first + 1][left : left + 1] if first + 1 in sample else ["?"]
            if last > first and first >= header and "".join(value).strip():
                letters = column_letters(at)
                found.setdefault(columns[at], []).append(f"{letters}{first + 1}:{letters}{last + 1}")
                rows += last - first
    if not found:
        return
    column, ranges = next(iter(found.items()))
    shown = ", ".join(ranges[:SHOWN]) + (f" and {len(ranges) - SHOWN:,} more" if len(ranges) > SHOWN else "")
    raise UserError(
        f"{path}, sheet {sheet!r}: cells of column {column!r} are merged ({shown}). Only the first row of merged cells "
        f"has the value; {rows:,} row{'' if rows == 1 else 's'} below {'has' if rows == 1 else 'have'} none. Repeat "
        f"it in each row{_filled(path, sheet, header)}"
    )


def _filled(path: Path, sheet: str, header: int) -> str:
    """The command that writes a sheet as CSV, from its header on, with the value of merged cells in each of them."""
    if compression_of(path) is not None:
        return " of the workbook, and unmerge the cells."
    new = path.with_name(f"{path.stem}_filled.csv")
    code = (
        f"import csv, python_calamine; s = python_calamine.CalamineWorkbook.from_path({literal(path)})"
        f".get_sheet_by_name({literal(sheet)}); r = s.to_python(skip_empty_area=False); "
        f"[r[y].__setitem__(x, r[a][b]) for (a, b), (c, d) in s.merged_cell_ranges if a >= {header} "
        "for y in range(a, min(c + 1, len(r))) for x in range(b, min(d + 1, len(r[y])))]; "
        "w = lambda v: int(v) if isinstance(v, float) and v.is_integer() else v; "
        f'csv.writer(open({literal(new)}, "w", newline="", encoding="utf-8"))'
        f'.writerows([w(v) for v in row] for row in r[{header - 1}:] if any(v != "" for v in row))'
    )
    return f" and {set_path(new)}, for instance: python -c {quote(code)}"


def refuse_formulas(path: Path, sheet: str, header: int, columns: Mapping[int, str], selection: str) -> None:
    """Raises UserError if cells of these columns below the header are formulas without a value, as programs write them
    that do not compute (openpyxl, for one); the file is read only if it is in Excel's XML format.

    `selection`: what follows the path to choose a sheet, `#name` or nothing.
    """
    if compression_of(path) is not None or not zipfile.is_zipfile(path):
        return
    letters = {column_letters(at): name for at, name in columns.items()}
    found: dict[str, list[str]] = {}
    for place in _uncomputed(path, sheet):
        column = place.rstrip("0123456789")
        if column in letters and int(place[len(column) :]) > header:
            found.setdefault(letters[column], []).append(place)
    if not found:
        return
    column, places = next(iter(found.items()))
    shown = ", ".join(places[:SHOWN]) + (", …" if len(places) > SHOWN else "")
    folder = path.with_name("computed")
    new = Path(f"{folder / path.stem}.xlsx{selection}")
    raise UserError(
        f"{path}, sheet {sheet!r}: column {column!r} has formulas that were never computed, in {len(places):,} "
        f"row{'' if len(places) == 1 else 's'} ({shown}): the file has no values there. Open and save it in Excel or "
        f"LibreOffice, which compute them. Or {set_path(new)}, for instance: soffice --headless --convert-to xlsx "
        f"--outdir {quote(str(folder))} {quote(str(path))}"
    )


def _uncomputed(path: Path, sheet: str) -> Iterator[str]:
    """The cells of a sheet that have a formula and no value, such as `C2`."""
    with zipfile.ZipFile(path) as archive:
        part = _part_of(archive, sheet)
        if part is None:
            return
        with archive.open(part) as content:
            for _, element in ElementTree.iterparse(content):
                if element.tag == f"{MAIN}c":
                    value = element.find(f"{MAIN}v")
                    is_computed = (value is not None and value.text) or element.get("t") == "str"
                    if element.find(f"{MAIN}f") is not None and not is_computed and element.get("r"):
                        yield str(element.get("r"))
                if element.tag == f"{MAIN}row":
                    element.clear()


def _part_of(archive: zipfile.ZipFile, sheet: str) -> str | None:
    """The file of a sheet in a workbook of Excel's XML format; None for other formats."""
    names = set(archive.namelist())
    book, related = "xl/workbook.xml", "xl/_rels/workbook.xml.rels"
    if not {book, related} <= names:
        return None
    sheets = ElementTree.fromstring(archive.read(book)).iter(f"{MAIN}sheet")
    number = next((one.get(RELATION) for one in sheets if one.get("name") == sheet), None)
    targets = {one.get("Id"): one.get("Target", "") for one in ElementTree.fromstring(archive.read(related))}
    target = targets.get(number, "")
    part = target.lstrip("/") if target.startswith("/") else normpath(join("xl", target))
    return part if target and part in names else None
