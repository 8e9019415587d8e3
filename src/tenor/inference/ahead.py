"""A generator that runs ahead in a thread, so that what it makes is there when it is wanted."""

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

POLL_SECONDS = 0.1
T = TypeVar("T")


@dataclass(frozen=True)
class _Failed:
    error: BaseException


_END = object()


def ahead(items: Generator[T], depth: int = 1) -> Iterator[T]:
    """The items in their order, `depth` of them made in advance; an error in the generator is raised in its place.

    The generator is closed in its own thread, also where the caller stops early.
    """
    made: queue.Queue[object] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(item: object) -> bool:
        while not stop.is_set():
            try:
                made.put(item, timeout=POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            with closing(items):
                for item in items:
                    if not put(item):
                        return
        except BaseException as error:
            put(_Failed(error))
        else:
            put(_END)

    thread = threading.Thread(target=work, name="tenor-ahead", daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not _END:
            if isinstance(item, _Failed):
                raise item.error
            yield item  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()
