"""The first signal ends the run in order; a second one ends it at once."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from tenor.training.signals import stop_requests

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """What reaches the handlers that were there before."""
    seen: list[int] = []
    before = {number: signal.signal(number, lambda n, frame: seen.append(n)) for number in SIGNALS}
    yield seen
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_remembered_and_the_second_acts_as_usual(number: signal.Signals, heard: list[int]) -> None:
    with stop_requests() as request:
        assert not request.signal_name
        os.kill(os.getpid(), number)
        assert request.signal_name == number.name
        assert heard == []
        os.kill(os.getpid(), number)
        assert heard == [number]


def test_handlers_are_put_back_even_after_an_error(heard: list[int]) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(RuntimeError), stop_requests():
        raise RuntimeError
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_other_threads_do_not_change_signal_handlers(heard: list[int]) -> None:
    before, inside = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with stop_requests() as request:
            inside.append((signal.getsignal(signal.SIGTERM), request.signal_name))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [(before, "")]
