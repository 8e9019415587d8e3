"""Memory that an operation gave back serves the next one, without the system clearing its pages anew."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from tenor.model.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    torch.ones(12_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 12_000_000 * 4 // 4096


def page_faults(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep what is freed")
def test_a_tensor_takes_the_pages_of_the_one_before() -> None:
    assert page_faults("given back") > 39 * PAGES
    # What lies between two tensors may keep a place from being taken again, a few times.
    assert page_faults("kept") < 20 * PAGES
