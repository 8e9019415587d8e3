"""Rows of token ids that wait for the model, in the order of arrival, and the choice of the next batch."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from tenor.data.batching import least_padding
from tenor.inference.engines import PASSES_PER_BUDGET

CONSIDERED = 128
"""Rows, oldest first, among which a batch is chosen: enough to find rows of similar lengths."""
KEPT = 0.95
"""Of what was measured, after another batch."""


@dataclass(eq=False)
class Request:
    """The rows of one request; `finish` is called once, in a worker's thread, after its last row."""

    rows: list[np.ndarray]
    """Ids with special tokens, int32, shape (length,)."""
    finish: Callable[[], None]
    logits: dict[int, np.ndarray] = field(default_factory=dict)
    """By row, float32, shape (K,)."""
    error: Exception | None = None
    abandoned: bool = False
    """The client left, or the deadline has passed: what still waits is dropped."""

    @property
    def tokens(self) -> int:
        """Tokens of all its rows."""
        return sum(len(row) for row in self.rows)

    @property
    def is_over(self) -> bool:
        """Whether no more row of it should be computed."""
        return self.abandoned or self.error is not None


@dataclass(frozen=True)
class WaitingRow:
    """One row of a request."""

    request: Request
    index: int

    @property
    def ids(self) -> np.ndarray:
        return self.request.rows[self.index]


class RowQueue:
    """A first-in-first-out queue, except that rows of similar lengths are computed with the oldest row.

    So the oldest row is always in the next batch, and no row waits for more than the rows before it and one batch.
    """

    def __init__(self, capacity: int, budget: int, rows_alone: bool, workers: int) -> None:
        """`capacity`: tokens that may wait; `budget`: padded tokens of a batch; `rows_alone`: a batch is one row."""
        self.capacity, self.budget, self.rows_alone, self.workers = capacity, budget, rows_alone, workers
        self._waiting: deque[WaitingRow] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.tokens = 0
        """Tokens of the waiting rows."""
        self.busy = 0
        """Workers that are computing a batch."""

    def put(self, request: Request) -> bool:
        """Add a request, or return False because it does not fit."""
        with self._changed:
            if self.tokens and self.tokens + request.tokens > self.capacity:
                return False
            self._waiting.extend(WaitingRow(request, index) for index in range(len(request.rows)))
            self.tokens += request.tokens
            self._changed.notify(len(request.rows))
        return True

    def drop(self, request: Request) -> None:
        """Remove the waiting rows of a request that nobody waits for any more."""
        with self._changed:
            request.abandoned = True
            self._waiting = deque(row for row in self._waiting if row.request is not request)
            self.tokens = sum(len(row.ids) for row in self._waiting)

    def take(self) -> list[WaitingRow] | None:
        """The rows of the next batch, as soon as there are any; None once the queue is closed and empty.

        The caller is busy until it calls `done`.
        """
        with self._changed:
            while True:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return None
                chosen = self._choose()
                self.tokens -= sum(len(row.ids) for row in chosen)
                # A request whose other row failed is answered already.
                if chosen := [row for row in chosen if not row.request.is_over]:
                    self.busy += 1
                    return chosen

    def done(self) -> None:
        """The batch that this worker took last is computed."""
        with self._changed:
            self.busy -= 1

    def close(self, at_once: bool = False) -> None:
        """Let the workers end once nothing waits, or after the batch that they compute."""
        with self._changed:
            self._closed = True
            if at_once:
                self._waiting.clear()
                self.tokens = 0
            self._changed.notify_all()

    def _choose(self) -> list[WaitingRow]:
        """Remove and return the oldest row, and those that are best computed with it."""
        considered = list(islice(self._waiting, CONSIDERED))
        lengths = np.array([len(row.ids) for row in considered])
        # What waits is shared by the idle workers, so that a lone request of several texts uses all of them.
        share = -(-int(lengths.sum()) // max(1, self.workers - self.busy))
        budget = 1 if self.rows_alone else min(self.budget, share)
        parts = least_padding(lengths, budget, pass_cost=self.budget // PASSES_PER_BUDGET)
        chosen = set(next(part for part in parts if 0 in part).tolist())
        # Only now, so that no row is lost if the choice fails.
        for _ in considered:
            self._waiting.popleft()
        self._waiting.extendleft(row for at, row in reversed(list(enumerate(considered))) if at not in chosen)
        return [row for at, row in enumerate(considered) if at in chosen]


@dataclass
class Throughput:
    """Units of work per second, all workers together, for estimates of waiting times.

    It is the quotient of two sums over recent work and not a mean of quotients, in which many small batches, each with
    the fixed cost of a pass, would hide how fast a large one is.
    """

    fixed: float = 0.0
    """Units that take as long as the fixed cost of a batch."""
    units: float = 0.0
    taken: float = 0.0
    """Seconds."""

    def add(self, units: int, seconds: float, side_by_side: int = 1) -> None:
        """A batch of `units` took `seconds`, while `side_by_side` batches ran."""
        self.units = KEPT * self.units + units + self.fixed
        self.taken = KEPT * self.taken + seconds / side_by_side

    def seconds(self, units: int) -> float:
        """Time that this many units take; 0 before the first measurement."""
        return units * self.taken / self.units if self.units else 0.0


def now() -> float:
    """Seconds of a clock that only goes forward."""
    return time.monotonic()
