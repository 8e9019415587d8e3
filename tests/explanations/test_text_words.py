"""Words and sentences: every character belongs to one word, and positions are those of the given text."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenor.explanations.text_words import sentence_spans, spread, word_spans


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in word_spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It isn't bad.", ["It", "isn't", "bad", "."]),
        ("Wow!!! So… good?!", ["Wow", "!!!", "So", "…", "good", "?", "!"]),
        ("a<br /><br />b <i>c</i>", ["a", "<br />", "<br />", "b", "<i>", "c", "</i>"]),
        ("naïve cafe\u0301 हिन्दी", ["naïve", "cafe\u0301", "हिन्दी"]),
        ("👍🏽👨‍👩‍👧 ok", ["👍🏽", "👨‍👩‍👧", "ok"]),
        ("İstanbul 9/10", ["İstanbul", "9", "/", "10"]),
        ("'quoted'", ["'", "quoted", "'"]),
        (" \n\t", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_a_script_without_spaces_is_divided_at_the_tokens() -> None:
    text = "這部電影 ok"
    assert words(text) == ["這部電影", "ok"]
    assert word_spans(text, [(0, 2), (2, 4), (5, 7)]) == [(0, 2), (2, 4), (5, 7)]
    assert word_spans("movie", [(0, 2), (2, 5)]) == [(0, 5)]


@given(st.text(max_size=60))
def test_every_character_is_in_exactly_one_word(text: str) -> None:
    spans = word_spans(text)
    covered = np.zeros(len(text), dtype=int)
    for start, end in spans:
        assert start < end
        covered[start:end] += 1
    assert spans == sorted(spans)
    inside_tags = {at for tag in re.finditer(r"</?\w+ ?/?>", text) for at in range(*tag.span())}
    for at, character in enumerate(text):
        assert covered[at] == (0 if character.isspace() and at not in inside_tags else 1)


@given(st.text(alphabet="ab .!?\n\"…<>br/。", max_size=60))
def test_sentences_contain_all_words_once(text: str) -> None:
    sentences = sentence_spans(text)
    assert all(start < end and not text[start].isspace() for start, end in sentences)
    assert all(one[1] <= other[0] for one, other in zip(sentences, sentences[1:], strict=False))
    assert sum(len("".join(text[a:b].split())) for a, b in sentences) == len("".join(text.split()))


def test_sentences() -> None:
    text = 'I slept. "Awful!" he said… No 3.5 stars<br />Great! 好。很好'
    found = [text[start:end] for start, end in sentence_spans(text)]
    assert found == ["I slept.", '"Awful!"', "he said…", "No 3.5 stars<br />", "Great!", "好。", "很好"]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5), st.floats(-9, 9)), max_size=12))
def test_spreading_keeps_the_sum(pieces: list[tuple[int, int, float]]) -> None:
    targets = [(2, 4), (4, 9), (12, 13), (20, 30)]
    values = np.array([value for _, _, value in pieces])
    sums = spread(values, [(start, start + length) for start, length, _ in pieces], targets)
    assert sums.sum() == pytest.approx(values.sum(), abs=1e-9)


def test_a_value_goes_to_the_words_that_it_overlaps() -> None:
    targets = [(0, 3), (4, 6), (6, 9)]
    assert spread(np.array([1.0, 2.0, 4.0]), [(0, 2), (5, 8), (3, 4)], targets).tolist() == [5.0, 1.0, 1.0]


@pytest.mark.parametrize("text", ["!" * 60_000, "." * 60_000 + "x", "<br />" * 10_000, "<a" * 30_000, "\u0301" * 60_000])
def test_long_repetitions_take_linear_time(text: str) -> None:
    assert sum(end - start for start, end in word_spans(text)) == len(text)
    assert sentence_spans(text)
