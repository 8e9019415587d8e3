"""Well-known files without a header, and in an encoding of their own: read as they are published."""

import codecs
import io
import re
from typing import BinaryIO

SENTIMENT140 = re.compile(
    rb'"[024]","\d{1,20}","\w{3} \w{3} \d\d \d\d:\d\d:\d\d \w{3,4} \d{4}","[^"\r\n]{0,200}","[^"\r\n]{0,200}","'
)
"""The first row of `training.1600000.processed.noemoticon.csv` and `testdata.manual.2009.06.14.csv` (Go, Bhayani and
Huang 2009): polarity, id, date, query, user and text."""
SENTIMENT140_HEADER = b'"target","ids","date","flag","user","text"\n'
"""The names that its users gave the columns."""
START_BYTES = 1024
READ_NOTE = (
    "is in the format of Sentiment140, without a header: the columns are called target, ids, date, flag, user and "
    "text, and bytes that are not UTF-8 are read as WINDOWS-1252"
)
MIXED = "tenor-mixed"
"""The error handler that decodes bytes that are not UTF-8 as WINDOWS-1252, and those that it lacks as Latin-1."""


def is_sentiment140(start: bytes) -> bool:
    """Whether the first bytes of a file are those of Sentiment140."""
    return SENTIMENT140.match(start) is not None


def with_header(content: BinaryIO) -> io.TextIOWrapper:
    """The text of Sentiment140 below its header."""
    raw = io.BufferedReader(_Headed(SENTIMENT140_HEADER, content), START_BYTES**2)
    return io.TextIOWrapper(raw, "utf-8", MIXED, "")


class _Headed(io.RawIOBase):
    """A stream below some bytes."""

    def __init__(self, header: bytes, content: BinaryIO) -> None:
        self.header, self.content = header, content

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        if self.header:
            part, self.header = self.header[: len(view)], self.header[len(view) :]
        else:
            part = self.content.read(len(view))
        view[: len(part)] = part
        return len(part)

    def close(self) -> None:
        if not self.closed:
            self.content.close()
        super().close()


def _decoded(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    part = error.object[error.start : error.end]
    try:
        return part.decode("cp1252"), error.end
    except UnicodeDecodeError:
        return part.decode("latin-1"), error.end


codecs.register_error(MIXED, _decoded)
