"""Each refusal has the documented status and says what to do; the key, the headers, and the counters."""

import socket
from collections.abc import Iterator

import pytest

from served import Running, running, served_by
from tenor.errors import UserError
from tenor.inference.predictor import Predictor
from tenor.serving import exchange, http_server
from tenor.serving.limits import ServerLimits
from tenor.workflows.serve import read_key

KEY = "0123456789abcdef-key"
HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def small(predictor: Predictor) -> Iterator[Running]:
    """A server with small limits."""
    with running(served_by(predictor, ServerLimits(texts=3, characters=500, body_bytes=2_000))) as server:
        yield server


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 422, "Invalid JSON"),
        (b"\xff\xfe", 422, "Invalid JSON"),
        (b"[" * 1_000, 422, "Invalid JSON"),
        (b'{"texts": NaN}', 422, "texts"),
        ({}, 422, "texts"),
        ({"texts": []}, 422, "texts"),
        ({"texts": None}, 422, "texts"),
        ({"texts": [1]}, 422, "texts.0"),
        ({"texts": "good", "text": "good"}, 422, "text: Extra inputs"),
        ({"texts": "good", "abstain_below": 1.5}, 422, "abstain_below"),
        ({"texts": "good", "long_text": "cut"}, 422, "long_text"),
        ({"texts": ["good", ""]}, 422, "texts[1] is empty"),
        ({"texts": ["good", " \n", "b\0d"]}, 422, "texts[1] contains only white space; texts[2] contains NUL"),
        (b'{"texts": "\\ud800"}', 422, "JSON"),
        ({"texts": ["good"] * 4}, 413, "at most 3"),
        ({"texts": "g" * 501}, 413, "at most 500"),
        ({"texts": ["g" * 400] * 3 + ["g" * 1_000]}, 413, "2,000 bytes"),
    ],
)
def test_a_refusal_says_what_was_expected(small: Running, body: object, status: int, words: str) -> None:
    answer = small.post("/v1/predict", body)
    assert answer.status == status, answer
    assert words in answer.body["error"]
    assert answer.body["error_type"] == ("validation" if status == 422 else "too_large")


def test_a_refusal_does_not_repeat_all_that_was_sent(small: Running) -> None:
    answer = small.post("/v1/predict", {"texts": "good", "k" * 1_000: 1})
    assert answer.status == 422
    assert len(answer.body["error"]) < 200


def test_a_body_without_its_length_is_held_to_the_limit_too(small: Running) -> None:
    with socket.create_connection(("127.0.0.1", small.port), timeout=60) as client:
        client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        client.sendall(b"3e8\r\n" + b" " * 1000 + b"\r\n" + b"3e9\r\n" + b" " * 1001 + b"\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_other_content_is_refused(small: Running) -> None:
    form = small.post("/v1/predict", b"texts=good", Content_Type="application/x-www-form-urlencoded")
    packed = small.post("/v1/predict", {"texts": "good"}, Content_Encoding="gzip")
    assert (form.status, packed.status) == (415, 415)
    assert "Content-Type: application/json" in form.body["error"]


def test_unknown_paths_and_methods(small: Running) -> None:
    assert small.get("/v1/nothing").status == 404
    wrong = small.get("/v1/predict")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")


def test_a_request_that_does_not_end_is_closed(small: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "READ_SECONDS", 0.05)
    monkeypatch.setattr(http_server, "READ_SECONDS", 0.05)
    half = HEAD + b"Content-Length: 99\r\n\r\n{"
    for sent, expected in ((half, b"HTTP/1.1 408 "), (b"POST /v1/pre", b""), (b"", b"")):
        with socket.create_connection(("127.0.0.1", small.port), timeout=60) as client:
            client.sendall(sent)
            try:
                answer = client.recv(4096)
            except ConnectionResetError:
                answer = b""
            assert answer.startswith(expected)
            assert bool(answer) == bool(expected)


def test_an_endless_head_is_closed(small: Running) -> None:
    with socket.create_connection(("127.0.0.1", small.port), timeout=60) as client:
        client.sendall(b"GET / HTTP/1.1\r\nX: ")
        with pytest.raises(ConnectionError):
            client.sendall(b"a" * 100_000_000)


def test_the_key_is_required_where_the_model_answers(predictor: Predictor) -> None:
    with running(served_by(predictor, key=KEY)) as server:
        for path in ("/v1/info", "/metrics", "/openapi.json"):
            refused = server.get(path)
            assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
            assert server.get(path, Authorization=f"Bearer {KEY}").status == 200
        for path in ("/v1/predict", "/predict", "/classify", "/v1/explain"):
            assert server.post(path, {"texts": "good"}, Authorization="Bearer wrong").status == 401
            assert server.post(path, {"texts": "good"}, Authorization=f"Basic {KEY}").status == 401
        assert server.post("/v1/predict", {"texts": "good"}, Authorization=f"bearer {KEY}").status == 200
        assert [server.get(path).status for path in ("/livez", "/readyz", "/health", "/")] == [200] * 4


def test_a_key_is_read_and_a_weak_one_refused(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TENOR_API_KEY", raising=False)
    assert read_key(None) is None
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    assert read_key(file) == KEY
    file.write_bytes(b"\xef\xbb\xbf" + KEY.encode() + b"\r\n")
    assert read_key(file) == KEY
    for weak in ("short", "with blanks in the middle", ""):
        file.write_text(weak)
        with pytest.raises(UserError, match="secrets"):
            read_key(file)
    with pytest.raises(UserError, match="cannot be read"):
        read_key(tmp_path / "none")
    monkeypatch.setenv("TENOR_API_KEY", KEY)
    assert read_key(None) == KEY


def test_no_answer_lets_a_page_run_or_load_anything_foreign(small: Running) -> None:
    answers = [small.get("/"), small.get("/v1/info"), small.get("/nothing"), small.post("/v1/predict", b"{")]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_counters_have_no_label_that_a_client_chooses(predictor: Predictor) -> None:
    with running(served_by(predictor)) as server:
        for number in range(20):
            server.get(f"/made-up-{number}")
            server.post("/v1/predict", {"texts": f"film {number}"})
        text = server.get("/metrics").body.decode()
    assert "made-up" not in text
    assert "film" not in text
    assert 'tenor_requests_total{route="/v1/predict",status="200"} 20.0' in text
    assert (
        sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("tenor_predictions_total")) == 20
    )


def test_the_facts_are_said(small: Running, predictor: Predictor) -> None:
    info = small.get("/v1/info").body
    assert info["digest"] == predictor.source.digest
    assert info["labels"] == list(predictor.labels)
    assert (info["max_length"], info["truncation"]) == (64, "head")
    assert info["limits"]["max_texts"] == 3
    assert info["checks"]["verdict"].startswith("not checked")
    assert info["evaluation"]["test"]["missing"]
