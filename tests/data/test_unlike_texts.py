"""Texts in another language or script than the training texts are recognized, and English ones of any style are not."""

from collections.abc import Sequence

import numpy as np
import pytest

from tenor.config.schema import Data
from tenor.data.sources import read_source
from tenor.data.unlike_texts import Kind, UnlikeTexts, profile_of, unlike
from tenor.runs.missing import Missing
from tenor.runs.model_notes import TrainingTexts

OTHER_LANGUAGES = [
    "Der Film war leider eine große Enttäuschung, ich habe mich nur gelangweilt.",
    "Nie wieder! Der Akku hält keine zwei Stunden und der Kundendienst antwortet nicht.",
    "Ce film est vraiment magnifique, je le recommande à tout le monde.",
    "Excellent produit, conforme à la description.",
    "La película es muy aburrida y demasiado larga.",
    "El servicio fue pésimo y la comida estaba fría.",
    "Il film è noioso e troppo lungo, non lo consiglio a nessuno.",
    "Péssimo atendimento, não volto nunca mais a esse restaurante.",
    "Geweldig boek, ik heb het in één dag uitgelezen.",
    "Film çok sıkıcıydı, kimseye tavsiye etmem.",
]
OTHER_SCRIPTS = [
    "这部电影太好看了，强烈推荐给大家。",
    "好看",
    "Фильм просто отличный, всем советую посмотреть.",
    "الفيلم رائع جدا وأنصح الجميع بمشاهدته",
    "この映画は本当に素晴らしかったです。",
    "이 영화는 정말 재미있었어요.",
    "यह फिल्म बहुत अच्छी थी।",
]
ENGLISH = [
    "Grate movei, i relly lovd it so mcuh, teh actng was awsome!!",
    "Excellent acting, brilliant cinematography, superb soundtrack, amazing ending",
    "pip install foo && python -m foo --help just works. import foo as f; f.run(x=1) gives a nice result for me",
    "Great phone 👍👍👍",
    "LOVE IT 😍😍😍😍😍😍",
    "10/10",
    "Christopher Nolan, Leonardo DiCaprio, Ellen Page, Tom Hardy, Cillian Murphy and Michael Caine: what a cast!",
    "gr8 app lol, luv it 2 bits, thx devs",
    "Waiting for Godot at Schauspielhaus Zürich: Bezaubernd, as my wife said, and I agree.",
    'Spielberg\'s "Schindler\'s List" and Wenders\' "Der Himmel über Berlin" are masterpieces.',
    "@united flight delayed AGAIN #fail #neveragain http://t.co/abc123",
    "five stars excellent quality fast shipping great seller highly recommended",
    "¯\\_(ツ)_/¯ it was ok I guess",
]


def texts_of(source: str) -> Sequence[str]:
    data = read_source(Data(source=source))  # type: ignore[arg-type]
    rows = data.test if isinstance(data.train, Missing) else data.train
    return rows.texts  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def reviews() -> list[str]:
    texts = texts_of("embedded")
    return [texts[row] for row in range(0, len(texts), 15)]


@pytest.fixture(scope="module")
def known(reviews: list[str]) -> TrainingTexts:
    return profile_of(reviews[::2])


@pytest.mark.parametrize(
    ("texts", "kind"), [(OTHER_LANGUAGES, "language"), (OTHER_SCRIPTS, "script"), (ENGLISH, None)], ids=str
)
def test_each_text_is_recognized(texts: list[str], kind: Kind | None, known: TrainingTexts) -> None:
    for text in texts:
        assert unlike(text, 0.0, known) == kind, text


def test_other_reviews_of_the_same_kind_are_not_unlike(reviews: list[str], known: TrainingTexts) -> None:
    assert not [text for text in reviews[1::2] if unlike(text, 0.0, known)]


def test_the_foreign_sentences_of_a_real_set_are_found_and_hardly_any_other(known: TrainingTexts) -> None:
    """Rotten Tomatoes, another domain than the profile's, contains 46 Spanish, Portuguese and French sentences."""
    found = [text for text in texts_of("rotten_tomatoes") if unlike(text, 0.0, known) == "language"]
    foreign = [
        text for text in found if set(text.split()) & {"de", "que", "uma", "una", "es", "o", "la", "e", "y", "un"}
    ]
    assert len(foreign) >= 40
    assert len(found) - len(foreign) <= 4, set(found) - set(foreign)


def test_the_language_is_judged_only_by_texts_that_characterize_it(reviews: list[str]) -> None:
    few = profile_of(reviews[:50])
    assert few.frequent_words == ""
    assert unlike(OTHER_LANGUAGES[0], 0.0, few) is None
    assert unlike(OTHER_SCRIPTS[0], 0.0, few) == "script"
    compounds = profile_of([" ".join(f"w{chr(97 + a)}{chr(97 + b)}x" for b in range(20)) for a in range(26)] * 10)
    assert unlike("an ordinary sentence of more than eight words in all", 0.0, compounds) == "language"
    random = np.random.default_rng(0)
    rare = profile_of(
        [" ".join("".join(map(chr, word)) for word in random.integers(97, 123, (9, 7))) for _ in range(300)]
    )
    assert rare.frequent_words == "", "no word is frequent"


def test_training_texts_of_several_languages_are_all_known() -> None:
    both = profile_of([*OTHER_LANGUAGES[:2], *OTHER_SCRIPTS[:1]] * 100)
    assert not [text for text in (*OTHER_LANGUAGES[:2], OTHER_SCRIPTS[0]) if unlike(text, 0.0, both)]


def test_no_texts_have_a_profile_that_judges_nothing() -> None:
    assert unlike("any text", 0.0, profile_of([])) == "script"
    assert unlike("12 34", 0.0, profile_of([])) is None


def test_unknown_tokens_and_labels_need_no_record() -> None:
    assert unlike("好看", 0.6, None) == "unknown"
    assert unlike("好看 very good", 0.5, None) is None
    assert unlike("__label__2 a fine film", 0.0, None) == "label"


def test_the_count_of_chunks_is_that_of_the_whole(known: TrainingTexts) -> None:
    texts: list[object] = [*ENGLISH, *OTHER_LANGUAGES, None, *OTHER_SCRIPTS]
    whole, parts = UnlikeTexts(known), UnlikeTexts(known)
    counts = np.full(len(texts), 10), np.arange(len(texts)) % 2
    kinds = whole.add(texts, *counts, lambda position: f"row {position}")
    assert set(kinds) == {at for at, text in enumerate(texts) if text in (*OTHER_LANGUAGES, *OTHER_SCRIPTS)}
    for start in range(0, len(texts), 7):
        part = slice(start, start + 7)
        parts.add(
            texts[part], counts[0][part], counts[1][part], lambda position, start=start: f"row {start + position}"
        )
    assert parts.record() == whole.record()
    assert whole.record()["other_language"] == len(OTHER_LANGUAGES)
    assert len(whole.notes) == 2, "15 of 310 tokens are unknown: fewer than 5%"
    assert whole.notes[0].startswith("10 of 31 texts (32.3%)")
    assert "row 13, 'Der Film war" in whole.notes[0]
    assert "another script than the training texts (latin)" in whole.notes[1]


def test_single_rows_among_many_are_recorded_but_not_told(known: TrainingTexts) -> None:
    count = UnlikeTexts(known)
    texts = [*ENGLISH * 100, OTHER_LANGUAGES[0]]
    count.add(texts, np.ones(len(texts)), np.zeros(len(texts)), str)
    assert (count.record()["other_language"], count.notes) == (1, ())


def test_without_a_record_nothing_is_claimed() -> None:
    record = UnlikeTexts(None).record()
    assert "no record" in record["other_script"]["missing"]
    assert "no record" in record["other_language"]["missing"]
    assert record["notes"] == []
