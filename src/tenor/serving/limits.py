"""The limits of a server, all of them configurable, and the errors that state them."""

from dataclasses import dataclass

from tenor.errors import UserError

READ_SECONDS = 10.0
"""Time that a client has to send its request completely."""
DRAINED_BYTES = 32 * 2**20
"""Of a body that are thrown away after an answer to its head: a client reads no answer while it is sending."""
WAITING_CHARACTERS = 2_000_000
"""Characters that may wait for the tokenizer, which reads as many in a few seconds."""
MOST = 10**9
"""Of any limit: numbers that every clock and counter can hold."""
BUFFERED_REQUESTS = 64
"""Bodies of the largest size that may be in memory at once, all requests that are being answered together."""


@dataclass(frozen=True)
class ServerLimits:
    """What one request, and all waiting requests together, may take."""

    texts: int = 128
    """Texts of one request."""
    characters: int = 100_000
    """Of one text: far more than a model reads, yet a limit to the work of the tokenizer."""
    body_bytes: int = 1_000_000
    queue_tokens: int = 32_768
    """Tokens that may wait for the model. A single request may exceed it if nothing else waits."""
    explanations: int = 4
    """Explanations that may wait; each costs as much as some hundred predictions."""
    seconds: float = 30.0
    """Deadline of a request, from its arrival to its answer."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value <= MOST:
                raise UserError(f"the limit of {name} is {value}, expected more than 0 and at most {MOST:,}")


class RequestError(Exception):
    """A request that is not answered with 200; the server continues."""

    def __init__(self, status: int, kind: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message
        self.retry_after = retry_after
        """Seconds after which the client may try again; None: the same request would fail again."""


def overloaded(seconds: float) -> RequestError:
    """429: too much waits already; `seconds` is the time that the waiting work takes."""
    message = f"the server is overloaded: about {max(seconds, 0.1):.1f} s of work wait. Try again later (Retry-After)"
    return RequestError(429, "overloaded", message, retry_after=seconds)


def stopping() -> RequestError:
    """503: the server is shutting down."""
    return RequestError(503, "not_ready", "the server is shutting down. Send the request to another one", 1.0)
