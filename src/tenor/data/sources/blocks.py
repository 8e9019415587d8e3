"""Rows that are read block by block: kept in memory while they are few, else in a file that is mapped into it."""

import errno
import mmap
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import pyarrow as pa

from tenor.errors import TenorError
from tenor.runs.cache import cache_folder

IN_MEMORY = 2**27  # Bytes: four times IMDb's training reviews, and little beside what training takes.
BLOCK_ROWS = 2**14
BLOCK_CHARACTERS = 2**22
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def in_blocks(records: Iterable[Sequence[object]]) -> Iterator[list[Sequence[object]]]:
    """Records in order, at most `BLOCK_ROWS` together, and no more once their strings reach `BLOCK_CHARACTERS`."""
    block: list[Sequence[object]] = []
    characters = 0
    for record in records:
        block.append(record)
        characters += sum(len(value) for value in record if isinstance(value, str))
        if len(block) == BLOCK_ROWS or characters >= BLOCK_CHARACTERS:
            yield block
            block, characters = [], 0
    if block:
        yield block


def collect(blocks: Iterator[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """One table of all blocks.

    From `IN_MEMORY` bytes on they lie in a nameless file of the cache folder, and the system reads what is asked for.
    The file goes when the table does, however the process ends.
    """
    held: deque[pa.RecordBatch] = deque()
    size = 0
    for block in blocks:
        held.append(block)
        size += block.nbytes
        if size > IN_MEMORY:
            return _mapped(chain(_given_away(held), blocks), schema)
    return pa.Table.from_batches(held, schema)


def _given_away(held: deque[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    while held:
        yield held.popleft()


def _mapped(blocks: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    try:
        folder = cache_folder("rows")
        kept = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by `with` below)
    except OSError as error:
        raise TenorError(
            f"{error.filename}: rows that are too many for memory cannot be kept there: {error.strerror}. Set "
            "TENOR_CACHE to a folder that can be written."
        ) from error
    try:
        with kept as file:
            with pa.ipc.new_stream(pa.PythonFile(file, mode="w"), schema) as writer:
                for block in blocks:
                    writer.write_batch(block)
            file.flush()
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        if error.errno not in NO_ROOM:  # What the blocks are read from may fail too, and is told where it is read.
            raise
        raise TenorError(
            f"{folder}: rows that are too many for memory cannot be kept there: {error.strerror}. Make room, or set "
            "TENOR_CACHE to a folder that has some."
        ) from error
    return pa.ipc.open_stream(pa.py_buffer(mapped)).read_all()
