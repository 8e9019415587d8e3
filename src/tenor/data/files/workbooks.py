"""Excel workbooks, read with python-calamine (extra `excel`)."""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import IO, Any

from tenor.data.files.headers import (
    NUMBER,
    SAMPLE_ROWS,
    described,
    describing_rows,
    likely_settings,
    lost_first_row,
    row_with_names,
    tidied_names,
)
from tenor.data.files.opening import plain_file
from tenor.data.files.sheet_cells import Range, cell_text, column_letters, refuse_formulas, refuse_merged
from tenor.data.files.stream import Block, FileRow, FileRows, Limits, in_blocks
from tenor.errors import UserError

MOST_BYTES = 2**30
"""Uncompressed: a sheet has at most 1,048,576 rows, and the reader keeps a sheet in memory."""


def workbook_rows(path: Path, sheet: str | None, required: Sequence[str]) -> FileRows:
    """A sheet as rows of strings, numbered as in the sheet; the first row that is not empty is the header, or the one
    below a title.

    Whole numbers have no decimal point; dates are as in ISO 8601. Raises UserError if the workbook cannot be read, or
    has several sheets with cells and `sheet` is None.
    """
    name = _sheet_name(path, sheet, required)
    rows, merged = _sample(path, name)
    where, at = f"{path}, sheet {name!r}", _header_at([cells for _, cells in rows], required)
    first, header = rows[at] if rows else (0, [])
    sample = [cells for _, cells in rows[at + 1 :]]
    names, notes = tidied_names(_without_empty_end(header))
    if at:
        title = next(cell.strip() for cell in rows[0][1] if cell.strip())
        notes.append(f"row {first:,} has the names of the columns; what is above it, {title[:60]!r}, is not read")
    if lost := lost_first_row([path], names, sample, required):
        raise UserError(
            lost.partition(" Add a header")[0].replace(str(path), where, 1) + " Insert a row with names above it."
        )

    chosen = {at: column for at, column in enumerate(names) if column in required}
    refuse_merged(path, name, first, chosen, merged, dict(rows[at + 1 :]))
    blank = {at: column for at, column in chosen.items() if any(not "".join(cells[at : at + 1]) for cells in sample)}
    if blank:
        with _errors(path):
            refuse_formulas(path, name, first, blank, "" if sheet is None else f"#{sheet}")
    describing = describing_rows(sample)
    notes += described(describing)

    def read(limits: Limits, choose: Sequence[str] | None) -> Iterator[Block]:
        return in_blocks(_rows(path, name, first, len(names), describing), names, limits, choose)

    return FileRows(
        *(where, f"{path.name}, sheet {name}", "row", "strings", tuple(names), read, (path,)),
        notes=tuple(f"{where}: {note}." for note in notes),
        reading={"sheet": name},
    )


def _sheet_name(path: Path, sheet: str | None, required: Sequence[str]) -> str:
    with _workbook(path) as book:
        names: list[str] = list(book.sheet_names)
        if sheet is not None:
            if sheet not in names:
                raise UserError(f"{path}: no sheet {sheet!r}. Its sheets: {', '.join(map(repr, names))}.")
            return sheet
        heights = {name: book.get_sheet_by_name(name).height for name in names}
        filled = [name for name in names if heights[name]]
    if len(filled) == 1:
        return filled[0]
    if not filled:
        raise UserError(f"{path}: all sheets are empty, expected a header and one text per row.")
    likely = next((name for name in filled if _has_columns(path, name, required)), max(filled, key=heights.__getitem__))
    raise UserError(
        f"{path}: {len(filled)} sheets have cells: {', '.join(map(repr, filled))}. Name one, after a #: "
        + quote(f"{path}#{likely}")
    )


def _has_columns(path: Path, name: str, required: Sequence[str]) -> bool:
    """Whether one of the first rows of a sheet has these names."""
    return row_with_names([cells for _, cells in islice(_table(path, name), SAMPLE_ROWS)], required) is not None


def _header_at(rows: Sequence[Sequence[str]], required: Sequence[str]) -> int:
    """The position of the header among the first rows that are not empty: the first one, or the one below a title.

    A title is one cell in each row, above a row of several names; or whatever is above a row with the required names.
    """
    if not rows or set(required) <= {cell.strip() for cell in rows[0]}:
        return 0
    if (named := row_with_names(rows, required)) is not None:
        return named
    filled = [[cell.strip() for cell in cells if cell.strip()] for cells in rows]
    below = next((at for at, cells in enumerate(filled) if len(cells) > 1), 0)
    are_names = all(not NUMBER.fullmatch(cell) and len(cell) <= LONGEST_NAME for cell in filled[below])
    is_table = len(filled) > below + 1 and all(len(cells) > 1 for cells in filled[below + 1 : below + 4])
    is_header = bool(set(filled[0]) & set(required)) or likely_settings(filled[0], required)[0]
    return below if 0 < below <= MOST_TITLE_ROWS and are_names and is_table and not is_header else 0


LONGEST_NAME, MOST_TITLE_ROWS = 60, 10


def _without_empty_end(header: Sequence[str]) -> list[str]:
    names = list(header)
    while names and not names[-1].strip():
        names.pop()
    return names


def _rows(path: Path, name: str, first: int, width: int, describing: int) -> Iterator[FileRow]:
    below = ((number, cells) for number, cells in _table(path, name) if number > first)
    for number, cells in islice(below, describing, None):
        beyond = next((at for at in range(width, len(cells)) if cells[at].strip()), None)
        place = "" if beyond is None else f"{column_letters(beyond)}{number}"
        fault = f"has a value in cell {place}, right of the last column" if place else None
        yield FileRow((*cells[:width], *[""] * (width - len(cells))), number, fault)


def _table(path: Path, name: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a sheet that are not empty, with their numbers."""
    with _workbook(path) as book:
        for number, cells in enumerate(book.get_sheet_by_name(name).iter_rows(), start=1):
            texts = [cell_text(cell) for cell in cells]
            if any(text.strip() for text in texts):
                yield number, texts


def _sample(path: Path, name: str) -> tuple[list[tuple[int, list[str]]], list[Range]]:
    """The first rows of a sheet that are not empty, with their numbers, and its merged cells."""
    with _workbook(path) as book:
        merged = book.get_sheet_by_name(name).merged_cell_ranges
    return list(islice(_table(path, name), SAMPLE_ROWS + 1)), list(merged or [])


@contextmanager
def _workbook(path: Path) -> Iterator[Any]:
    """An open workbook. Raises UserError if it is not one, is protected or too large, or if the extra is missing."""
    try:
        import python_calamine
    except ImportError as error:
        raise UserError(
            f"{path}: Excel files require the package python-calamine. Install it: pip install 'tenor[excel]', or save "
            "the sheet as CSV in UTF-8."
        ) from error
    with plain_file(path) as source, _errors(path):
        _require_bounded(path, source)
        open_book = python_calamine.CalamineWorkbook
        book = open_book.from_path(str(source)) if isinstance(source, Path) else open_book.from_filelike(source)
        try:
            yield book
        finally:
            book.close()


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Errors of the reader, and of the zip archive that a workbook is, as UserError."""
    try:
        yield
    except (UserError, GeneratorExit, KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:
        kind = type(error).__name__
        if kind == "PasswordError":
            raise UserError(f"{path}: is protected by a password. Save it without one.") from error
        # A panic of the Rust library is a BaseException that no module exports.
        if not isinstance(error, Exception) and kind != "PanicException":
            raise
        raise UserError(
            f"{path}: is not a valid Excel file: {error}. It may be incomplete; save it again, or as CSV in UTF-8."
        ) from error


def _require_bounded(path: Path, source: IO[bytes] | Path) -> None:
    if not zipfile.is_zipfile(source):
        return
    with zipfile.ZipFile(source) as archive:
        size = sum(info.file_size for info in archive.infolist())
    if size > MOST_BYTES:
        raise UserError(
            f"{path}: has more than {MOST_BYTES // 2**20:,} MB of cells, which do not fit into memory. Save it as CSV "
            "in UTF-8."
        )
    if not isinstance(source, Path):
        source.seek(0)
