"""A cache entry is what was written, byte for byte, or is written again; a lock never outlives its process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tenor.runs.files import cached_file


def made(content: bytes = b"x" * 1000) -> tuple[bytes, bool]:
    """What the cache holds, and whether it had to be written."""
    written = []

    def write(path: Path) -> None:
        written.append(path)
        path.write_bytes(content)

    return cached_file("things", "entry.bin", write).read_bytes(), bool(written)


def test_an_intact_entry_is_read_and_not_written_again(own_cache: Path) -> None:
    assert made() == (b"x" * 1000, True)
    assert made(b"other") == (b"x" * 1000, False)


@pytest.mark.parametrize("name", ["entry.bin", "entry.bin.sha256"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove"])
def test_a_damaged_entry_is_written_again(name: str, damage: str, own_cache: Path) -> None:
    made()
    file = own_cache / "things" / name
    whole = file.read_bytes()
    match damage:
        case "flip":
            file.write_bytes(whole[:30] + bytes([whole[30] ^ 1]) + whole[31:])
        case "truncate":
            file.write_bytes(whole[:-1])
        case "empty":
            file.write_bytes(b"")
        case "remove":
            file.unlink()
    assert made() == (b"x" * 1000, True)
    assert made() == (b"x" * 1000, False)


HOLD = """
import sys, time
from pathlib import Path
from tenor.runs.files import cached_file

def write(path):
    path.write_bytes(b"half")
    print("holding", flush=True)
    time.sleep(600)

cached_file("things", "entry.bin", write)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_the_lock_of_a_process_that_was_killed_is_taken_over(own_cache: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    holder = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True, env=environment)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "holding\n"
    holder.kill()
    holder.wait(timeout=60)
    holder.stdout.close()
    assert made() == (b"x" * 1000, True)
    assert made(b"other") == (b"x" * 1000, False)
