"""One model that answers many requests: admission, deadline, and what happens when a client leaves."""

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tenor.data.unlike_texts import Kind, UnlikeTexts
from tenor.explanations.explainer import parts_read
from tenor.explanations.text_words import Span
from tenor.inference.engines import PASSES_PER_BUDGET
from tenor.inference.predictor import Prediction, Predictor, PreparedTexts
from tenor.inference.texts import LongText
from tenor.serving.limits import WAITING_CHARACTERS, RequestError, ServerLimits, overloaded, stopping
from tenor.serving.row_queue import Request, RowQueue, Throughput, now
from tenor.serving.server_metrics import ServerMetrics
from tenor.serving.workers import Workers

if TYPE_CHECKING:
    from tenor.explanations.explainer import Explainer, Explanation

T = TypeVar("T")
SUPERVISED_EVERY = 0.2  # Seconds.
CHARACTERS_PER_TOKEN = 4
"""Of English text, roughly."""

Left = Callable[[], Awaitable[None]]
"""Returns once the client has left."""


@dataclass(frozen=True)
class PredictedTexts:
    """The predictions of one request, with what compatible routes report about them."""

    predictions: list[Prediction]
    probabilities: np.ndarray
    """float64, shape (texts, K)."""
    tokens: int
    """That the model read, special tokens included."""


class Service:
    """The model's queue and threads. All methods but `start` are called in the event loop."""

    def __init__(self, predictor: Predictor, limits: ServerLimits, explainer: "Explainer | None" = None) -> None:
        self.predictor, self.limits, self.explainer = predictor, limits, explainer
        self.metrics = ServerMetrics(predictor.labels)
        engine, plan = predictor.engine, predictor.plan
        alone = engine.rows_alone or predictor.framing.pad_id is None
        self.queue = RowQueue(limits.queue_tokens, plan.prediction_tokens, alone, engine.side_by_side)
        self.throughput = Throughput(plan.prediction_tokens / PASSES_PER_BUDGET)
        """Tokens that the model reads …"""
        self.tokenizing = Throughput()
        """… and characters that the tokenizer does."""
        self.workers = Workers(predictor, self.queue, self.throughput, self.metrics.add_batch)
        self.stopping = False
        self.fault: str | None = None
        """Why the server must end, or None."""
        self._tokenizer = ThreadPoolExecutor(1, "tenor-tokenizer")
        self._explaining = ThreadPoolExecutor(1, "tenor-explain")
        self._characters = 0
        """Of the texts that wait for the tokenizer."""
        self._explanations = 0
        self._tokenizing = 0
        """Estimated tokens of the texts that are tokenized or wait for it."""
        self.metrics.watch(lambda: self.queue.tokens, lambda: self.ready)

    def start(self) -> None:
        """Measure the model's speed, and start the threads."""
        prepared, _ = self._prepare(["a good film and a bad plot " * 20] * 2, "truncate")
        self.predictor.logits(prepared.tokens)  # The first time, libraries are initialized and buffers allocated.
        started = now()
        self.predictor.logits(prepared.tokens)
        self.throughput.add(sum(map(len, prepared.tokens.rows)), now() - started)
        self.workers.start()

    @property
    def ready(self) -> bool:
        """Whether requests are accepted and can be computed."""
        return not self.stopping and self.fault is None and self.workers.alive

    async def supervise(self, give_up: Callable[[str], None]) -> None:
        """Replace threads that died; call `give_up` with the reason if that does not help."""
        while True:
            await asyncio.sleep(SUPERVISED_EVERY)
            self.fault = self.workers.fault()
            if self.fault is not None:
                give_up(self.fault)
                return
            if not self.stopping and (restarted := self.workers.replace_dead()):
                self.metrics.restarts.inc(restarted)

    def close(self, at_once: bool = False) -> None:
        """End the threads after the last request, or without computing what still waits."""
        self.queue.close(at_once)
        self.workers.join(5.0)
        self._tokenizer.shutdown(cancel_futures=True)
        self._explaining.shutdown(wait=False, cancel_futures=True)

    def require_room(self) -> None:
        """Raises RequestError if no request can be accepted now; called before its body is read."""
        if self.stopping:
            raise stopping()
        if (error := self.overload()) is not None:
            raise error

    def overload(self) -> RequestError | None:
        """The answer to every request as long as too much waits, or None.

        The last places stay free until a batch is taken: otherwise an overloaded server would tokenize one request
        after another for a place that is too small.
        """
        waiting, capacity = self.queue.tokens + self._tokenizing, self.limits.queue_tokens
        margin = min(self.queue.budget, capacity // 16)
        is_full = waiting + margin >= capacity or self._characters >= WAITING_CHARACTERS
        return overloaded(self._waiting_seconds()) if is_full else None

    def require_size(self, texts: Sequence[str]) -> None:
        """Raises RequestError for more or longer texts than the limits allow."""
        limits = self.limits
        if len(texts) > limits.texts:
            raise RequestError(
                413, "too_large", f"{len(texts):,} texts, expected at most {limits.texts:,} in one request. Split them"
            )
        longest = max(map(len, texts), default=0)
        if longest > limits.characters:
            raise RequestError(
                413,
                "too_large",
                f"a text has {longest:,} characters, expected at most {limits.characters:,}. Shorten it",
            )

    async def predict(
        self, texts: Sequence[str], long_text: LongText, abstain_below: float, deadline: float, left: Left
    ) -> PredictedTexts:
        """The predictions, in order; `deadline` is on the clock of `now`.

        Raises:
            RequestError: too large, a text that cannot be predicted, overloaded, or too late.
        """
        self.require_room()
        self.require_size(texts)
        gone = asyncio.ensure_future(left())
        try:
            prepared, kinds = await self._tokenized(texts, long_text, deadline, gone)
            _require_sound(prepared)
            logits = await self._compute(prepared.tokens.rows, deadline, gone)
        finally:
            gone.cancel()
        scores = self.predictor.scores(prepared, logits)
        predictions = self.predictor.predictions(scores, kinds, abstain_below)
        self.metrics.add_predictions(predictions)
        return PredictedTexts(predictions, scores.probabilities, sum(map(len, prepared.tokens.rows)))

    async def explain(self, text: str, deadline: float, left: Left) -> "Explanation":
        """The words' part in the prediction. Raises RequestError as `predict` does."""
        if self.explainer is None:
            raise ValueError("the model cannot be explained")
        if self._explanations >= self.limits.explanations:
            raise overloaded(float(self._explanations))
        self._explanations += 1
        explainer, is_over = self.explainer, threading.Event()

        def require_wanted() -> None:
            if is_over.is_set():
                raise ClientLeft  # Nobody waits for this thread.

        try:
            gone = asyncio.ensure_future(left())
            work = self._in(self._explaining, lambda: explainer.explain(text, require_wanted))
            try:
                return await self._first(work, deadline, gone)
            finally:
                gone.cancel()
        finally:
            is_over.set()
            self._explanations -= 1

    async def parts_read(self, text: str, deadline: float, left: Left) -> list[Span] | None:
        """The parts of a truncated text that the encoder reads; None if the tokenizer gives no positions."""
        gone = asyncio.ensure_future(left())
        try:
            return await self._first(
                self._in(self._tokenizer, lambda: parts_read(text, self.predictor)), deadline, gone
            )
        finally:
            gone.cancel()

    async def _tokenized(
        self, texts: Sequence[str], long_text: LongText, deadline: float, gone: "asyncio.Future[None]"
    ) -> tuple[PreparedTexts, dict[int, Kind]]:
        """The rows of the texts. What waits for the tokenizer counts as waiting for the model: hundreds of clients may
        come at once, before the first text is tokenized."""
        longest = self.predictor.source.truncation.max_length if long_text == "truncate" else self.limits.characters
        estimate = sum(min(longest, len(text) // CHARACTERS_PER_TOKEN + 1) for text in texts)
        characters = sum(map(len, texts))
        waiting = self.queue.tokens + self._tokenizing
        # As in the queue, a single request may exceed the limits.
        if (waiting and waiting + estimate > self.limits.queue_tokens) or (
            self._characters and self._characters + characters > WAITING_CHARACTERS
        ):
            raise overloaded(self._waiting_seconds())
        self._tokenizing += estimate
        self._characters += characters
        try:
            work = self._in(self._tokenizer, lambda: self._prepare(texts, long_text))
            return await self._first(work, deadline, gone)
        finally:
            self._tokenizing -= estimate
            self._characters -= characters

    def _prepare(self, texts: Sequence[str], long_text: LongText) -> tuple[PreparedTexts, dict[int, Kind]]:
        started = now()
        prepared = self.predictor.prepare(texts, long_text)
        unlike = UnlikeTexts(self.predictor.source.training_texts)
        kinds = unlike.add(texts, prepared.tokens.lengths, prepared.tokens.unknown, str)
        self.tokenizing.add(sum(map(len, texts)), now() - started)
        return prepared, kinds

    async def _compute(self, rows: list[np.ndarray], deadline: float, gone: "asyncio.Future[None]") -> np.ndarray:
        """Logits of the rows, float32, shape (rows, K)."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        request = Request(rows, lambda: _finish(loop, done))
        self._require_time(request, deadline)
        if not self.queue.put(request):
            raise overloaded(self._waiting_seconds())
        try:
            await self._first(done, deadline, gone)
        finally:
            if not done.done() or done.cancelled():
                self.queue.drop(request)
        if request.error is not None:
            raise request.error
        return np.stack([request.logits[index] for index in range(len(rows))])

    def _waiting_seconds(self) -> float:
        """What waits for the tokenizer or the model takes about so long."""
        return self.tokenizing.seconds(self._characters) + self.throughput.seconds(self.queue.tokens)

    def _require_time(self, request: Request, deadline: float) -> None:
        """Raises RequestError for a request that cannot be answered before its deadline."""
        waiting, own = self.throughput.seconds(self.queue.tokens), self.throughput.seconds(request.tokens)
        room = deadline - now()
        if room <= 0:
            raise _too_late()
        if own > room:
            message = f"these texts take about {own:.1f} s, and the deadline is in {room:.1f} s. Send fewer texts"
            raise RequestError(413, "too_large", message)
        if waiting + own > room:
            raise overloaded(waiting)

    async def _first(self, work: "asyncio.Future[T]", deadline: float, gone: "asyncio.Future[None]") -> T:
        """The result of `work`, unless the deadline passes or the client is gone first: then it is cancelled."""
        try:
            waited: set[asyncio.Future[Any]] = {work, gone}
            await asyncio.wait(waited, timeout=max(0.0, deadline - now()), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            if gone.done():
                raise ClientLeft
            raise _too_late()
        finally:
            work.cancel()

    def _in(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(threads, work)


class ClientLeft(Exception):
    """The client closed the connection; there is nobody to answer."""


def retry_after(seconds: float) -> str:
    """The value of a `Retry-After` header: whole seconds, at least 1."""
    return str(max(1, math.ceil(seconds)))


def _too_late() -> RequestError:
    message = "the answer was not ready before the deadline. Send fewer texts, or allow more time"
    return RequestError(504, "deadline", message)


def _finish(loop: asyncio.AbstractEventLoop, done: "asyncio.Future[None]") -> None:
    """Called in a worker's thread."""
    loop.call_soon_threadsafe(lambda: None if done.done() else done.set_result(None))


def _require_sound(prepared: PreparedTexts) -> None:
    """Raises RequestError if a text cannot be predicted; names the first three."""
    faults = prepared.tokens.faults
    if faults:
        named = "; ".join(f"texts[{position}] {fault}" for position, fault in list(faults.items())[:3])
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise RequestError(422, "validation", f"{named}{more}. Nothing was predicted")
