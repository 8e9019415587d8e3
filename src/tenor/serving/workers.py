"""The threads that compute batches, and what happens when one of them dies or does not come back."""

import logging
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from tenor.errors import TenorError, UserError, advice_on_memory, is_out_of_memory
from tenor.inference.engines import padded
from tenor.inference.predictor import Predictor
from tenor.model.speed import use_threads
from tenor.serving.limits import RequestError
from tenor.serving.row_queue import RowQueue, Throughput, WaitingRow, now

LOG = logging.getLogger("tenor.serve")

STUCK_SECONDS = 120.0
"""A batch takes a fraction of a second; one that takes so long will not end."""
RESTARTS, RESTART_PERIOD = 5, 60.0
"""Threads that may die within this many seconds before the server gives up."""


@dataclass
class Worker:
    """One thread, and the batch that it computes."""

    thread: threading.Thread
    batch: list[WaitingRow] = field(default_factory=list)
    since: float = 0.0
    """When the batch was started."""


class Workers:
    """As many threads as passes may run side by side; each takes batches from the queue until it is closed."""

    def __init__(
        self, predictor: Predictor, queue: RowQueue, throughput: Throughput, on_batch: Callable[[int, int], None]
    ) -> None:
        """`on_batch` is called in a worker's thread with the counts of rows and tokens of each batch."""
        self._predictor, self._queue, self._throughput, self._on_batch = predictor, queue, throughput, on_batch
        self._workers: list[Worker] = []
        self._deaths: list[float] = []
        self.restarts = 0

    def start(self) -> None:
        """Start all threads."""
        self._workers = [self._started(number) for number in range(self._queue.workers)]

    @property
    def alive(self) -> bool:
        """Whether every thread runs."""
        return bool(self._workers) and all(worker.thread.is_alive() for worker in self._workers)

    def fault(self) -> str | None:
        """Why the server cannot go on, or None."""
        stuck = max((now() - worker.since for worker in self._workers if worker.batch), default=0.0)
        if stuck > STUCK_SECONDS:
            return f"a batch has been computed for {stuck:.0f} s, and a thread cannot be ended from outside"
        if len(self._deaths) > RESTARTS:
            return f"{len(self._deaths)} inference threads died within {RESTART_PERIOD:.0f} s; the log says why"
        return None

    def replace_dead(self) -> int:
        """Start a thread for each that died; returns their count."""
        dead = [number for number, worker in enumerate(self._workers) if not worker.thread.is_alive()]
        self._deaths = [at for at in self._deaths if now() - at < RESTART_PERIOD] + [now()] * len(dead)
        for number in dead:
            self._workers[number] = self._started(number)
        self.restarts += len(dead)
        return len(dead)

    def join(self, seconds: float) -> None:
        """Wait until the threads have ended, after the queue was closed."""
        for worker in self._workers:
            worker.thread.join(seconds)

    def _started(self, number: int) -> Worker:
        worker = Worker(threading.Thread(name=f"tenor-inference-{number}", daemon=True))
        worker.thread = threading.Thread(
            target=self._work, args=(worker,), name=f"tenor-inference-{number}", daemon=True
        )
        worker.thread.start()
        return worker

    def _work(self, worker: Worker) -> None:
        threads = 0
        while (batch := self._queue.take()) is not None:
            try:
                worker.since, worker.batch = now(), batch
                # A lone batch gets all threads of the processor, batches side by side share them.
                if self._predictor.plan.device == "cpu" and self._queue.workers > 1:
                    share = max(1, self._predictor.plan.threads // self._queue.busy)
                    if share != threads:
                        use_threads(threads := share)
                self._compute(worker, batch)
            except BaseException as error:
                # Whatever ends this thread, nobody may wait for it forever; the supervisor starts another one.
                _log("an inference thread died", error)
                _fail(batch, RequestError(503, "not_ready", "the inference thread died and is being restarted", 1.0))
                return
            finally:
                worker.batch = []
                self._queue.done()

    def _compute(self, worker: Worker, batch: list[WaitingRow]) -> None:
        try:
            self._run(worker, batch)
        except Exception as error:
            if len(batch) == 1:
                _fail(batch, _answer_for(error))
                return
            # One row must not fail the others.
            for row in batch:
                if not row.request.is_over:
                    self._compute(worker, [row])

    def _run(self, worker: Worker, batch: list[WaitingRow]) -> None:
        started, side_by_side = now(), self._queue.busy
        with advice_on_memory("in prediction", self._predictor.memory_advice()):
            logits = self._predictor.engine.run(padded([row.ids for row in batch], self._predictor.framing))
        tokens = sum(len(row.ids) for row in batch)
        self._throughput.add(tokens, now() - started, side_by_side)
        self._on_batch(len(batch), tokens)
        for row, of_row in zip(batch, logits, strict=True):
            request = row.request
            request.logits[row.index] = of_row
            if len(request.logits) == len(request.rows):
                request.finish()


def _fail(batch: list[WaitingRow], error: Exception) -> None:
    for row in batch:
        if not row.request.is_over and len(row.request.logits) < len(row.request.rows):
            row.request.error = error
            row.request.finish()


def _answer_for(error: Exception) -> RequestError:
    """What the client of a row hears that cannot be computed."""
    if isinstance(error, UserError):  # Such as a text that is too short for this model.
        return RequestError(422, "validation", str(error))
    if isinstance(error, TenorError) or is_out_of_memory(error):
        LOG.error("%s", error)
        return RequestError(503, "not_ready", str(error), 5.0)
    _log("a batch failed", error)
    return RequestError(500, "internal", f"the model failed with {type(error).__name__}; the server's log says where")


def _log(words: str, error: BaseException) -> None:
    # The traceback names places in the code; the message of another library might quote a text.
    LOG.error("%s: %s\n%s", words, type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
