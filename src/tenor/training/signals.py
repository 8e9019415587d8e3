"""SIGINT and SIGTERM: in the loop a request to stop after the current step, elsewhere a clean end of the run."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class StopRequest:
    """What this process was sent, and what is to be done about it; both empty at first."""

    received: str = ""
    """The first signal that this process received."""
    signal_name: str = ""
    """The signal after which the loop stops: as soon as it is received in a single process; else as soon as all
    processes know of it, so that they stop after the same step."""


SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_requests(alone: bool = True) -> Iterator[StopRequest]:
    """Remember the first SIGINT or SIGTERM. A second one acts as usual; among several processes it does nothing, since
    a launcher repeats what a terminal has sent to all of them. Outside the main thread nothing is changed."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {number: signal.getsignal(number) for number in SIGNALS}

    def remember(number: int, frame: FrameType | None) -> None:
        request.received = request.received or signal.Signals(number).name
        if alone:
            request.signal_name = request.received
            signal.signal(number, previous[signal.Signals(number)])

    try:
        for number in previous:
            signal.signal(number, remember)
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def terminations_ignored(wanted: bool) -> Iterator[None]:
    """SIGTERM does nothing in the block, if `wanted`: a launcher sends it to all processes as soon as one has failed,
    and what this one writes about that must be complete. A block inside may answer it all the same."""
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt in the block, as SIGINT does. Outside the main thread nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.getsignal(signal.SIGTERM)

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt("SIGTERM")

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
