"""JSON values one after another from a file, each as its text."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from tenor.data.files import dialect
from tenor.data.files.opening import open_text
from tenor.errors import UserError

PART_CHARACTERS = 2**16
_SPACE = re.compile(r"[ \t\r\n]*")
_LONGEST_TOKEN = 16
_LENIENT = json.JSONDecoder(parse_int=len, parse_float=len)
"""Finds where a value ends; numbers are converted later, where a fault is one of the record."""


class JsonScanner:
    """Reads JSON values one after another from a file, each as its text; memory is bounded by the largest.

    ijson would do, but its C backend ends the process on some inputs, where Python's own decoder raises an error.
    Raises UserError for text that is not JSON, and for a value larger than `dialect.MOST_CHARACTERS`.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.buffer, self.at, self.before, self.count = path, "", 0, 0, 0

    def __enter__(self) -> "JsonScanner":
        self.text = open_text(self.path, "\n")
        return self

    def __exit__(self, *raised: object) -> None:
        self.text.close()

    def peek(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            self.at = _SPACE.match(self.buffer, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.buffer):
                return self.buffer[self.at]
            if not self._more():
                return ""

    def take(self, expected: str) -> str:
        """The next character, one of `expected`."""
        found = self.peek()
        if not found or found not in expected:
            raise self._error(f"expected one of {' '.join(expected)}, observed {found or 'the end of the file'!r}")
        self.at += 1
        return found

    def names(self) -> Iterator[str]:
        """The keys of an object; the caller reads each value."""
        self.take("{")
        if self.peek() == "}":
            self.take("}")
            return
        while True:
            if self.peek() != '"':
                raise self._error("expected a key in double quotes")
            key = json.loads(self.value())
            self.take(":")
            yield key
            if self.take(",}") == "}":
                return

    def items(self) -> Iterator[str]:
        """The texts of the items of an array."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            yield self.value()
            if self.take(",]") == "]":
                return

    def objects(self) -> Iterator[None]:
        """For each object in an array; the caller reads it. Raises UserError for other items."""
        self.take("[")
        while self.peek() != "]":
            if self.peek() != "{":
                raise self._error("expected an object")
            yield
            if self.peek() != "]":
                self.take(",")
        self.take("]")

    def skip(self) -> None:
        """Read a value without keeping it."""
        if self.peek() == "[":
            for _ in self.items():
                pass
        else:
            self.value()

    def value(self) -> str:
        """The text of the next value."""
        self.peek()
        while True:
            try:
                _, end = _LENIENT.raw_decode(self.buffer, self.at)
            except json.JSONDecodeError as error:
                near_end = error.pos > len(self.buffer) - _LONGEST_TOKEN or error.msg.startswith("Unterminated string")
                if near_end and self._more():
                    continue
                raise self._error(error.msg) from error
            except RecursionError as error:
                raise self._error("values are nested too deeply") from error
            if end == len(self.buffer) and self._more():
                continue  # A number may go on.
            found, self.at = self.buffer[self.at : end], end
            self.count += 1
            return found

    def _more(self) -> bool:
        """Read on; the size doubles with the value, so that its beginning is decoded a few times only."""
        kept = self.buffer[self.at :]
        if len(kept) > dialect.MOST_CHARACTERS:
            raise UserError(
                f"{self.path}: a JSON value has {dialect.MOST_CHARACTERS:,} characters or more; expected one object "
                "per text."
            )
        part = self.text.read(max(PART_CHARACTERS, len(kept)))
        self.before += self.at
        self.buffer, self.at = kept + part, 0
        return bool(part)

    def _error(self, reason: str) -> UserError:
        place = f"character {self.before + self.at + 1:,}, after {self.count:,} values"
        return UserError(
            f"{self.path}: is not JSON from {place} on: {reason}. The file may be incomplete; write it again."
        )
