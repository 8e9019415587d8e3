"""Suspected shortcuts: a planted trigger word is found; what is one-sided by chance, or moves nothing, is not."""

from pathlib import Path

import numpy as np
import pytest
from plants import PLANTS, Plant, predicted, trained

from tenor.explanations.explainer import Explainer
from tenor.explanations.shortcuts import most_predictions, one_sided_words, suspected_shortcuts
from tenor.inference.predictor import Predictor
from tenor.model.classifier import RANDOM

WITHIN = 5
LEAST = 0.95


def test_the_words_of_one_class_come_first() -> None:
    texts = [f"the film {'sparkles' if row % 2 else 'drags'} in part {row % 7}" for row in range(60)]
    words = one_sided_words(texts, np.arange(60) % 2, 2)
    assert {word.term for word in words[:2]} == {"sparkles", "drags"}
    by_term = {word.term: word for word in words}
    assert (by_term["sparkles"].label, by_term["drags"].label) == (1, 0)
    assert (by_term["drags"].rows, by_term["drags"].of_label, by_term["drags"].expected) == (30, 30, 0.5)
    assert by_term["drags"].surprise == pytest.approx(30 * np.log10(2))
    assert not {"the", "film"} & set(by_term)


def test_a_word_of_few_rows_is_no_candidate() -> None:
    texts = ["a film", "a play"] * 20 + ["a rare film"] * 4
    assert "rare" not in {word.term for word in one_sided_words(texts, np.arange(44) % 2, 2)}


def test_words_are_counted_once_per_row_in_any_case_and_kept_as_written() -> None:
    texts = ["Netflix Netflix netflix", "Netflix film"] * 5 + ["film", "play"] * 5
    labels = np.repeat([1, 0], 10)
    (word,) = [one for one in one_sided_words(texts, labels, 2) if one.term == "netflix"]
    assert (word.form, word.rows, word.of_label) == ("Netflix", 10, 10)


def test_rows_of_one_class_have_no_one_sided_words() -> None:
    assert one_sided_words(["a film"] * 10, np.zeros(10, dtype=np.int64), 2) == []


def test_decisive_words_of_a_model_are_found_by_inserting_and_deleting(predictor: Predictor) -> None:
    explainer = Explainer.of(predictor)
    good, bad = ("bright", "moving", "superb", "funny"), ("dull", "awful", "stale", "boring")
    texts = [f"film {row} was {(good if row % 2 else bad)[row // 2 % 4]} and scene {row}" for row in range(60)]
    candidates = one_sided_words(texts, np.arange(60) % 2, 2)
    hosts = predicted(explainer, texts[:20])
    done: list[int] = []
    found = suspected_shortcuts(explainer, candidates, hosts, done.append)
    assert {one.word.term for one in found} <= {*good, *bad}
    assert len(found) >= 6
    best = found[0]
    assert best.inserted > 0.1
    assert best.deleted is not None
    assert best.deleted > 0.1
    assert sum(done) <= most_predictions(candidates, hosts)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_a_model_that_predicts_one_class_has_no_hosts_for_it(predictor: Predictor) -> None:
    explainer = Explainer.of(predictor)
    texts = [f"film {row} was superb" for row in range(20)]
    candidates = one_sided_words([*texts, *(f"film {row} was stale" for row in range(20))], np.repeat([1, 0], 20), 2)
    found = suspected_shortcuts(explainer, candidates, predicted(explainer, texts))
    assert {one.word.label for one in found} <= {0}


@pytest.mark.slow
def test_a_planted_trigger_is_among_the_first_five(tmp_path: Path) -> None:
    places = {}
    for seed, plant in enumerate(PLANTS):
        explainer, hosts, texts, labels = trained(tmp_path / f"{seed}", plant, seed, RANDOM)
        found = suspected_shortcuts(explainer, one_sided_words(texts, labels, 2), hosts)
        places[str(plant)] = _place([(one.word.term, one.word.label) for one in found], plant)
    in_time = [place <= WITHIN for place in places.values()]
    assert np.mean(in_time) >= LEAST, places


def _place(found: list[tuple[str, int]], plant: Plant) -> int:
    """From 1; a large number if it was not found for its class."""
    sought = (plant.word.lower(), plant.label)
    return found.index(sought) + 1 if sought in found else 99
