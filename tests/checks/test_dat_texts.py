"""Texts as read: each fault at each severity, and clean texts."""

import numpy as np
import pytest

from tenor.checks.catalogue import causes_of
from tenor.checks.evidence.data_evidence import DataEvidence, Rows
from tenor.checks.finding import CannotTell
from tenor.checks.rule import Rule
from tenor.checks.rules import dat_texts as rules
from tenor.config.schema import Data
from tenor.data.dataset import LabelledText
from tenor.data.sources import read_source

CLEAN = [f"a film of {number} naïve scenes, « très » déjà vu, ÂGE and NÃO" for number in range(1000)]


def data(texts: list[str], labels: np.ndarray | None = None) -> DataEvidence:
    return DataEvidence(Rows(np.arange(len(texts)) % 2 if labels is None else labels, texts), 2)


@pytest.mark.parametrize(
    ("rule", "bad", "severity"),
    [
        (rules.blank_texts, ["", " \n"], "warning"),
        (rules.blank_texts, [None], "warning"),
        (rules.blank_texts, [""] * 2000, "error"),
        (rules.one_text_dominates, ["[deleted]"] * 400, "warning"),
        (rules.one_text_dominates, ["good"] * 20, None),
        (rules.placeholder_texts, ["nan", "None", " NULL"], "warning"),
        (rules.placeholder_texts, ["none"], "note"),
        (rules.placeholder_texts, ["[deleted]", "N/A", "<br />", "--", "TODO", "\u200b"], "warning"),
        (
            rules.placeholder_texts,
            ["Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor"],
            "note",
        ),
        (
            rules.placeholder_texts,
            [
                "[Insert movie title] was a complete waste of my evening.",
                "I loved [MOVIE NAME] from start to finish.",
                "{actor} was superb, and I watched it twice with all of my family.",
                "Our {{ product_name }} broke",
                "{{review_text}}",
                "<review text here>",
                "lorem ipsum dolor sit amet",
            ],
            "warning",
        ),
        (
            rules.placeholder_texts,
            [
                "[NAME] was kind to [PERSON] in {PLACEHOLDER}",
                "<b>The film</b> [spoilers here] is good",
                "I met [director] Ridley Scott {1998}",
                "the title here is bad, your review is <3 and >2",
                "it explains what lorem ipsum is",
            ],
            None,
        ),
        (
            rules.placeholder_texts,
            ["none of it was good", ":)", "!!!", "ok", "10/10", "👍", "the [deleted] scenes"],
            None,
        ),
        (rules.assistant_texts, ["As an AI language model, I cannot watch films."] * 2, "warning"),
        (rules.assistant_texts, ["I’m sorry, but I can't assist with that request."], "note"),
        (rules.assistant_texts, ["I'm sorry, but I can't help with writing fake reviews."], "note"),
        (rules.assistant_texts, ["I cannot generate a negative review of this product."], "note"),
        (rules.assistant_texts, ["Sure! Here's a positive review of the film:"], "note"),
        (rules.assistant_texts, ["Here is a negative movie review:"] * 2, "warning"),
        (rules.placeholder_texts, ["TODO: add review text"] * 2, "warning"),
        (rules.assistant_texts, ["I apologize, but I don't feel comfortable writing fake reviews."], "note"),
        (
            rules.assistant_texts,
            [
                "I'm sorry, but I can't recommend this film to anyone.",
                "I can't help but love it",
                "I am unable to create an account, and support will not help with my order",
                "I cannot access my photos. The assistant in the app is no language model",
                "Sure, here is where it fails: the plot.",
                "Here is my review: a film that I will not forget.",
                "Here is a film that no review does justice",
                "A film about a boy who was made as an AI robot.",
            ],
            None,
        ),
        (rules.broken_characters, ["cafÃ© was lovely"] * 20, "warning"),
        (rules.broken_characters, ["it doesnâ€™t work"], "note"),
        (rules.broken_characters, ["caf\ufffd"], "note"),
        (rules.conflicting_labels, ["so so"] * 2, "note"),
        (rules.conflicting_labels, ["so so"] * 20, "warning"),
    ],
)
def test_faulty_texts_are_reported_among_clean_ones(rule: Rule, bad: list[str], severity: str | None) -> None:
    found = rule(data(CLEAN + bad))
    assert (found and found.severity) == severity
    assert rule(data(CLEAN)) is None


ITEMS = ("pizza", "green curry", "fish", "bread", "coffee", "tea", "steak", "soup")
OPINIONS = ("great", "really good", "awful", "fine", "superb", "poor", "lovely", "so so")


@pytest.mark.parametrize(
    "template",
    [
        "The {} at this restaurant was {} and I will tell my friends",
        "I really loved the {}, because it was {} today.",
        "Last week we had {} and our guests found it simply {}",
        "Review 17 of 99: {} {} and nothing else to say here",
    ],
)
def test_templates_are_reported(template: str, real_reviews: LabelledText) -> None:
    made = [template.format(item, opinion) for item in ITEMS for opinion in OPINIONS]
    found = rules.texts_from_templates(data([*made, *real_reviews.texts]))
    assert found.severity == "warning"
    assert found.observed.startswith("64 of 8")


def test_real_reviews_are_neither_templates_nor_placeholders_nor_refusals() -> None:
    source = read_source(Data())
    texts = source.train.texts  # type: ignore[union-attr]
    healthy = data([texts[row] for row in range(0, len(texts), 10)])
    for rule in (rules.texts_from_templates, rules.placeholder_texts, rules.assistant_texts):
        assert rule(healthy) is None


def test_a_signature_of_real_reviews_is_reported_and_a_few_are_not(real_reviews: LabelledText) -> None:
    texts = [f"{text} {number}" for number in range(5) for text in real_reviews.texts]
    signed = [f"{text} Sent from my phone, excuse typos" for text in texts[:60]]
    assert "sent from my phone, excuse typos" in rules.texts_from_templates(data(texts + signed)).observed
    few = texts[60:] + [f"{text} Sent from my phone, excuse typos" for text in texts[:9]]
    assert rules.texts_from_templates(data(few)) is None
    with pytest.raises(CannotTell):
        rules.texts_from_templates(data(["the same short text of seven words here"] * 500))


def test_copies_that_were_changed_on_their_way_conflict_if_their_labels_do(real_reviews: LabelledText) -> None:
    texts = list(real_reviews.texts)
    copies = [f"<p>“{text.upper()}”</p>" for text in texts]
    labels = np.repeat([0, 1], len(texts))
    assert rules.conflicting_labels(data([*texts, *copies], labels)).observed.startswith(f"{len(texts)} texts")


def test_a_single_repeated_text_is_an_error() -> None:
    assert rules.one_text_dominates(data(["same"] * 20)).severity == "error"


def test_the_first_of_equally_frequent_texts_is_reported() -> None:
    for texts in (["b", "a"] * 6, ["a", "b"] * 6):
        assert repr(texts[0]) in rules.one_text_dominates(data(["", *texts])).observed


def test_duplicates_with_equal_labels_and_blank_ones_do_not_conflict() -> None:
    assert rules.conflicting_labels(data(["so so", "so so", "", ""], np.array([1, 1, 0, 1]))) is None


def test_conflicts_across_splits_count() -> None:
    both = DataEvidence(Rows(np.array([0]), ["so so"]), 2, test=Rows(np.array([1]), ["so so"]))
    assert rules.conflicting_labels(both).n == 2


@pytest.mark.parametrize("texts", [None, []])
@pytest.mark.parametrize("rule", [value for value in vars(rules).values() if isinstance(value, Rule)])
def test_missing_texts_are_not_judged(rule: Rule, texts: list[str] | None) -> None:
    with pytest.raises(CannotTell):
        rule(DataEvidence(Rows(np.zeros(0, int), texts), 2))


def test_a_placeholder_finding_shows_its_slot_and_explains_no_template() -> None:
    long = f"{'A film about a boy and his dog, which I saw twice. ' * 3}The best of [MOVIE NAME] is its end."
    finding = rules.placeholder_texts(data([long]))
    assert finding is not None
    assert "[MOVIE NAME]" in finding.observed
    assert "DAT018" in causes_of(rules.one_text_dominates)
    assert not {"DAT018"} & {*causes_of(rules.texts_from_templates), *causes_of(rules.blank_texts)}
