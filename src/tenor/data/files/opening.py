"""Opens a file as bytes or text: decompressed, without a byte-order mark, and in UTF-8 whatever its encoding was."""

import codecs
import io
import lzma
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from shlex import quote
from typing import IO, Any, BinaryIO, TextIO, cast

import pyarrow as pa

from tenor.data.files.headerless import MIXED, START_BYTES, is_sentiment140, with_header
from tenor.errors import UserError
from tenor.runs.files import cache_folder

PART_BYTES = 2**20
UNPACK = {"gzip": "gzip -dc", "bzip2": "bzip2 -dc", "zstd": "zstd -dc", "xz": "xz -dc", "zip": "unzip -p"}
"""Commands that print the content of a compressed file."""
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".xz": "xz", ".zip": "zip"}
MOST_EXPANSION = 1000
"""Uncompressed bytes per compressed byte; natural text has 3 to 10."""
ALWAYS_ALLOWED = 2**30
"""Uncompressed bytes that are read whatever the expansion."""
DECOMPRESSION_ERRORS = (zlib.error, lzma.LZMAError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError)
IGNORED = re.compile(
    r"[._].*|readme(\..*)?|license(\..*)?|dataset_infos?\.json|.*\.(md|crc|lock|sha256|md5)", re.IGNORECASE
)
"""Files that other programs leave next to data."""
SHOWN_MEMBERS = 5
UTF32 = (codecs.BOM_UTF32_LE, b"\0\0\xfe\xff")
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def compression_of(path: Path) -> str | None:
    """The compression that a path's last suffix names, or None."""
    return COMPRESSIONS.get(path.suffix.lower())


def inner_name(path: Path) -> str:
    """The name of the file within a compressed one; of a file that is not compressed, its own name.

    Raises UserError for a zip archive without a file or with several.
    """
    match compression_of(path):
        case None:
            return path.name
        case "zip":
            with _explained(path), zipfile.ZipFile(path) as archive:
                return PurePosixPath(_only_member(path, archive).filename).name
    return path.name[: -len(path.suffix)]


def open_bytes(path: Path) -> BinaryIO:
    """The decompressed bytes of a file. Errors in the compressed data are raised on reading; see `reading`."""
    kind = compression_of(path)
    if kind is None:
        return open(path, "rb")
    with _explained(path):
        return cast(BinaryIO, io.BufferedReader(_Bounded(path, _decompressed(path, kind)), PART_BYTES))


def _decompressed(path: Path, kind: str) -> Any:
    if kind == "xz":
        return lzma.open(path)
    if kind == "zip":
        archive = zipfile.ZipFile(path)
        return archive.open(_only_member(path, archive))
    return pa.CompressedInputStream(pa.OSFile(str(path)), kind)


def _only_member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = data_members(archive.infolist())
    if len(members) != 1:
        shown = ", ".join(repr(info.filename) for info in members[:SHOWN_MEMBERS])
        listed = f": {shown}{', …' if len(members) > SHOWN_MEMBERS else ''}" if members else ""
        folder = quote(str(path.with_name(f"{path.stem}_extracted")))
        raise UserError(
            f"{path}: contains {len(members):,} files{listed}, expected one. Extract it (unzip {quote(str(path))} -d "
            f"{folder}) and give the path of what it contains."
        )
    if members[0].flag_bits & 1:
        raise UserError(f"{path}: is encrypted. Extract it with its password: unzip {quote(str(path))}")
    return members[0]


def unpacking(path: Path) -> str:
    """A command that writes the content of a compressed file to standard output; of a zip archive, that of its file of
    data."""
    kind = compression_of(path)
    assert kind is not None
    command = f"{UNPACK[kind]} {quote(str(path))}"
    if kind != "zip":
        return command
    with _explained(path), zipfile.ZipFile(path) as archive:
        member = _only_member(path, archive)
        is_alone = len(archive.infolist()) == 1
    pattern = re.sub(r"([\[*?])", r"[\1]", member.filename)  # unzip takes patterns.
    return command if is_alone else f"{command} {quote(pattern)}"


def data_members(members: Sequence[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """The files in a zip archive, without those that other programs leave next to data, if there are others."""
    files = [info for info in members if not info.is_dir()]
    found = [info for info in files if not any(map(IGNORED.fullmatch, PurePosixPath(info.filename).parts))]
    return found or [info for info in files if not PurePosixPath(info.filename).name.startswith((".", "._"))]


class _Bounded(io.RawIOBase):
    """A decompressed stream that ends in a UserError if it expands beyond any text: a decompression bomb."""

    def __init__(self, path: Path, stream: Any) -> None:
        self.path, self.stream, self.count = path, stream, 0
        self.limit = max(ALWAYS_ALLOWED, MOST_EXPANSION * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _explained(self.path):
            part = self.stream.read(len(buffer))
        self.count += len(part)
        if self.count > self.limit:
            raise UserError(
                f"{self.path}: contains more than {MOST_EXPANSION:,} times its size, unlike any text. If that is "
                "right, decompress it first."
            )
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        if not self.closed:
            self.stream.close()
        super().close()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Errors of compressed data as UserError."""
    try:
        yield
    except UserError:
        raise
    except (*DECOMPRESSION_ERRORS, pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.strerror is not None:
            raise
        kind = compression_of(path)
        raise UserError(
            f"{path}: is not a valid {kind} file: {error}. It may be incomplete, or have the wrong suffix; write or "
            "download it again."
        ) from error


@contextmanager
def plain_file(path: Path) -> Iterator[IO[bytes] | Path]:
    """The path itself, or for a compressed file an unnamed decompressed copy in the cache folder, which is removed: for
    formats that are not read from beginning to end."""
    if compression_of(path) is None:
        yield path
        return
    with tempfile.TemporaryFile(dir=cache_folder("rows")) as copy:
        with open_bytes(path) as content:
            while part := content.read(PART_BYTES):
                copy.write(part)
        copy.seek(0)
        yield copy


def most_bytes(path: Path) -> int:
    """An upper bound of the size of a file once decompressed."""
    size = path.stat().st_size
    return size if compression_of(path) is None else max(ALWAYS_ALLOWED, MOST_EXPANSION * size)


def is_empty(path: Path) -> bool:
    with open_bytes(path) as content:
        return not content.read(1)


def encoding_of(path: Path) -> str:
    """`utf-8-sig` or, if a byte-order mark says so, `utf-16`."""
    with open_bytes(path) as content:
        start = content.read(4)
    if start in UTF32:
        raise UserError(f"{path}: is encoded in UTF-32. Save it as UTF-8 and {_convert(path, 'UTF-32')}")
    return "utf-16" if start.startswith(UTF16) else "utf-8-sig"


def open_text(path: Path, newline: str = "") -> TextIO:
    """Open a text file; a byte that is not UTF-8 becomes a lone surrogate, so that only its own row is invalid."""
    encoding = encoding_of(path)
    errors = "replace" if encoding == "utf-16" else "surrogateescape"  # `require_utf16` has checked it.
    if is_known_without_header(path):
        return with_header(open_bytes(path))
    return io.TextIOWrapper(open_bytes(path), encoding, errors, newline)


def is_known_without_header(path: Path) -> bool:
    """Whether a file is Sentiment140, which is read below a header and in its own encoding."""
    if PurePosixPath(inner_name(path)).suffix.lower() != ".csv":
        return False
    with open_bytes(path) as content:
        return is_sentiment140(content.read(START_BYTES))


class NotUtf8(UserError):
    """A file has bytes that are not UTF-8."""

    def __init__(self, head: str, fix: str, encoding: str | None) -> None:
        super().__init__(f"{head} {fix}")
        self.head = head
        """The place of the first such byte."""
        self.encoding = encoding
        """The encoding that the whole file seems to have; None if other parts of it are UTF-8."""


def require_text(path: Path) -> None:
    """Raises UserError unless all bytes are valid text without NUL; the message names the first byte that is not, and
    a command that converts the file."""
    encoding = encoding_of(path)
    if encoding == "utf-16":
        require_utf16(path)
        return
    decoder = codecs.getincrementaldecoder("utf-8")(MIXED if is_known_without_header(path) else "strict")
    start, line = 0, 1
    with open_bytes(path) as content:
        while True:
            part = content.read(PART_BYTES)
            if (nul := part.find(b"\0")) >= 0:
                raise UserError(f"{path}: {_byte_place(part, nul, start, line)} is NUL, {_why_nul(path)}")
            incomplete = decoder.getstate()[0]  # The first bytes of a character that is split between two parts.
            try:
                decoder.decode(part, final=not part)
            except UnicodeDecodeError as error:
                decoded = incomplete + part
                place = _byte_place(decoded, error.start, start - len(incomplete), line)
                head = f"{path}: is not UTF-8: {place} is 0x{decoded[error.start]:02X}, {error.reason}."
                whole = likely_encoding(path) if other_lines(path) is None else None
                raise NotUtf8(head, encoding_fix(path), whole) from error
            if not part:
                return
            start, line = start + len(part), line + part.count(b"\n")


def require_utf16(path: Path) -> None:
    """Raises UserError for a file with the byte-order mark of UTF-16 that is not UTF-16."""
    decoder = codecs.getincrementaldecoder("utf-16")()
    start = 0
    with open_bytes(path) as content:
        while True:
            part = content.read(PART_BYTES)
            try:
                decoder.decode(part, final=not part)
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path}: begins like UTF-16, but is not: byte {start + error.start:,}: {error.reason}. It may be "
                    "incomplete; save it again as UTF-8."
                ) from error
            if not part:
                return
            start += len(part)


def other_encoding(path: Path) -> str | None:
    """The encoding that a file seems to have; None if it is UTF-8 or UTF-16."""
    try:
        require_text(path)
    except UserError:
        return likely_encoding(path)
    return None


def encoding_fix(path: Path, *, more: str = "") -> str:
    """The next step for a file that is not UTF-8, with further settings."""
    if (lines := other_lines(path)) is not None:
        listed = ", ".join(f"{number:,}" for number in lines.first) + (", …" if lines.count > len(lines.first) else "")
        which = f"1 line ({listed}) is" if lines.count == 1 else f"{lines.count:,} lines ({listed}) are"
        return (
            f"{which} not UTF-8 and may be {lines.encoding}; the rest of the file is UTF-8. Convert only these "
            f"characters and {_written(path, f'python -c {quote(lines.program)}', more)}"
        )
    encoding = likely_encoding(path)
    return f"It looks like {encoding}. Save it as UTF-8 and {_convert(path, encoding, more)}"


@dataclass(frozen=True)
class OtherLines:
    """The lines of a file that are not UTF-8, where the other ones are."""

    count: int
    first: tuple[int, ...]
    """The numbers of the first ones."""
    encoding: str

    @property
    def program(self) -> str:
        """A program that reads the file and writes it in UTF-8. Single bytes are replaced one by one, since the line
        may have characters in UTF-8, too; characters of several bytes line by line."""
        if self.encoding in SINGLE_BYTE:
            other = f'lambda e: (e.object[e.start:e.end].decode("{self.encoding}"), e.end)'
            start, written = f'codecs.register_error("other", {other}); ', 'line.decode("utf-8", "other").encode()'
        else:
            start, is_utf8 = "", 'line.decode("utf-8", "ignore").encode() == line'
            written = f'line if {is_utf8} else line.decode("{self.encoding}").encode()'
        return f"import codecs, sys; {start}[sys.stdout.buffer.write({written}) for line in sys.stdin.buffer]"


def other_lines(path: Path) -> OtherLines | None:
    """The lines that are not UTF-8 in a file of which others are; None if the whole file has another encoding."""
    first: list[int] = []
    sample = b""
    count = known = both = 0
    with open_bytes(path) as content:
        for number, line in enumerate(content, start=1):
            if not (single := _not_utf8(line)):
                known += not line.isascii()
                continue
            count += 1
            both += len(single) < sum(byte >= 0x80 for byte in line)
            first += [number] if len(first) < SHOWN_LINES else []
            sample += line if len(sample) < PART_BYTES else b""
    fits = [one for one in _likely(sample) if _lines_decode(path, one)]
    encoding = fits[0]
    least = FEWEST_WESTERN if encoding in SINGLE_BYTE else FEWEST_OTHER
    if known + (both if encoding in SINGLE_BYTE else 0) < max(1, least * (known + count)):
        return None
    return OtherLines(count, tuple(first), encoding)


SHOWN_LINES = 5
FEWEST_WESTERN, FEWEST_OTHER = 0.02, 0.1
"""Shares of the lines beyond ASCII that must be UTF-8: a few are by chance, such as `É»`, and more in other scripts."""


def _not_utf8(line: bytes) -> bytes:
    """The bytes that are no part of a character in UTF-8."""
    decoded = line.decode("utf-8", "surrogateescape")
    return bytes(ord(char) - 0xDC00 for char in decoded if "\udc80" <= char <= "\udcff")


def _lines_decode(path: Path, encoding: str) -> bool:
    """Whether the lines that are not UTF-8 are valid in an encoding; of a single-byte one, their bytes that are not."""
    with open_bytes(path) as content:
        for line in content:
            single = b"" if line.isascii() else _not_utf8(line)
            try:
                if single:
                    (single if encoding in SINGLE_BYTE else line).decode(encoding)
            except UnicodeDecodeError:
                return False
    return True


def set_path(new: Path, more: str = "") -> str:
    """The settings to give when a printed command has written a new file, with further ones."""
    return f"set data.path={quote(str(new))}{more} (or --input {quote(str(new))})"


def utf8_name(path: Path) -> Path:
    """The new file, next to a file that is not UTF-8, that printed commands write."""
    name = PurePosixPath(inner_name(path))
    return path.with_name(f"{name.stem}.utf8{name.suffix}")


def _convert(path: Path, encoding: str, more: str = "") -> str:
    """The settings and the command that converts a file."""
    return _written(path, f"iconv -f {encoding} -t UTF-8", more)


def _written(path: Path, converter: str, more: str) -> str:
    """The settings and the command that writes what a converter makes of a file."""
    new, kind = quote(str(utf8_name(path))), compression_of(path)
    if kind is not None:
        command = f"{unpacking(path)} | {converter} > {new}"
    elif converter.startswith("iconv"):
        command = f"{converter} {quote(str(path))} > {new}"
    else:
        command = f"{converter} < {quote(str(path))} > {new}"
    return f"{set_path(utf8_name(path), more)}, for instance: {command}"


def _why_nul(path: Path) -> str:
    with open_bytes(path) as content:
        sample = content.read(4096)
    for encoding, places in (("UTF-16LE", sample[1::2]), ("UTF-16BE", sample[::2])):
        if places.count(0) > 0.4 * len(places) > 0:
            return (
                f"expected UTF-8. It looks like UTF-16 without a byte-order mark. Save it as UTF-8 and "
                f"{_convert(path, encoding)}"
            )
    return "expected a text file. Is it a binary file?"


MULTIBYTE = ("CP932", "EUC-JP", "EUC-JISX0213", "EUC-KR", "CP949", "GB18030", "BIG5", "CP950", "BIG5-HKSCS")
"""East Asian encodings by the names that both Python and iconv know; of those of a language, the most usual first."""
SINGLE_BYTE = ("WINDOWS-1252", "ISO-8859-1")
"""Western European encodings; the last one decodes any bytes."""
SAMPLE_LINES = 200
FEWEST_KANA, FEWEST_HANGUL, FEWEST_KNOWN = 0.2, 0.8, 0.03
"""Shares of the characters beyond ASCII: natural Japanese has half of them, Korean nearly all, and the 40 most frequent
Chinese ones are a fifth. Chinese read as Korean has 0.6 of Hangul."""
LONE_BYTES = re.compile("[\x80\xa0\uf8f0-\uf8f3]")
"""What Python's CP932 reads from bytes that are no characters in it, where iconv fails."""
KNOWN_CHINESE = frozenset("的一是不了在人有我他这个们中来上大为和国地到以说时要就会可也你对過這個們來為說時會對很好")


def likely_encoding(path: Path) -> str:
    """The encoding that the file's other lines suggest: an East Asian one, Cyrillic or Western European. The whole file
    can be decoded by it."""
    sample = b""
    with open_bytes(path) as content:
        for line in iter(lambda: content.readline(PART_BYTES), b""):
            if not line.isascii():
                sample += line
                if sample.count(b"\n") >= SAMPLE_LINES or len(sample) > PART_BYTES:
                    break
    return next(one for one in _likely(sample) if _decodes(path, one))


def _likely(sample: bytes) -> list[str]:
    """The encodings that lines beyond ASCII may have, the most likely first; the last one decodes any bytes."""
    candidates = [encoding for encoding in MULTIBYTE if _is_script_of(sample, encoding)]
    if _share_in_runs(sample, 4) >= 0.5:
        candidates += _cyrillic(sample)
    return [*candidates, *SINGLE_BYTE]


def _share_in_runs(sample: bytes, least: int) -> float:
    """The share of the bytes beyond ASCII that follow one another, at least so many."""
    high = sum(byte >= 0x80 for byte in sample)
    return sum(map(len, re.findall(rb"[\x80-\xff]{%d,}" % least, sample))) / max(1, high)


def _is_script_of(sample: bytes, encoding: str) -> bool:
    """Whether `sample` in this encoding is text of its language; bytes of another may be valid, but mean rare signs."""
    try:
        beyond = [char for char in sample.decode(encoding) if not char.isascii()]
    except UnicodeDecodeError:
        return False
    counted = len(beyond) or 1
    if encoding in ("CP932", "EUC-JP", "EUC-JISX0213"):
        return sum("\u3040" <= char <= "\u30ff" for char in beyond) / counted >= FEWEST_KANA
    if _share_in_runs(sample, 2) < 0.5:  # One letter with an accent and the next one are valid as a Chinese sign.
        return False
    if encoding in ("EUC-KR", "CP949"):
        return sum("\uac00" <= char <= "\ud7a3" for char in beyond) / counted >= FEWEST_HANGUL
    return sum(char in KNOWN_CHINESE for char in beyond) / counted >= FEWEST_KNOWN


def _cyrillic(sample: bytes) -> list[str]:
    """The Cyrillic encodings, the one in which most letters are small first."""
    small = {one: sum(map(str.islower, sample.decode(one, "replace"))) for one in ("WINDOWS-1251", "KOI8-R")}
    return sorted(small, key=lambda one: -small[one])


def _decodes(path: Path, encoding: str) -> bool:
    """Whether a whole file is valid in an encoding, both for Python and for iconv."""
    decoder = codecs.getincrementaldecoder(encoding)()
    with open_bytes(path) as content:
        while True:
            part = content.read(PART_BYTES)
            try:
                if LONE_BYTES.search(decoder.decode(part, final=not part)) and encoding in MULTIBYTE:
                    return False
            except UnicodeDecodeError:
                return False
            if not part:
                return True


def _byte_place(part: bytes, at: int, start: int, line: int) -> str:
    """The position of a byte of a part in its file; the part begins at byte `start`, in line `line`."""
    lines = line + part.count(b"\n", 0, at)
    return f"byte {start + at:,} (line {lines:,})"
