"""Process-wide settings are restored after all blocks have ended, in any order."""

import threading
import warnings
from contextlib import AbstractContextManager

import pytest

from overlapping import in_turns
from tenor.runs.process_state import OverlappingChange, warnings_ignored


class Setting:
    """A setting of a process, which blocks raise."""

    def __init__(self) -> None:
        self.value, self.reads = 1, 0
        self.change = OverlappingChange(self.read, self.write)

    def read(self) -> int:
        self.reads += 1
        return self.value

    def write(self, value: int) -> None:
        self.value = value

    def raised(self, value: int) -> AbstractContextManager[None]:
        return self.change.made(lambda: self.write(max(self.value, value)))


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_the_last_block_to_end_restores_the_state_before_the_first(first_ends_first: bool) -> None:
    setting = Setting()
    seen = in_turns(lambda: setting.raised(5), lambda: setting.raised(9), lambda: setting.value, first_ends_first)
    assert seen == [5, 9, 9, 1]
    with setting.raised(3):
        assert setting.value == 3
    assert (setting.value, setting.reads) == (1, 2)


def test_a_block_that_fails_puts_back_too() -> None:
    setting = Setting()
    with pytest.raises(KeyError), setting.raised(5):
        raise KeyError
    assert setting.value == 1


def test_warnings_are_heard_again_after_overlapping_blocks() -> None:
    before = list(warnings.filters)

    def work() -> None:
        for _ in range(200):
            with warnings_ignored():
                warnings.warn("unheard", stacklevel=1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
