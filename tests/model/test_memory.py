"""Memory that a training step gave back serves the next one, without the system clearing its pages again, and within a
bound."""

import platform
import subprocess
import sys

import psutil
import pytest
import torch

from overlapping import in_turns
from tenor.model import memory
from tenor.model.memory import freed_memory_kept

PROGRAM = """
import contextlib, resource, sys
from concurrent.futures import ThreadPoolExecutor
from tenor.model.memory import freed_memory_kept, use_one_heap
kept, in_threads = sys.argv[1] == "kept", sys.argv[2] == "threads"
if kept:
    use_one_heap()
import torch
def work(_):
    for _ in range(40):
        torch.ones(3_000_000), torch.ones(12_000_000)
with freed_memory_kept() if kept else contextlib.nullcontext(), ThreadPoolExecutor(2) as pool:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    list(pool.map(work, range(2))) if in_threads else work(0)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be set to keep freed memory")


def page_faults(*mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *mode], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["main", "threads"])
def test_a_tensor_takes_the_pages_of_the_one_before(where: str) -> None:
    # Other memory between two tensors may prevent a place from being reused a few times.
    assert page_faults("kept", where) < page_faults("given back", where) / 2


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


def without_leftovers() -> int:
    """What the process holds once nothing that earlier tests freed is left in it, bytes."""
    with freed_memory_kept():
        pass
    return resident()


def free_a_quarter_gigabyte() -> None:
    tensors = [torch.ones(2**20) for _ in range(64)]
    del tensors


@pytest.mark.parametrize(("most", "kept"), [(2**27, False), (2**40, True)])
def test_between_steps_free_memory_beyond_the_bound_is_returned(
    most: int, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MOST_FREE", most)
    before = without_leftovers()
    with freed_memory_kept() as bound:
        free_a_quarter_gigabyte()
        assert resident() - before > 2**27
        bound()
        assert (resident() - before > 2**27) == kept


def test_free_memory_is_returned_at_most_once_in_so_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_FREE", 2**27)
    monkeypatch.setattr(memory, "STEPS_BETWEEN", 3)
    before = without_leftovers()
    kept = []
    with freed_memory_kept() as bound:
        for _ in range(9):
            free_a_quarter_gigabyte()
            bound()
            kept.append(resident() - before > 2**27)
    assert kept == [False, True, True, True, False, True, True, True, False]


def test_afterwards_the_process_keeps_little() -> None:
    before = without_leftovers()
    with freed_memory_kept():
        free_a_quarter_gigabyte()
    assert resident() - before < 2**26


def test_another_c_library_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Musl:
        """Without `mallopt`: a call of it would raise."""

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: Musl())
    with freed_memory_kept() as bound:
        bound()


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_blocks_of_two_threads_keep_memory_until_the_last_ends(
    monkeypatch: pytest.MonkeyPatch, first_ends_first: bool
) -> None:
    set_last: dict[int, int] = {}

    class Glibc:
        """Records its calls."""

        class Counts:
            fordblks = 0

        def __init__(self) -> None:
            self.mallinfo2 = Glibc.Counts

        def mallopt(self, kind: int, value: int) -> None:
            set_last[kind] = value

        def malloc_trim(self, _: int) -> None: ...

    monkeypatch.setattr(memory, "_glibc", Glibc)
    kept, own = (memory.LARGEST_KEPT, memory.NO_LIMIT), (memory.OWN_LARGEST, memory.OWN_LIMIT)

    def now() -> tuple[int, int]:
        return set_last[memory.M_MMAP_THRESHOLD], set_last[memory.M_TRIM_THRESHOLD]

    assert in_turns(freed_memory_kept, freed_memory_kept, now, first_ends_first) == [kept, kept, kept, own]
