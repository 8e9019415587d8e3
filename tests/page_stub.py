"""A stand-in for `tenor serve` that follows the contract; deleted once the server is there."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import tenor

PAGE = Path(tenor.__file__).parent / "serving" / "page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
KINDS = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript"}
WEIGHTS = {"superb": 2.4, "moving": 1.1, "bright": 0.7, "funny": 0.9, "good": 0.5, "warm": 0.8, "dull": -1.9, "slow": -0.8, "wooden": -1.2, "predictable": -0.9, "plot": -0.1, "film": 0.06, "story": 0.1}
HEAD, TAIL = 40, 20
INFO: dict[str, Any] = {
    "model": "demo/20261128-122943-24ab7d",
    "digest": "5f2ab01c9d7e4c33b8a1f0de77c2915a6f3be2d04811c9a05e6d7f8b9c0a1d2e",
    "labels": ["negative", "positive"],
    "max_length": 128,
    "truncation": "head_tail",
    "temperature": 1.08,
    "hybrid": False,
    "threshold": None,
    "engine": "torch",
    "engine_why": "the default",
    "evaluation": {
        "validation": {"missing": "not asked"},
        "test": {"n": 2000, "accuracy": 0.9045, "accuracy_interval": {"low": 0.8908, "high": 0.9166, "confidence": 0.95}, "macro_f1": 0.9045},
    },
    "checks": {"verdict": "103 rules were checked: no error, no warning, 2 notes.", "checked": True, "errors": [], "warnings": []},
    "explanations": {"shown": True, "why": "Deleting the words that it calls important moves the probability by 0.31 on average, random words 0.07 (95% CI of the difference 0.19 to 0.29, 200 reviews)."},
    "card": {
        "trained_on": "Trained on 2,000 English film reviews of IMDb, half of them positive.",
        "accuracy": "It is right on 90.45% of 2,000 reviews that it was not trained on (95% CI 89.08 to 91.66%).",
        "limits": ["English film reviews only: what it says about other texts was not measured.", "It reads at most 128 tokens: the first 32 and the last 94 of a longer text.", "Its probabilities are calibrated on 500 reviews; on other texts they may be wrong."],
    },
    "examples": [
        "A superb film. The story is moving and the acting warm, though the plot is slow at times.",
        "Dull and slow, with wooden acting and a predictable plot.",
        "The film was good for an hour, and then it became dull.",
    ],
    "limits": {"max_texts": 32, "max_characters": 100000, "max_body_bytes": 1000000, "deadline_seconds": 30},
    "version": "0.1.0",
}


def predicted(text: str) -> dict[str, Any]:
    score = sum(WEIGHTS.get(word.lower(), 0) for word in re.findall(r"\w+", text))
    positive = 1 / (1 + 2.718281828 ** -(1.5 * score))
    label = "positive" if positive >= 0.5 else "negative"
    return {
        "label": label, "probability": max(positive, 1 - positive), "probabilities": {"negative": 1 - positive, "positive": positive},
        "abstained": False, "truncated": len(text.split()) > HEAD + TAIL, "windows": 1, "caution": "",
    }


def explained(text: str) -> dict[str, Any]:
    prediction = predicted(text)
    sign = 1 if prediction["label"] == "positive" else -1
    every = list(re.finditer(r"\w+", text))
    words = [{"word": m.group(), "start": m.start(), "end": m.end(), "value": sign * WEIGHTS.get(m.group().lower(), 0.01)} for m in every]
    read = [[0, len(text)]]
    if prediction["truncated"]:
        a, b = every[HEAD - 1].end(), every[-TAIL].start()
        words = [w for w in words if w["end"] <= a or w["start"] >= b]
        read = [[0, a], [b, len(text)]]
    sentences = [(m.start(), m.end()) for m in re.finditer(r"[^.!?\s][^.!?]*[.!?]*", text)]
    value = lambda s: sum(w["value"] for w in words if s[0] <= w["start"] < s[1])
    best = max(sentences, key=value)
    return {"prediction": prediction, "explains": prediction["label"], "words": words, "sentence": {"start": best[0], "end": best[1], "value": value(best)},
            "read": read, "completeness_gap": 0.003, "shown": True, "why": INFO["explanations"]["why"], "digest": INFO["digest"]}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/v1/info":
            return self.json(INFO)
        file = PAGE / ("index.html" if self.path == "/" else self.path.strip("/"))
        if file.parent == PAGE and file.is_file():
            return self.reply(200, file.read_bytes(), KINDS[file.suffix])
        return self.json({"error": "not found"}, 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/predict":
            texts = body["texts"] if isinstance(body["texts"], list) else [body["texts"]]
            self.json({"predictions": [predicted(t) for t in texts], "long_text": "truncate", "abstain_below": 0.0, "threshold": None, "digest": INFO["digest"]})
        else:
            self.json(explained(body["text"]))

    def json(self, value: Any, status: int = 200) -> None:
        self.reply(status, json.dumps(value).encode(), "application/json")

    def reply(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def stub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
