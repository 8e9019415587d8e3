"""Truncation keeps what it promises, and the cache never answers for other texts, tokenizers or settings."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenor.config.schema import Data
from tenor.data import tokenization
from tenor.data.dataset import LabelledText
from tenor.data.sources.embedded import embedded_encoder_folder
from tenor.data.tokenization import (
    ROWS_PER_CHUNK,
    Shortened,
    TokenizedText,
    Truncation,
    cache_key,
    special_tokens_around,
    tokenize,
)
from tenor.errors import UserError
from tiny_rows import WORDS, WordCounter, labelled, words

STRATEGIES = ("head", "tail", "head_tail")


@pytest.fixture
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(embedded_encoder_folder())


def ids_of(tokens: TokenizedText) -> list[list[int]]:
    return [tokens.row(index).tolist() for index in range(len(tokens))]


@given(
    st.integers(0, 400),
    st.integers(8, 300),
    st.integers(0, 4),
    st.sampled_from(STRATEGIES),
    st.floats(0, 1),
)
def test_truncation_keeps_the_ends_it_promises(n: int, longest: int, special: int, strategy: str, share: float) -> None:
    content = np.arange(n)
    kept = Truncation(longest, strategy, share).keep(content, special)
    room = longest - special
    assert len(kept) == min(n, room)
    if n <= room:
        np.testing.assert_array_equal(kept, content)
        return
    head = int((kept == np.arange(room)).sum())  # Positions below the cut still hold their own number.
    tail = room - head
    np.testing.assert_array_equal(kept, [*range(head), *range(n - tail, n)])
    match strategy:
        case "head":
            assert head == room
        case "tail":
            assert tail == room
        case "head_tail":
            assert abs(head - room * share) <= 0.5


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("max_length", [16, 130, 256])
def test_a_truncated_row_is_the_promised_part_between_special_tokens_that_stand_once(
    tokenizer: Any, strategy: str, max_length: int
) -> None:
    texts = ["good", words(400), "", words(max_length - 2), words(max_length - 1)]
    tokens = tokenize(labelled(texts, [0] * 5), tokenizer, Truncation(max_length, strategy, 0.25))
    for index, text in enumerate(texts):
        content = tokenizer.convert_tokens_to_ids(text.split())
        row = tokens.row(index).tolist()
        assert (row[0], row[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert sum(token in tokenizer.all_special_ids for token in row) == 2
        assert tokens.lengths[index] == len(row) == min(max_length, len(content) + 2)
        assert tokens.full_lengths[index] == len(content) + 2
        room = max_length - 2
        head = {"head": room, "tail": 0, "head_tail": round(room / 4)}[strategy]
        expected = content if len(content) <= room else content[:head] + content[len(content) - room + head :]
        assert row[1:-1] == expected
    assert tokens.truncated.tolist() == [False, True, False, False, True]


def test_the_tokenizers_own_truncation_and_padding_never_act(tokenizer: Any, real_reviews: LabelledText) -> None:
    own = json.loads(tokenizer.backend_tokenizer.to_str())
    assert own["truncation"]["max_length"] == 128  # Else this test shows nothing.
    tokens = tokenize(real_reviews, tokenizer, Truncation(512, "head", 0.5))
    assert tokens.lengths.max() > 128
    assert tokens.lengths.min() < 128
    assert (tokens.lengths == np.minimum(tokens.full_lengths, 512)).all()
    assert all(tokenizer.pad_token_id not in row for row in ids_of(tokens))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20), st.integers(8, 20), st.sampled_from(STRATEGIES))
def test_every_row_is_found_again(counts: list[int], max_length: int, strategy: str) -> None:
    rows = labelled([words(count) for count in counts], [number % 2 for number in range(len(counts))])
    tokens = tokenize(rows, WordCounter(), Truncation(max_length, strategy, 0.5))
    assert len(tokens) == len(rows)
    np.testing.assert_array_equal(tokens.labels, rows.labels)
    np.testing.assert_array_equal(tokens.full_lengths, np.array(counts) + 2)
    assert [len(row) for row in ids_of(tokens)] == tokens.lengths.tolist()


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(
    counts=st.lists(st.integers(0, 60), min_size=1, max_size=8),
    lengths=st.tuples(st.integers(4, 40), st.integers(3, 40)).map(sorted),
    share=st.floats(0, 1),
)
def test_rows_that_are_cut_again_are_those_of_a_shorter_cut(
    strategy: str, counts: list[int], lengths: list[int], share: float
) -> None:
    rows, tokenizer = labelled([words(n) for n in counts], [0] * len(counts)), WordCounter()
    short, long = (Truncation(length, strategy, share) for length in lengths)
    expected = tokenize(rows, tokenizer, short)
    found = Shortened(tokenize(rows, tokenizer, long), short, special_tokens_around(tokenizer))
    np.testing.assert_array_equal(found.lengths, expected.lengths)
    assert len(found) == len(rows)
    for row in range(len(rows)):
        np.testing.assert_array_equal(found.row(row), expected.row(row))


def test_rows_beyond_the_first_chunk_are_found_too(own_cache: Path) -> None:
    count = 2 * ROWS_PER_CHUNK + 3
    tokens = tokenize(
        labelled([words(n % 7) for n in range(count)], [0] * count), WordCounter(), Truncation(8, "head", 0.5)
    )
    assert len(tokens) == count
    assert len(tokens.chunks) == 3
    for index in (0, ROWS_PER_CHUNK - 1, ROWS_PER_CHUNK, 2 * ROWS_PER_CHUNK, count - 1):
        assert tokens.row(index).tolist() == [1, *range(3, 3 + min(index % 7, 6)), 2]


@pytest.mark.parametrize("at_once", [1, 50, 200])
def test_long_texts_reach_the_tokenizer_a_few_at_a_time(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    rows = labelled([words(n) for n in (3, 40, 0, 0, 7, 1, 90, 2)], [0] * 8)
    expected = ids_of(tokenize(rows, WordCounter(), Truncation(8, "head", 0.5)))
    shutil.rmtree(own_cache)
    monkeypatch.setattr(tokenization, "CHARACTERS_AT_ONCE", at_once)
    given: list[list[str]] = []

    class Listener(WordCounter):
        def __call__(self, text: Any, **options: Any) -> dict[str, Any]:
            if not options.get("return_special_tokens_mask"):
                given.append(text)
            return super().__call__(text, **options)

    assert ids_of(tokenize(rows, Listener(), Truncation(8, "head", 0.5))) == expected
    assert len(given) > 1
    assert all(sum(map(len, texts[1:])) <= at_once for texts in given)


def test_no_room_for_text_is_refused(own_cache: Path) -> None:
    with pytest.raises(UserError, match=r"data\.max_length=2 leaves no room"):
        tokenize(labelled(["good"], [0]), WordCounter(), Truncation(2, "head", 0.5))
    assert not list((own_cache / "tokens").glob("*.arrow"))


def test_truncation_is_what_the_configuration_says() -> None:
    assert Truncation.of(Data(max_length=99, truncation="tail", head_share=0.1)) == Truncation(99, "tail", 0.1)


ROWS = labelled(["good film", "", "bad plot " * 10, "never"], [0, 1, 0, 1])
CUT = Truncation(12, "head_tail", 0.5)


def test_the_second_read_equals_the_first_and_tokenizes_nothing(own_cache: Path) -> None:
    counter = WordCounter()
    first = tokenize(ROWS, counter, CUT)
    assert counter.texts == len(ROWS)
    second = tokenize(ROWS, counter, CUT)
    assert counter.texts == len(ROWS)
    assert ids_of(first) == ids_of(second)
    for name in ("lengths", "full_lengths", "labels"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.slow
def test_all_embedded_reviews_are_read_from_a_warm_cache_without_the_tokenizer(own_cache: Path, tokenizer: Any) -> None:
    from tenor.data.sources.embedded import embedded_reviews

    class Mute:
        """The same tokenizer to the cache's key; it says nothing."""

        backend_tokenizer = tokenizer.backend_tokenizer

        def __call__(self, *_: Any, **__: Any) -> None:
            raise AssertionError("a text was tokenized again")

    source = embedded_reviews(Data())
    splits = [rows for rows in (source.train, source.test) if isinstance(rows, LabelledText)]
    assert sum(len(rows) for rows in splits) == 25_000
    truncation = Truncation.of(Data())
    for rows in splits:
        first = tokenize(rows, tokenizer, truncation)
        again = tokenize(rows, Mute(), truncation)
        np.testing.assert_array_equal(again.full_lengths, first.full_lengths)
        for (ids, starts), (ids_before, starts_before) in zip(again.chunks, first.chunks, strict=True):
            np.testing.assert_array_equal(ids, ids_before)
            np.testing.assert_array_equal(starts, starts_before)


def test_cached_tokens_go_with_the_labels_of_the_rows_at_hand(own_cache: Path) -> None:
    tokenize(ROWS, WordCounter(), CUT)
    assert tokenize(labelled(ROWS.texts, [1, 1, 0, 0]), WordCounter(), CUT).labels.tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(
    "texts",
    [
        ["good film", "", "bad plot " * 10, "never!"],
        ["good film", "bad plot " * 10, "", "never"],
        ["good fil", "m", "bad plot " * 10, "never"],
        ["good film", "", "bad plot " * 10],
        ["good film", "", "bad plot " * 10, "never", ""],
    ],
)
def test_other_texts_have_another_key(texts: list[str]) -> None:
    other = labelled(texts, [0] * len(texts))
    assert cache_key(other, WordCounter(), CUT) != cache_key(ROWS, WordCounter(), CUT)


@given(st.lists(st.text(max_size=5), max_size=5), st.lists(st.text(max_size=5), max_size=5))
def test_keys_are_equal_exactly_for_equal_texts(first: list[str], second: list[str]) -> None:
    keys = {cache_key(labelled(texts, [0] * len(texts)), WordCounter(), CUT) for texts in (first, second)}
    assert (len(keys) == 1) == (first == second)


@pytest.mark.parametrize("other", [Truncation(13, "head_tail", 0.5), Truncation(12, "head", 0.5)])
def test_other_settings_have_another_key(other: Truncation) -> None:
    assert cache_key(ROWS, WordCounter(), other) != cache_key(ROWS, WordCounter(), CUT)
    assert cache_key(ROWS, WordCounter(), Truncation(12, "head_tail", 0.4)) != cache_key(ROWS, WordCounter(), CUT)


def test_another_tokenizer_has_another_key(tokenizer: Any) -> None:
    from tokenizers.normalizers import Lowercase
    from transformers import AutoTokenizer

    key = cache_key(ROWS, tokenizer, CUT)
    assert key != cache_key(ROWS, WordCounter(), CUT)
    assert cache_key(ROWS, WordCounter(WORDS[::-1]), CUT) != cache_key(ROWS, WordCounter(), CUT)
    changed = AutoTokenizer.from_pretrained(embedded_encoder_folder())
    changed.backend_tokenizer.normalizer = Lowercase()
    assert cache_key(ROWS, changed, CUT) != key
    tokenizer.add_tokens(["unbelievablyoverrated"])
    assert cache_key(ROWS, tokenizer, CUT) != key


def test_what_decides_nothing_leaves_the_key_as_it_is(tokenizer: Any) -> None:
    key = cache_key(ROWS, tokenizer, CUT)
    tokenizer("good", truncation=True, max_length=3, padding="max_length")
    assert cache_key(ROWS, tokenizer, CUT) == key
    halves = LabelledText(pa.concat_tables([ROWS.table[:1], ROWS.table[1:]]), ROWS.class_names, "elsewhere")
    assert halves.table["text"].num_chunks == 2
    assert cache_key(halves, tokenizer, CUT) == key
    assert cache_key(ROWS.select([3, 0]).select([1, 0]), tokenizer, CUT) == cache_key(
        ROWS.select([0, 3]), tokenizer, CUT
    )


@pytest.mark.parametrize("share_left", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_cache_file_is_made_anew(own_cache: Path, share_left: float) -> None:
    counter = WordCounter()
    expected = ids_of(tokenize(ROWS, counter, CUT))
    (path,) = (own_cache / "tokens").glob("*.arrow")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share_left)])
    assert ids_of(tokenize(ROWS, counter, CUT)) == expected
    assert counter.texts == 2 * len(ROWS)
    assert path.read_bytes() == whole


def test_an_interrupted_tokenization_leaves_no_entry(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> Any:
        yield [np.array([1, 2], np.int32)], [2]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tokenization, "_encode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tokenize(ROWS, WordCounter(), CUT)
    assert [path.suffix for path in (own_cache / "tokens").iterdir()] in ([], [".lock"])
    assert len(tokenize(ROWS, WordCounter(), CUT)) == len(ROWS)


FILL = """
import sys, time
from tiny_rows import WordCounter, labelled
from tenor.data.tokenization import Truncation, tokenize

class Slow(WordCounter):
    def __call__(self, *args, **kwargs):
        time.sleep(0.5)
        return super().__call__(*args, **kwargs)

slow = Slow()
sys.stdin.read()
rows = labelled(["good film", "", "bad plot " * 10, "never"], [0, 1, 0, 1])
tokens = tokenize(rows, slow, Truncation(12, "tail", 0.5))
print(slow.texts, [tokens.row(index).tolist() for index in range(len(tokens))])
"""


@pytest.mark.slow
def test_two_processes_that_fill_one_entry_end_with_one_valid_entry(own_cache: Path) -> None:
    path = os.pathsep.join([str(Path(__file__).resolve().parents[1]), *sys.path])
    both = [
        subprocess.Popen(
            [sys.executable, "-c", FILL],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        for _ in range(2)
    ]
    # Each waits, imported and ready, for its input to end; `communicate` would end the other's only afterwards.
    for process in both:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    answers = [process.communicate(timeout=120)[0].strip().split(" ", 1) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(worked for worked, _ in answers) == ["0", "4"]  # One tokenized; the other waited and read.
    assert answers[0][1] == answers[1][1]
    (entry,) = (own_cache / "tokens").glob("*.arrow")
    assert {found.suffix for found in entry.parent.iterdir()} <= {".arrow", ".lock", ".sha256"}
    again = tokenize(labelled(ROWS.texts, [0, 1, 0, 1]), WordCounter(), Truncation(12, "tail", 0.5))
    assert str(ids_of(again)) == answers[0][1]
