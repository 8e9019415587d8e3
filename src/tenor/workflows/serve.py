"""`tenor serve`: load a model, refuse one that failed its checks, and serve it."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenor.errors import UserError
from tenor.explanations.explainer import Explainer
from tenor.explanations.verdict import Verdict, read_verdict
from tenor.inference.predictor import Predictor
from tenor.inference.texts import LongText
from tenor.serving.exchange import Served
from tenor.serving.limits import ServerLimits
from tenor.serving.model_facts import model_facts, require_verified
from tenor.serving.service import Service

KEY_VARIABLE = "TENOR_API_KEY"
SHORTEST_KEY = 16


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str
    port: int


def serve(
    reference: str,
    address: Address,
    limits: ServerLimits,
    *,
    load: dict[str, Any],
    long_text: LongText = "truncate",
    abstain_below: float = 0.0,
    key: str | None = None,
    allow_unverified: bool = False,
) -> int:
    """Serve a model until it is stopped; returns the exit status. `load`: keyword arguments of `Predictor.load`.

    Raises:
        UserError: the model cannot be loaded, or the address cannot be used.
        RefusedError: the model's run has open error findings.
    """
    from tenor.serving.http_server import bind, serve_until_stopped

    predictor = Predictor.load(reference, **load)
    predictor.require_abstention(abstain_below)
    verdict, explainer = explanations_of(reference, load["root"], predictor)
    facts = model_facts(reference, predictor, load["root"], verdict)
    if not allow_unverified:
        require_verified(facts)
    # Before the model is warmed up: a taken port is reported at once.
    listener = bind(address.host, address.port)
    service = Service(predictor, limits, explainer)
    service.start()
    port = listener.getsockname()[1]
    host = f"[{address.host}]" if ":" in address.host else address.host
    about = f"{facts.checks['verdict']}; engine {predictor.engine.name}"
    words = f"tenor: http://{host}:{port} serves {reference} ({about})"
    served = Served(service, facts, long_text, abstain_below, key)
    return serve_until_stopped(served, listener, lambda: print(words, file=sys.stderr, flush=True))


def read_key(file: Path | None) -> str | None:
    """The API key from a file, or from the environment; None: no key is required.

    Raises:
        UserError: the file cannot be read, or the key is too short to be one.
    """
    if file is None:
        key = os.environ.get(KEY_VARIABLE)
        if key is None:
            return None
        place = KEY_VARIABLE
    else:
        place = str(file)
        try:
            key = file.read_text(encoding="utf-8-sig")  # Some editors begin a file with a byte order mark.
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{file}: the API key cannot be read ({error}). Write it there as text") from error
    key = key.strip()
    if len(key) < SHORTEST_KEY or not key.isascii() or any(character.isspace() for character in key):
        raise UserError(
            f"{place}: expected an API key of {SHORTEST_KEY} or more ASCII characters without blanks, observed "
            f"{len(key)}. Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return key


def explanations_of(reference: str, root: Path, predictor: Predictor) -> tuple[Verdict, Explainer | None]:
    """Whether a model's explanations are shown and why, and the explainer if they are."""
    try:
        explainer = Explainer.of(predictor)
    except UserError as error:  # No test could change that, so none is proposed.
        return Verdict(False, f"{error}"), None
    verdict = read_verdict(reference, root, predictor.source.digest)
    return verdict, explainer if verdict.shown else None
