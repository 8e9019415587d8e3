"""The OpenAPI document of a server, made from its messages."""

from typing import Any

from pydantic.json_schema import models_json_schema

import tenor
from tenor.serving import messages
from tenor.serving.model_facts import ModelFacts

REQUESTS = (messages.PredictRequest, messages.ExplainRequest, messages.TeiRequest, messages.VllmRequest)
ANSWERS = (
    *(messages.PredictAnswer, messages.ExplainAnswer, messages.ErrorAnswer),
    *(messages.TeiScore, messages.VllmAnswer, messages.VllmError),
)
SCHEMA = "#/components/schemas/{model}"

ERRORS = {
    "408": "The request was not sent completely in time.",
    "413": "The body, the count of texts, a text, or the work is above the limits.",
    "415": "The body is not JSON, or compressed.",
    "422": "The body is not such a message, or a text cannot be predicted; nothing was predicted.",
    "429": "Too much work waits. `Retry-After` says when to try again, in seconds.",
    "500": "An error of the server; its log says where.",
    "503": "The server is shutting down, or an inference thread is restarting. `Retry-After` says when to try again.",
    "504": "The answer was not ready before the deadline.",
}
RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
DEADLINE = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "The time that the client waits at most, by RFC 7240: `wait=SECONDS`.",
    "schema": {"type": "string"},
    "example": "wait=5",
}


def openapi(facts: ModelFacts, needs_key: bool) -> dict[str, Any]:
    """The document; `needs_key`: the server has an API key."""
    models = [*((model, "validation") for model in REQUESTS), *((model, "serialization") for model in ANSWERS)]
    _, schemas = models_json_schema(models, by_alias=True, ref_template=SCHEMA)  # type: ignore[arg-type]
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "tenor serve",
            "version": tenor.__version__,
            "description": f"Predicts one of {', '.join(facts.labels)} for a text.",
        },
        "paths": _paths(needs_key),
        "components": {"schemas": schemas["$defs"]},
    }
    if needs_key:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


def _paths(needs_key: bool) -> dict[str, Any]:
    tei = {"oneOf": [_array(_ref("TeiScore")), _array(_array(_ref("TeiScore")))]}
    posts = {
        "/v1/predict": ("Predict the classes of texts.", "PredictRequest", _ref("PredictAnswer"), "ErrorAnswer"),
        "/v1/explain": ("Explain a prediction.", "ExplainRequest", _ref("ExplainAnswer"), "ErrorAnswer"),
        "/predict": ("Predict, as Text Embeddings Inference does.", "TeiRequest", tei, "ErrorAnswer"),
        "/classify": ("Predict, as vLLM does.", "VllmRequest", _ref("VllmAnswer"), "VllmError"),
    }
    gets = {
        "/v1/info": ("Facts about the model: results with intervals, checks, limits.", "application/json"),
        "/metrics": ("Counters for Prometheus.", "text/plain"),
        "/openapi.json": ("This document.", "application/json"),
    }
    health = {
        "/livez": "Whether the process works; if not, restart it.",
        "/readyz": "Whether requests are accepted.",
        "/health": "The same, under the path of other servers.",
    }
    unauthorized = {"401": _error("The API key is missing or wrong.", "ErrorAnswer")} if needs_key else {}
    return {
        **{path: {"post": _post(*of_path, needs_key)} for path, of_path in posts.items()},
        **{path: {"get": _get(words, kind, unauthorized)} for path, (words, kind) in gets.items()},
        **{path: {"get": _health(words)} for path, words in health.items()},
    }


def _post(words: str, request: str, response: dict[str, Any], error: str, needs_key: bool) -> dict[str, Any]:
    codes = dict(ERRORS)
    if needs_key:
        codes["401"] = "The API key is missing or wrong."
    if request == "VllmRequest":
        codes["404"] = "Another model is served."
    return {
        "summary": words,
        "parameters": [DEADLINE],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref(request)}}},
        "responses": {
            "200": {"description": "Done.", "content": {"application/json": {"schema": response}}},
            **{code: _error(meaning, error) for code, meaning in sorted(codes.items())},
        },
    }


def _get(words: str, kind: str, errors: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object"} if kind == "application/json" else {"type": "string"}
    return {
        "summary": words,
        "responses": {"200": {"description": "Done.", "content": {kind: {"schema": schema}}}, **errors},
    }


def _health(words: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object", "required": ["status"]}}}
    return {
        "summary": words,
        "security": [],
        "responses": {
            "200": {"description": "Yes.", "content": content},
            "503": {"description": "No.", "content": content, "headers": RETRY_AFTER},
        },
    }


def _error(meaning: str, model: str) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": meaning, "content": {"application/json": {"schema": _ref(model)}}}
    return {**answer, "headers": RETRY_AFTER} if "Retry-After" in meaning else answer


def _ref(model: str) -> dict[str, Any]:
    return {"$ref": SCHEMA.format(model=model)}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}
