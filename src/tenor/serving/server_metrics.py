"""Counters of a server in the format of Prometheus. No label has a value that a client can choose."""

from collections.abc import Callable, Sequence
from typing import Any

from tenor.errors import UserError
from tenor.inference.predictor import Prediction

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class ServerMetrics:
    """All counters of one server."""

    def __init__(self, labels: Sequence[str]) -> None:
        """Raises UserError if the package is missing."""
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
        except ImportError as error:
            raise UserError('tenor serve needs packages that are not installed: pip install "tenor[serve]"') from error

        self.registry = CollectorRegistry()
        named: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("tenor_requests", "Answered requests", ["route", "status"], **named)
        self.seconds = Histogram(
            "tenor_request_seconds", "From a request's arrival to its answer", ["route"], buckets=SECONDS, **named
        )
        self.left = Counter("tenor_clients_left", "Requests whose client left before the answer", **named)
        self.predictions = Counter("tenor_predictions", "Predicted texts; none: abstained", ["label"], **named)
        self.truncated = Counter("tenor_truncated_texts", "Texts that were truncated", **named)
        self.unlike = Counter("tenor_unlike_texts", "Texts that are unlike the training texts", **named)
        self.tokens = Counter("tenor_tokens", "Tokens that the model has read", **named)
        self.batch_rows = Histogram("tenor_batch_rows", "Rows of a batch", buckets=(1, 2, 4, 8, 16, 32, 64), **named)
        self.restarts = Counter("tenor_thread_restarts", "Inference threads that died and were replaced", **named)
        self.waiting = Gauge("tenor_waiting_tokens", "Tokens that wait for the model", **named)
        self.ready = Gauge("tenor_ready", "1 if requests are accepted", **named)
        for label in (*labels, ""):
            self.predictions.labels(label or "none")

    def watch(self, waiting: Callable[[], int], ready: Callable[[], bool]) -> None:
        """Read these two whenever the counters are fetched."""
        self.waiting.set_function(waiting)
        self.ready.set_function(ready)

    def add_batch(self, rows: int, tokens: int) -> None:
        """Count one batch."""
        self.batch_rows.observe(rows)
        self.tokens.inc(tokens)

    def add_predictions(self, predictions: Sequence[Prediction]) -> None:
        """Count the predictions of one request."""
        for one in predictions:
            self.predictions.labels(one.label or "none").inc()
            self.truncated.inc(one.truncated)
            self.unlike.inc(bool(one.caution))

    def exposition(self) -> tuple[bytes, str]:
        """The counters as text, and its content type."""
        from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4
