"""The words and pairs that decide most, over several texts."""

import pytest

from tenor.explanations.deletion import Explained
from tenor.explanations.explainer import Explanation, Word
from tenor.explanations.global_view import Term, deciding_pairs, deciding_words


def explained(text: str, label: int, values: list[float]) -> Explained:
    words, at = [], 0
    for word, value in zip(text.split(), values, strict=True):
        start = text.index(word, at)
        at = start + len(word)
        words.append(Word(word, start, at, value))
    explanation = Explanation("", tuple(words), None, len(text), (), 0.0, sum(values))
    return Explained(text, label, 0.9, explanation)


def test_words_are_ranked_by_mean_times_count_whatever_class_was_predicted() -> None:
    rows = [explained("Great film ,", 1, [2.0, 0.1, 9.0])] * 2 + [explained("great drag drag", 0, [-1.0, 1.0, 0.5])] * 3
    great, drag = deciding_words(rows, 2)
    assert great == Term("great", 1, pytest.approx(7 / 5), 5, 5)  # type: ignore[arg-type]
    assert drag == Term("drag", 0, pytest.approx(0.75), 6, 3)  # type: ignore[arg-type]


def test_with_more_classes_a_word_speaks_for_each_class_apart() -> None:
    rows = [explained("one", 2, [1.0])] * 3 + [explained("one", 0, [0.5])] * 3 + [explained("two", 1, [-1.0])] * 3
    assert [(term.term, term.label, term.mean) for term in deciding_words(rows, 3)] == [
        ("one", 2, 1.0),
        ("one", 0, 0.5),
    ]


def test_a_pair_counts_if_both_words_have_a_part_of_it() -> None:
    rows = [explained("not good , the best", 0, [0.6, 0.4, 0.0, 0.01, -1.0])] * 3
    assert [(term.term, term.label, term.mean) for term in deciding_pairs(rows, 2)] == [("not good", 0, 1.0)]


def test_a_word_of_few_rows_is_left_out() -> None:
    assert deciding_words([explained("rare rare rare", 1, [1.0] * 3)] * 2, 2) == []
