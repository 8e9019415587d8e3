"""Which format a file has: by its suffix, checked against its first bytes; and how to get there from other formats."""

from dataclasses import dataclass
from pathlib import Path, PurePath
from shlex import quote
from typing import Literal

from tenor.data.files.headers import nearest
from tenor.data.files.opening import COMPRESSIONS, compression_of, inner_name, open_bytes, set_path
from tenor.errors import UserError

Kind = Literal["delimited", "json", "arrow", "excel", "plain"]
FORMATS: dict[str, Kind] = {
    ".csv": "delimited",
    ".tsv": "delimited",
    ".tab": "delimited",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "arrow",
    ".pq": "arrow",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".xlsx": "excel",
    ".xlsm": "excel",
    ".xlsb": "excel",
    ".xls": "excel",
    ".ods": "excel",
    ".txt": "plain",
    ".ft": "plain",
}
ACCEPTED = (
    ".csv, .tsv, .jsonl, .json, .parquet, .arrow, .feather, .xlsx, .txt, each also with .gz, .bz2, .zst, .xz or .zip"
)

_PANDAS = 'python -c "import pandas; pandas.{}({!r}{}).to_parquet({!r})"'


def _by_pandas(reader: str, more: str = "") -> str:
    return "Convert it: " + _PANDAS.replace("{}", reader, 1).replace("{!r}{}", "'{name}'" + more, 1).replace(
        "{!r}", "'{stem}.parquet'"
    )


REFUSED: dict[str, str] = {
    **dict.fromkeys(
        (".pkl", ".pickle", ".p", ".joblib"),
        "Pickle files can run code, so they are not read. In a program that you trust: "
        "pandas.read_pickle('{name}').to_parquet('{stem}.parquet')",
    ),
    ".xml": _by_pandas("read_xml"),
    ".html": "Convert it: python -c \"import pandas; pandas.read_html('{name}')[0].to_parquet('{stem}.parquet')\"",
    ".dta": _by_pandas("read_stata"),
    ".sav": _by_pandas("read_spss"),
    ".sas7bdat": _by_pandas("read_sas", ", encoding='utf-8'"),
    ".orc": _by_pandas("read_orc"),
    **dict.fromkeys((".h5", ".hdf5", ".hdf"), _by_pandas("read_hdf")),
    **dict.fromkeys(
        (".db", ".sqlite", ".sqlite3"),
        "Export the table: sqlite3 -header -csv '{name}' 'SELECT * FROM TABLE' > '{stem}.csv'",
    ),
    **dict.fromkeys(
        (".docx", ".doc", ".pdf", ".rtf", ".odt"), "Copy its table into a spreadsheet, and save that as .xlsx or .csv"
    ),
    **dict.fromkeys(
        (".npy", ".npz"),
        "Write texts and labels as columns: pandas.DataFrame({{'text': …, 'label': …}}).to_parquet('{stem}.parquet')",
    ),
    **dict.fromkeys((".rds", ".rdata", ".rda"), "In R: write.csv(readRDS('{name}'), '{stem}.csv', row.names = FALSE)"),
    **dict.fromkeys((".yaml", ".yml"), "Write its records as JSON Lines (.jsonl): one object per line"),
    **dict.fromkeys(
        (".avro", ".tfrecord", ".msgpack", ".pt", ".pth", ".mat", ".bin"),
        "Write its rows as Parquet, CSV or JSON Lines",
    ),
    **dict.fromkeys((".tar", ".tgz", ".7z", ".rar"), "Extract the archive, and give the path of a file or a folder"),
    ".numbers": "Export it from Numbers as CSV or Excel",
    ".md": "Write its rows as CSV, or as a .txt file with one text per line",
}
"""Other formats, and how to get from each to one that is read; `{name}` and `{stem}` are the file's."""

_SIGNATURES: tuple[tuple[bytes, str, tuple[str, ...]], ...] = (
    (b"PAR1", "a Parquet file", (".parquet", ".pq")),
    (b"ARROW1", "an Arrow file", (".arrow", ".feather", ".ipc")),
    (b"\x1f\x8b", "compressed with gzip", (".gz",)),
    (b"BZh", "compressed with bzip2", (".bz2",)),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard", (".zst",)),
    (b"\xfd7zXZ\0", "compressed with xz", (".xz",)),
    (b"PK\x03\x04", "an Excel workbook or a zip archive", (".xlsx", ".zip", ".xlsm", ".xlsb", ".ods")),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", (".xls", ".xlsx")),
    (b"SQLite format 3", "an SQLite database", (".sqlite",)),
    (b"%PDF", "a PDF document", (".pdf",)),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself", ()),
)


UNQUOTED = frozenset("'\"\\$`!\n")


@dataclass(frozen=True)
class FileFormat:
    """A recognized format."""

    kind: Kind
    suffix: str
    """In lower case, without that of the compression."""


def recognize_format(path: Path) -> FileFormat:
    """The format of a file. Raises UserError for one that is not read, with the way to one that is, and for a file
    whose first bytes belong to another format."""
    _require_packed(path)
    name = PurePath(inner_name(path))
    suffix = name.suffix.lower()
    if suffix in FORMATS:
        _require_content(path, suffix)
        return FileFormat(FORMATS[suffix], suffix)
    if suffix in REFUSED:
        # A name with such characters would end the quotes of the command.
        known = path.with_name(name.name) if UNQUOTED.isdisjoint(str(path)) else Path(f"FILE{suffix}")
        how = REFUSED[suffix].format(name=known, stem=known.with_suffix(""))
        written = next((end for end in (".parquet", ".csv") if f"{{stem}}{end}" in REFUSED[suffix]), None)
        then = f", and {set_path(known.with_suffix(written))}" if written else ""
        raise UserError(f"{path}: {suffix} files are not read. {how}{then}.")
    if _is_fasttext(path):
        return FileFormat(FORMATS[".txt"], ".txt")
    raise UserError(f"{path}: unknown suffix {suffix!r}{_near(suffix)}, expected one of {ACCEPTED}. {_how(path, name)}")


def _is_fasttext(path: Path) -> bool:
    """Whether the first line begins with a label as fastText writes it, whose files are named `.train`, `.valid`, …"""
    with open_bytes(path) as content:
        return content.read(64).lstrip(b"\xef\xbb\xbf \r\n").startswith(b"__label__")


def _near(suffix: str) -> str:
    return nearest(suffix, FORMATS) if suffix else ""


def _how(path: Path, name: PurePath) -> str:
    """The new name for a file, by its content."""
    if (found := _signature(path)) is not None:
        what, suffixes = found
        return f"It is {what}: rename it to {name.name + suffixes[0]!r}." if suffixes else f"It is {what}."
    with open_bytes(path) as content:
        start = content.read(4096)
    first = start.lstrip(b"\xef\xbb\xbf \r\n\t")
    line = first.partition(b"\n")[0]
    if b"\0" in start:
        return "Is it a binary file? Write its rows as Parquet, CSV or JSON Lines."
    if first[:1] == b"{" or first[:1] == b"[":
        suffix = ".jsonl" if first[:1] == b"{" else ".json"
    else:
        suffix = ".tsv" if b"\t" in line else ".csv" if b"," in line or b";" in line else ".txt"
    packed = path.suffix if compression_of(path) else ""
    new = f"{name.stem if name.suffix else name.name}{suffix}{packed}"
    return f"If it is text, rename it: mv {quote(str(path))} {quote(str(path.with_name(new)))}"


def _require_packed(path: Path) -> None:
    suffix = path.suffix.lower()
    if suffix in COMPRESSIONS and PurePath(path.stem).suffix.lower() == ".tar":
        raise UserError(
            f"{path}: archives are not read. Extract it (tar -xf {quote(str(path))}), and give the path of a "
            "file or folder."
        )
    if suffix in COMPRESSIONS:
        with open(path, "rb") as file:
            start = file.read(16)
        found = next((one for one in _SIGNATURES if start.startswith(one[0])), None)
        if found is None or suffix not in found[2]:
            what = "not compressed" if found is None else found[1]
            fix = f"Rename it to {path.stem!r}" if found is None or suffix == "" else "Correct its suffix"
            raise UserError(f"{path}: is {what}, unlike its suffix {suffix!r}. {fix}, or download it again.")


def _require_content(path: Path, suffix: str) -> None:
    found = _signature(path)
    if found is None or suffix in found[1]:
        return
    what, suffixes = found
    fix = (
        f"Rename it to {path.name + suffixes[0]!r}"
        if suffixes and suffixes[0] in COMPRESSIONS
        else (f"Rename it to {path.stem + suffixes[0]!r}" if suffixes else "Fetch the file: git lfs pull")
    )
    raise UserError(f"{path}: is {what}, unlike its suffix {suffix!r}. {fix}.")


def _signature(path: Path) -> tuple[str, tuple[str, ...]] | None:
    with open_bytes(path) as content:
        start = content.read(32)
    return next(((what, suffixes) for magic, what, suffixes in _SIGNATURES if start.startswith(magic)), None)
