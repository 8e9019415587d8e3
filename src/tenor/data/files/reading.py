"""`open_rows`: the rows of whatever path a user gives, for every command and for Python."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from os.path import expanduser
from pathlib import Path

from tenor.data.files.archives import refuse_archive
from tenor.data.files.arff import SUFFIX as ARFF
from tenor.data.files.arff import arff_refusal
from tenor.data.files.arrow_files import (
    arrow_rows,
    common_schema,
    holds,
    in_types,
    is_saved_dataset,
    saved_dataset_rows,
)
from tenor.data.files.columns_added import partition_folders, selected, selection_of, with_constant
from tenor.data.files.delimited import delimited_rows, with_other_faults
from tenor.data.files.folders import (
    class_folder_rows,
    class_folders,
    data_files,
    format_suffix,
    inner_folders,
    is_glob,
    matching,
    refuse_class_files,
    shards,
    without_empty,
)
from tenor.data.files.formats import ACCEPTED, FORMATS, recognize_format
from tenor.data.files.json_records import json_rows
from tenor.data.files.labelled_lines import conversion
from tenor.data.files.nested import with_struct_fields
from tenor.data.files.opening import NotUtf8, encoding_of, is_empty, require_text, require_utf16
from tenor.data.files.plain_lines import plain_rows
from tenor.data.files.stream import Block, FileRows, Limits
from tenor.data.files.workbooks import workbook_rows
from tenor.errors import UserError

CHECK = "Check data.path and data.test_path, or --input."


def open_rows(path: str | Path, required: Sequence[str] = (), strict_text: bool = False) -> FileRows:
    """Examine a file, a folder or a glob, and return its rows as a stream.

    A folder is one that `datasets` saved, one with a folder of texts per class, one partitioned by a column
    (`label=positive/`), or one of shards with the same columns. `workbook.xlsx#Sheet` names a sheet;
    `reviews.csv#split=train` and `reviews.csv#split!=test` choose rows by a column. `required` are the columns that the
    caller needs. The caller checks whether they exist; here their absence helps to recognize a first row that is no
    header. A name with dots is a field within a column, if no column has this name. With `strict_text` any byte that is
    not UTF-8 and any NUL is an error; without, it is a fault of its row.

    Raises UserError for what cannot be read, with the way to something that can.
    """
    place = Path(expanduser(path))
    try:
        place, selection = selection_of(place)
        rows = with_struct_fields(_open(place, required, strict_text), required)
        return rows if selection is None else selected(rows, selection)
    except OSError as error:
        raise UserError(f"{error.filename or place}: cannot be read: {error.strerror or error}.") from error
    except ValueError as error:  # NUL in the path.
        raise UserError(f"{place}: is not a path ({error}).") from error


def _open(place: Path, required: Sequence[str], strict_text: bool) -> FileRows:
    if place.is_dir():
        return _folder(place, required, strict_text)
    if is_glob(place):
        files = matching(place)
        refuse_class_files(files)
        return _joined(files, place, required, strict_text)
    return _file(place, required, strict_text)


def _file(path: Path, required: Sequence[str], strict_text: bool, others: Sequence[Path] = ()) -> FileRows:
    path, sheet = _sheet(path)
    if not path.exists():
        raise UserError(f"{path}: no such file. {CHECK}")
    if not path.is_file():
        raise UserError(f"{path}: is not a regular file. Write the rows to a regular file first.")
    refuse_archive(path)
    if format_suffix(path) == ARFF:
        raise arff_refusal(path, required)
    found = recognize_format(path)
    if is_empty(path) and (strict_text or found.kind not in ("json", "plain")):
        raise UserError(f"{path}: is empty, expected one text per row.")
    if found.kind in ("delimited", "json", "plain"):
        if strict_text:
            try:
                require_text(path)
            except NotUtf8 as error:
                if found.kind == "delimited" and not others:
                    raise with_other_faults(error, path, required) from error
                is_one = found.kind == "plain" and not others and len(required) > 1 and error.encoding is not None
                if is_one and (told := conversion(path, required[0], required[1], error.encoding)):
                    raise UserError(f"{error.head} It looks like {error.encoding}. {told}") from error
                raise
        elif encoding_of(path) == "utf-16":
            require_utf16(path)
    match found.kind:
        case "delimited":
            return delimited_rows(path, required, others)
        case "json":
            return json_rows(path, required)
        case "arrow":
            return arrow_rows([path], str(path), path.name)
        case "excel":
            return workbook_rows(path, sheet, required)
    return plain_rows(path, others)


def _sheet(path: Path) -> tuple[Path, str | None]:
    """The path of a workbook and the sheet that is named after a #."""
    name, mark, sheet = str(path).rpartition("#")
    if mark and not path.exists() and FORMATS.get(format_suffix(Path(name))) == "excel":
        return Path(name), sheet
    return path, None


def _folder(folder: Path, required: Sequence[str], strict_text: bool) -> FileRows:
    if is_saved_dataset(folder):
        return saved_dataset_rows(folder)
    if classes := class_folders(folder):
        return class_folder_rows(folder, classes)
    files = data_files(folder)
    if not files and (parts := partition_folders(folder)):
        return _partitioned(folder, parts, required, strict_text)
    if not files and len(inner := inner_folders(folder)) == 1:
        rows = _folder(inner[0], required, strict_text)
        return replace(rows, notes=(f"{folder}: the rows are those of {inner[0]}.", *rows.notes))
    return _joined(shards(folder, files), folder, required, strict_text)


def _partitioned(
    folder: Path, parts: Sequence[tuple[Path, str, str | None]], required: Sequence[str], strict_text: bool
) -> FileRows:
    """The rows of folders that share the values of a column; their files have the other columns."""
    key = parts[0][1]
    others = [name for name in required if name != key]
    read = [with_constant(_folder(path, others, strict_text), key, value) for path, _, value in parts]
    names = ", ".join(path.name for path, *_ in parts[:5]) + (", …" if len(parts) > 5 else "")
    return _chained(read, folder, (f"{folder}: the column {key!r} is that of the folders' names, {names}.",))


def _joined(files: Sequence[Path], where: Path, required: Sequence[str], strict_text: bool) -> FileRows:
    """Files that are read one after another. Raises UserError if their formats or their columns differ."""
    files = without_empty(files)
    kinds = {FORMATS.get(format_suffix(path)) for path in files}
    if None in kinds or len(kinds) > 1:
        names = ", ".join(path.name for path in files[:5])
        raise UserError(
            f"{where}: matches files of several formats, or of an unknown one: {names}. Expected {ACCEPTED}."
        )
    if kinds == {"arrow"}:
        for path in files:
            recognize_format(path)
        return arrow_rows(files, str(where), where.name)
    return _chained(
        [_file(path, required, strict_text, [one for one in files if one != path]) for path in files], where
    )


def _chained(parts: Sequence[FileRows], where: Path, notes: Sequence[str] = ()) -> FileRows:
    """Rows that follow one another. Raises UserError if their columns differ."""
    first = parts[0]
    schema = None if first.schema is None else common_schema([part.schema for part in parts if part.schema is not None])
    for part in parts:
        if (part.unit, part.kind) != (first.unit, first.kind) or _sorted(part) != _sorted(first):
            raise UserError(
                f"{part.where}: has the columns {_shown(part)}, expected {_shown(first)} as in {first.where}. Give "
                "files with the same columns."
            )
        if part.schema is not None and schema is not None and not holds(schema, part.schema):
            raise UserError(
                f"{part.where}: its columns have other types than those of {first.where}. Write all files with the "
                "same types."
            )

    def read(limits: Limits, choose: Sequence[str] | None) -> Iterator[Block]:
        names = list(first.columns) if choose is None and first.columns is not None else choose
        before = 0
        for part in parts:
            file, is_file = part.files[0].name, part.unit == "file"
            for block in part.read(limits, names):
                table = block.table if schema is None else in_types(block.table, schema)
                numbers = [before + number for number in block.numbers] if is_file else block.numbers
                yield Block(table, numbers, block.faults, block.records, "" if is_file else block.file or file)
            before += len(part.files)

    notes = tuple(dict.fromkeys([*notes, *(note for part in parts for note in part.notes)]))
    reading = {str(at): part.reading for at, part in enumerate(parts) if part.reading}
    files = tuple(file for part in parts for file in part.files)
    return FileRows(
        *(str(where), where.name, first.unit, first.kind, first.columns, read, files),
        notes=notes,
        schema=schema,
        reading=reading,
        below_header=first.below_header,
    )


def _sorted(rows: FileRows) -> list[str] | None:
    return None if rows.columns is None else sorted(rows.columns)


def _shown(rows: FileRows) -> str:
    return "of JSON" if rows.columns is None else ", ".join(map(repr, rows.columns[:30]))
