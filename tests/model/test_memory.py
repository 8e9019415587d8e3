"""Memory that a training step gave back serves the next one, without the system clearing its pages anew, and within a
bound."""

import platform
import subprocess
import sys

import psutil
import pytest
import torch

from tenor.model import memory
from tenor.model.memory import free_bytes, freed_memory_kept

PROGRAM = """
import contextlib, resource, sys, torch
from tenor.model.memory import freed_memory_kept
with freed_memory_kept() if sys.argv[1] == "kept" else contextlib.nullcontext():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(40):
        torch.ones(12_000_000)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 12_000_000 * 4 // 4096

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep what is freed"
)


def page_faults(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_a_tensor_takes_the_pages_of_the_one_before() -> None:
    assert page_faults("given back") > 39 * PAGES
    # What lies between two tensors may keep a place from being taken again, a few times.
    assert page_faults("kept") < 20 * PAGES


def leave_free(count: int) -> int:
    """Free `count` tensors of 4 MB; the bytes that the process then keeps."""
    tensors = [torch.ones(2**20) for _ in range(count)]
    del tensors
    kept = free_bytes()
    assert kept is not None
    return kept


def test_free_memory_beyond_the_bound_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_FREE", 2**27)
    with freed_memory_kept() as bound:
        before = resident()
        assert leave_free(64) > 2**27
        assert resident() - before > 2**27
        bound()
        assert resident() - before < 2**26


def test_free_memory_within_the_bound_is_kept() -> None:
    with freed_memory_kept() as bound:
        before = resident()
        leave_free(64)
        bound()
        assert resident() - before > 2**27


def test_afterwards_the_process_keeps_little() -> None:
    before = resident()
    with freed_memory_kept():
        leave_free(64)
    assert resident() - before < 2**26


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


def test_another_c_library_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Musl:
        """Without `mallopt`."""

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: Musl())
    with freed_memory_kept() as bound:
        bound()
    assert free_bytes() is None
