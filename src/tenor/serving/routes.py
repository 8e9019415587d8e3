"""The routes of `tenor serve`: prediction, explanation, facts about the model, health, and the page."""

from collections.abc import Mapping
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tenor.explanations.text_words import Span
from tenor.runs.model_notes import Threshold
from tenor.serving.compatible import tei_predict, vllm_classify, vllm_error
from tenor.serving.exchange import (
    JSON,
    EarlyAnswer,
    ErrorWriter,
    Exchange,
    Handler,
    Served,
    answer,
    left,
    page_files,
    plain_error,
)
from tenor.serving.limits import RequestError
from tenor.serving.messages import (
    ExplainAnswer,
    ExplainRequest,
    OnePrediction,
    PredictAnswer,
    PredictRequest,
    ThresholdUsed,
)
from tenor.serving.openapi import openapi
from tenor.serving.service import Service, retry_after

HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
    b"content-security-policy": (
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}
"""Of every answer. Nothing is loaded from outside, and nothing that a text contains is run."""


KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def application(served: Served) -> ASGIApp:
    """All routes."""
    exchange = Exchange(served)
    document = openapi(served.facts, served.key is not None)

    def route(path: str, handler: Handler, method: str = "GET", **how: Any) -> Route:
        return Route(path, exchange.route(path, handler, **how), methods=[method])

    routes = [
        route("/v1/predict", _predict, "POST"),
        route("/v1/explain", _explain, "POST"),
        route("/v1/info", partial(_json, served.facts.as_dict(served.service.limits))),
        route("/openapi.json", partial(_json, document)),
        route("/livez", _live),
        route("/readyz", _ready),
        route("/health", _ready),
        route("/metrics", _metrics),
        route("/predict", tei_predict, "POST"),
        route("/classify", vllm_classify, "POST", write_error=vllm_error),
        *(route(path, partial(_file, name)) for path, name in page_files().items()),
    ]
    app = Starlette(routes=routes, exception_handlers={404: _no_route, 405: _no_method})
    # A redirect would lead to whatever host the client named.
    app.router.redirect_slashes = False
    writers = {"/v1/predict": plain_error, "/v1/explain": plain_error, "/predict": plain_error, "/classify": vllm_error}
    return with_headers(with_quick_refusals(app, served, writers))


def with_quick_refusals(app: ASGIApp, served: Served, writers: Mapping[str, ErrorWriter]) -> ASGIApp:
    """`app`, in front of which an overloaded server refuses the requests to some paths: at ten times the capacity the
    refusals would take the time of the answers."""
    counts = {path: served.service.metrics.requests.labels(path, "429") for path in writers}

    def refusal(scope: Scope) -> RequestError | None:
        service = served.service
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in writers or service.stopping:
            return None
        # Who has no key hears nothing about the load.
        return service.overload() if served.key is None else None

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        if (error := refusal(scope)) is None:
            await app(scope, receive, send)
            return
        headers = {"Retry-After": retry_after(error.retry_after or 1.0)}
        await EarlyAnswer(writers[scope["path"]](error), error.status, headers, JSON)(scope, receive, send)
        counts[scope["path"]].inc()

    return run


def with_headers(app: ASGIApp) -> ASGIApp:
    """`app` with `HEADERS` on every answer."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS.items()]
            await send(message)

        await app(scope, receive, send_with_headers)

    return run


async def _predict(exchange: Exchange, request: Request) -> Response:
    served, service = exchange.served, exchange.served.service
    deadline = exchange.deadline_of(request)
    wanted = await exchange.read(request, PredictRequest)
    texts = [wanted.texts] if isinstance(wanted.texts, str) else wanted.texts
    long_text = wanted.long_text or served.long_text
    abstain_below = served.abstain_below if wanted.abstain_below is None else wanted.abstain_below
    require_abstention(service, abstain_below)
    done = await service.predict(texts, long_text, abstain_below, deadline, partial(left, request))
    return answer(
        PredictAnswer(
            predictions=[OnePrediction.of(one) for one in done.predictions],
            long_text=long_text,
            abstain_below=abstain_below,
            threshold=_threshold(service.predictor.threshold),
            digest=served.facts.digest,
        )
    )


async def _explain(exchange: Exchange, request: Request) -> Response:
    served, service, verdict = exchange.served, exchange.served.service, exchange.served.facts.explanations
    deadline = exchange.deadline_of(request)
    wanted = await exchange.read(request, ExplainRequest)
    done = await service.predict([wanted.text], "truncate", served.abstain_below, deadline, partial(left, request))
    (prediction,) = done.predictions
    if verdict.shown:
        explanation = await service.explain(wanted.text, deadline, partial(left, request))
        return answer(ExplainAnswer.of(prediction, explanation, wanted.text, verdict.why, served.facts.digest))
    read: list[Span] | None = [(0, len(wanted.text))]
    if prediction.truncated:
        read = await service.parts_read(wanted.text, deadline, partial(left, request))
    return answer(
        ExplainAnswer(
            prediction=OnePrediction.of(prediction),
            explains=prediction.label,
            words=[],
            sentence=None,
            read=read,
            completeness_gap=None,
            shown=False,
            why=verdict.why,
            digest=served.facts.digest,
        )
    )


def require_abstention(service: Service, below: float) -> None:
    """Raises RequestError for an abstention that this model excludes."""
    if below and service.predictor.threshold is not None:
        raise RequestError(
            422,
            "validation",
            f"abstain_below {below:g}: the model has a threshold ({service.predictor.threshold}), so its labels are "
            "not always the most probable classes. Leave it out",
        )


def _threshold(threshold: Threshold | None) -> ThresholdUsed | None:
    if threshold is None:
        return None
    return ThresholdUsed.model_validate({"class": threshold.class_name, "probability": threshold.probability})


async def _json(value: Mapping[str, Any], exchange: Exchange, request: Request) -> Response:
    return JSONResponse(value)


async def _live(exchange: Exchange, request: Request) -> Response:
    service = exchange.served.service
    return _state(service.fault is None, service.fault or "alive")


async def _ready(exchange: Exchange, request: Request) -> Response:
    service = exchange.served.service
    if service.ready:
        return _state(True, "ready")
    return _state(
        False, service.fault or ("shutting down" if service.stopping else "an inference thread is restarting")
    )


def _state(is_well: bool, words: str) -> Response:
    return JSONResponse({"status": words}, 200 if is_well else 503, {} if is_well else {"Retry-After": "1"})


async def _metrics(exchange: Exchange, request: Request) -> Response:
    content, kind = exchange.served.service.metrics.exposition()
    return Response(content, media_type=kind)


async def _file(name: str, exchange: Exchange, request: Request) -> Response:
    content = files("tenor.serving").joinpath("page", name).read_bytes()
    return Response(content, media_type=f"{KINDS[Path(name).suffix]}; charset=utf-8")


async def _no_route(request: Request, error: Exception) -> Response:
    message = f"there is no {request.url.path[:100]}; the paths are in /openapi.json"
    return EarlyAnswer(plain_error(RequestError(404, "not_found", message)), 404, media_type=JSON)


async def _no_method(request: Request, error: Exception) -> Response:
    allowed = getattr(error, "headers", None) or {}
    message = f"{request.method[:20]} is not possible here, expected {allowed.get('Allow', 'another method')}"
    return EarlyAnswer(plain_error(RequestError(405, "validation", message)), 405, allowed, JSON)
