"""Routes of other servers for text classification, so that `tenor serve` answers their clients: `/predict` as Text
Embeddings Inference defines it, `/classify` as vLLM does.

What these answers have no place for (truncation, abstention, threshold) is in headers `tenor-…`.
"""

import time
import uuid
from functools import partial

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from tenor.serving.exchange import Exchange, Served, answer, left
from tenor.serving.limits import RequestError
from tenor.serving.messages import (
    TeiRequest,
    TeiScore,
    VllmAnswer,
    VllmError,
    VllmFault,
    VllmItem,
    VllmRequest,
    VllmUsage,
)
from tenor.serving.service import PredictedTexts, Service


async def tei_predict(exchange: Exchange, request: Request) -> Response:
    """Scores of all classes, the predicted class first and the others by their score."""
    served, deadline = exchange.served, exchange.deadline_of(request)
    wanted = await exchange.read(request, TeiRequest)
    _require_direction(served.service, wanted.truncation_direction)
    done = await _predicted(served, request, _single_texts(wanted), deadline)
    if wanted.truncate is False and any(one.truncated for one in done.predictions):
        length = served.service.predictor.source.truncation.max_length
        raise RequestError(422, "validation", f"a text has more than {length:,} tokens. Send truncate: true")
    scores = [_tei_scores(done, row, served, wanted.raw_scores) for row in range(len(done.predictions))]
    of_texts = [f"[{','.join(one.model_dump_json() for one in of_text)}]" for of_text in scores]
    body = of_texts[0] if isinstance(wanted.inputs, str) or isinstance(wanted.inputs[0], str) else _joined(of_texts)
    return Response(body, headers=_headers(served, done), media_type="application/json")


async def vllm_classify(exchange: Exchange, request: Request) -> Response:
    """The predictions as vLLM writes them; `label` is null if the model abstains."""
    served, deadline = exchange.served, exchange.deadline_of(request)
    wanted = await exchange.read(request, VllmRequest)
    service, name = served.service, served.facts.model
    if wanted.model not in (None, name):
        raise RequestError(404, "not_found", f"the model is not served here, expected {name!r} or no model")
    longest = service.predictor.source.truncation.max_length
    if wanted.truncate_prompt_tokens not in (None, -1, longest):
        message = f"truncate_prompt_tokens: texts are truncated as in training, expected {longest}, -1 or nothing"
        raise RequestError(422, "validation", message)
    for option in ("add_special_tokens", "use_activation", "activation", "softmax"):
        if getattr(wanted, option) is False:
            raise RequestError(422, "validation", f"{option}: false is not possible with this model. Leave it out")
    texts = [wanted.input] if isinstance(wanted.input, str) else wanted.input
    done = await _predicted(served, request, texts, deadline)
    items = [
        VllmItem(
            index=index,
            label=one.label or None,
            probs=list(one.probabilities.values()),
            num_classes=len(one.probabilities),
            truncated=one.truncated,
        )
        for index, one in enumerate(done.predictions)
    ]
    written = VllmAnswer(
        id=f"classify-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=name,
        data=items,
        usage=VllmUsage(prompt_tokens=done.tokens, total_tokens=done.tokens),
    )
    return answer(written, headers=_headers(served, done))


def vllm_error(error: RequestError) -> bytes:
    """An error as vLLM writes it."""
    fault = VllmFault(message=error.message, type=error.kind, code=error.status)
    return VllmError(error=fault).model_dump_json().encode()


async def _predicted(served: Served, request: Request, texts: list[str], deadline: float) -> PredictedTexts:
    return await served.service.predict(texts, served.long_text, served.abstain_below, deadline, partial(left, request))


def _single_texts(wanted: TeiRequest) -> list[str]:
    """The texts of `inputs`, which may be "one", ["one"], or [["one"], ["another"]]."""
    given = wanted.inputs
    items = [[given]] if isinstance(given, str) else [given] if isinstance(given[0], str) else given
    texts = [item[0] for item in items if len(item) == 1]
    if len(texts) != len(items):
        message = (
            "inputs has a pair of texts, and this model reads single ones. A batch of texts is a list of lists: "
            '[["one"], ["another"]]'
        )
        raise RequestError(422, "validation", message)
    return [str(text) for text in texts]


def _require_direction(service: Service, direction: str | None) -> None:
    """Raises RequestError if the client wants another end truncated than the one in training."""
    strategy = service.predictor.source.truncation.strategy
    end = {"head": "right", "tail": "left"}.get(strategy)
    if direction is not None and direction.lower() != end:
        kept = f"expected {end}" if end else f"{strategy} is neither; leave it out"
        raise RequestError(422, "validation", f"truncation_direction: texts are truncated as in training, {kept}")


def _tei_scores(done: PredictedTexts, row: int, served: Served, raw: bool) -> list[TeiScore]:
    probabilities = done.probabilities[row]
    values = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny)) if raw else probabilities
    labels = served.service.predictor.labels
    predicted = done.predictions[row].label
    order = sorted(range(len(labels)), key=lambda index: (labels[index] != predicted, -probabilities[index]))
    return [TeiScore(score=float(values[index]), label=labels[index]) for index in order]


def _joined(parts: list[str]) -> str:
    return f"[{','.join(parts)}]"


def _headers(served: Served, done: PredictedTexts) -> dict[str, str]:
    threshold = served.service.predictor.threshold
    headers = {
        "tenor-digest": served.facts.digest,
        "tenor-truncated": str(sum(one.truncated for one in done.predictions)),
        "tenor-abstained": str(sum(not one.label for one in done.predictions)),
        "tenor-cautions": str(sum(bool(one.caution) for one in done.predictions)),
    }
    if threshold is not None:
        headers["tenor-threshold"] = f"{threshold.probability:.6f}"
    return headers
