"""The words of an error in the report: marked, shortened, and still the text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_verdict import record

from report_runs import HOSTILE, finished_run
from tenor.evaluation.report.explanation_section import Piece, marked_pieces, shortened
from tenor.evaluation.report.page import HEAD_CHARACTERS, TEXT_CHARACTERS, confident_errors, shown_text
from tenor.runs.directory import RunDirectory
from tenor.runs.explanations import EXPLANATIONS, StoredWords, write_explanations
from tenor.runs.predictions import read_predictions
from tenor.workflows.report import write_run_report


def stored(spans: list[tuple[int, int]], values: list[float], length: int) -> StoredWords:
    return StoredWords(id="1", label="positive", characters=length, spans=tuple(spans), values=tuple(values))


def test_strong_and_weak_words_are_marked_by_colour_and_sign() -> None:
    text = "great, but rather long"
    pieces = marked_pieces(text, stored([(0, 5), (5, 6), (11, 17), (18, 22)], [2.0, 0.1, -0.5, -1.5], len(text)))
    assert pieces == (
        Piece("great", "for strong", "++", "+2.00"),
        Piece(", but "),
        Piece("rather", "against", "−", "−0.50"),
        Piece(" "),
        Piece("long", "against strong", "−−", "−1.50"),
    )


@given(
    st.text(max_size=40),
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 6), st.floats(-3, 3)), max_size=8),
    st.integers(1, 50),
)
def test_the_pieces_are_the_text(text: str, parts: list[tuple[int, int, float]], characters: int) -> None:
    spans = [(start, min(len(text), start + length)) for start, length, _ in sorted(parts) if start < len(text)]
    values = [value for _, _, value in sorted(parts)][: len(spans)]
    pieces = marked_pieces(text, stored(spans[: len(values)], values, len(text)))
    assert "".join(piece.text for piece in pieces) == text
    short = "".join(piece.text for piece in shortened(pieces, characters, characters // 2))
    tail = text[len(text) - (characters - characters // 2) :]
    assert short == (text if len(text) <= characters else f"{text[: characters // 2]} […] {tail}")


def test_a_long_text_is_shortened_as_without_marks() -> None:
    text = "".join(f"word{number} " for number in range(600))
    pieces = shortened(marked_pieces(text, stored([(0, 5)], [1.0], len(text))), TEXT_CHARACTERS, HEAD_CHARACTERS)
    assert "".join(piece.text for piece in pieces) == shown_text(text)[0]


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    texts = tuple(f"{HOSTILE} number {k}" for k in range(60))
    return finished_run(tmp_path_factory.mktemp("hostile"), texts)


def errors_of(run: RunDirectory, characters: int) -> dict[str, list[dict[str, object]]]:
    predictions = read_predictions(run.predictions / "test.parquet")
    rows = confident_errors(predictions).tolist()
    assert rows
    names = predictions.class_names
    return {
        "test": [
            {
                "id": predictions.ids[row],
                "label": names[int(np.argmax(predictions.probabilities[row]))],
                "characters": characters + len(str(row)),
                "spans": [(0, len("<script>")), (8, 16)],
                "values": [1.0, -0.3],
            }
            for row in rows
        ]
    }


def test_marked_words_are_escaped(run: RunDirectory) -> None:
    terms = [{"term": "<b>x</b>", "label": "<i>", "mean": 1.0, "count": 3, "rows": 3}]
    errors = errors_of(run, len(f"{HOSTILE} number "))
    write_explanations(run.path / EXPLANATIONS, record(words=terms, errors=errors))
    html = write_run_report(run).read_text(encoding="utf-8")
    assert '<span class="word for strong" title="+1.00">&lt;script&gt;<sup>++</sup></span>' in html
    assert "<script>document" not in html
    assert "<b>x</b>" not in html
    assert "&lt;b&gt;x&lt;/b&gt;" in html


def test_the_explanation_of_another_text_is_not_shown(run: RunDirectory) -> None:
    write_explanations(run.path / EXPLANATIONS, record(errors=errors_of(run, 5)))
    assert 'class="word for strong" title' not in write_run_report(run).read_text(encoding="utf-8")


def test_words_are_not_shown_if_the_test_failed(run: RunDirectory) -> None:
    failed = {**record().deletion.model_dump(), "low": -0.01}
    errors = errors_of(run, len(f"{HOSTILE} number "))
    terms = [{"term": "wondrous", "label": "positive", "mean": 1.0, "count": 3, "rows": 3}]
    write_explanations(run.path / EXPLANATIONS, record(deletion=failed, errors=errors, words=terms))
    html = write_run_report(run).read_text(encoding="utf-8")
    assert "Explanations are not shown" in html
    assert "no better than random words" in html
    assert 'class="word for strong" title' not in html
    assert "wondrous" not in html


def test_a_run_without_explanations_says_how_to_make_them(run: RunDirectory) -> None:
    assert "tenor explain RUN makes and tests them" in write_run_report(run).read_text(encoding="utf-8")
