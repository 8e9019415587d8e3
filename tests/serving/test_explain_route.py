"""`POST /v1/explain`: one deadline for all of it, work that ends with its client, and what was read of the text."""

import http.client
import json
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from served import running, served_by
from tenor.explanations.explainer import Explainer
from tenor.explanations.verdict import Verdict
from tenor.inference.predictor import Predictor
from tenor.serving.exchange import Served
from tenor.serving.limits import ServerLimits
from tenor.serving.model_facts import model_facts
from tenor.serving.service import Service
from tenor.workflows.serve import explanations_of

LONG = "A film that I liked. " * 40


class Waiting:
    """An explainer that passes again and again until it is stopped."""

    def __init__(self) -> None:
        self.started, self.stopped = threading.Event(), threading.Event()

    def explain(self, text: str, before_pass: Any) -> None:
        self.started.set()
        pause = threading.Event()
        try:
            for _ in range(6_000):
                before_pass()
                pause.wait(0.01)
        finally:
            self.stopped.set()


def explained_by(explainer: Any, predictor: Predictor) -> Served:
    facts = model_facts(str(predictor.source.origin), predictor, Path("runs"), Verdict(True, "tested"))
    return Served(Service(predictor, ServerLimits(), explainer), facts)


def test_the_words_and_what_was_read(predictor: Predictor) -> None:
    explainer = Explainer.of(predictor)
    expected = explainer.explain(LONG)
    with running(explained_by(explainer, predictor)) as server:
        answer = server.post("/v1/explain", {"text": LONG}).body
    assert answer["shown"]
    assert [(word["start"], word["end"]) for word in answer["words"]] == [
        (one.start, one.end) for one in expected.words
    ]
    assert answer["read"] == [[0, expected.skipped[0][0]]]
    assert answer["prediction"]["truncated"]
    assert LONG.endswith(" ")  # Which is not a part that was read.


def test_what_was_read_is_said_without_explanations_too(predictor: Predictor) -> None:
    expected = Explainer.of(predictor).explain(LONG)
    with running(served_by(predictor)) as server:
        answer = server.post("/v1/explain", {"text": LONG}).body
        short = server.post("/v1/explain", {"text": "good"}).body
    assert not answer["shown"]
    assert answer["read"] == [[0, expected.skipped[0][0]]]
    assert short["read"] == [[0, 4]]


def test_prediction_and_explanation_have_one_deadline(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    deadlines = []
    first = Service._first

    async def noted(self: Service, work: Any, deadline: float, left: Any) -> Any:
        deadlines.append(deadline)
        return await first(self, work, deadline, left)

    monkeypatch.setattr(Service, "_first", noted)
    with running(explained_by(Explainer.of(predictor), predictor)) as server:
        assert server.post("/v1/explain", {"text": "a good film"}, Prefer="wait=20").status == 200
    assert len(deadlines) > 2
    assert len(set(deadlines)) == 1


def test_an_explanation_ends_at_its_deadline_and_with_its_client(predictor: Predictor) -> None:
    waiting = Waiting()
    with running(explained_by(waiting, predictor)) as server:
        late = server.post("/v1/explain", {"text": "good"}, Prefer="wait=1")
        assert (late.status, late.body["error_type"]) == (504, "deadline")
        assert waiting.stopped.wait(30)
        waiting.started.clear()
        waiting.stopped.clear()
        client = http.client.HTTPConnection("127.0.0.1", server.port)
        client.request("POST", "/v1/explain", json.dumps({"text": "good"}), {"Content-Type": "application/json"})
        assert waiting.started.wait(60)
        client.close()
        assert waiting.stopped.wait(30)
        assert b"tenor_clients_left_total 1.0" in server.get("/metrics").body


def test_a_tokenizer_without_positions_leaves_open_what_was_read(predictor: Predictor) -> None:
    from tenor.explanations.explainer import parts_read

    slow = SimpleNamespace(source=SimpleNamespace(tokenizer=SimpleNamespace(is_fast=False)))
    assert parts_read(LONG, slow) is None  # type: ignore[arg-type]


def test_a_model_that_cannot_be_explained_is_served_and_says_why(predictor: Predictor, tmp_path: Path) -> None:
    onnx = replace(predictor, source=replace(predictor.source, model=None))
    verdict, explainer = explanations_of(str(tmp_path), tmp_path, onnx)
    assert explainer is None
    assert "ONNX" in verdict.why
    assert "Test them" not in verdict.why
    untested, explainer = explanations_of(str(tmp_path), tmp_path, predictor)
    assert explainer is None
    assert "Test them: tenor explain" in untested.why
