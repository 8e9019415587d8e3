"""Faults in rows, labels and splits."""

from dataclasses import replace

import numpy as np
import torch

from faults.fault import fault, faults_of
from faults.program import Program, healthy
from faults.texts import Split, sentences


def changed(split: Split, **parts: object) -> Split:
    return replace(split, **parts)


def some(program: Program, share: float, split: str = "train") -> np.ndarray:
    """A random share of a split's rows."""
    n = len(getattr(program, split))
    return np.random.default_rng(program.seed).permutation(n)[: int(share * n)]


def rewritten(split: Split, rows: np.ndarray, new: object) -> Split:
    """The split with the texts of some rows replaced by what `new` makes of them."""
    texts = list(split.texts)
    for row in rows:
        texts[row] = new(texts[row])
    return replace(split, texts=tuple(texts))


@fault("preflight", "DAT002", in_program=("DAT001",))
def head_of_a_sorted_source(program: Program) -> Program:
    """The first 640 rows of a source that is sorted by label."""
    source = sentences()
    rows = np.arange(640)
    return replace(program, train=source.rows(rows), source_labels=source.labels, train_positions=rows)


@fault("preflight", "DAT001")
def a_class_is_filtered_out(program: Program) -> Program:
    """A filter on the text lets one class through."""
    return replace(program, train=program.train.rows(np.flatnonzero(program.train.labels == 0)))


@fault("preflight", "DAT023")
def validation_of_one_class(program: Program) -> Program:
    """The validation rows were cut from the end of a sorted file."""
    return replace(program, validation=program.validation.rows(np.flatnonzero(program.validation.labels == 1)))


@fault("preflight", "DAT004", "DAT003")
def sorted_and_not_shuffled(program: Program) -> Program:
    """The loader reads a sorted file in its order."""
    train = program.train.rows(np.argsort(program.train.labels, kind="stable"))
    return replace(program, train=train, order=lambda program: list(range(len(program.train))))


@fault("preflight", "DAT007")
def labels_from_one(program: Program) -> Program:
    """Labels are counted 1, 2 instead of 0, 1."""
    splits = {name: getattr(program, name) for name in ("train", "validation", "test")}
    return replace(program, **{name: changed(split, labels=split.labels + 1) for name, split in splits.items()})


@fault("preflight", "DAT005")
def unlabelled_rows(program: Program) -> Program:
    """Rows without a label carry -1, as in the hub's SST-2."""
    labels = program.train.labels.copy()
    labels[some(program, 0.1)] = -1
    return replace(program, train=changed(program.train, labels=labels))


@fault("preflight", "DAT006", "DAT025")
def labels_as_floats(program: Program) -> Program:
    """A CSV reader with a gap in the column makes floats of the labels."""
    return replace(program, train=changed(program.train, labels=program.train.labels.astype(np.float32)))


@fault("preflight", "DAT025", "DAT006")
def labels_in_a_column(program: Program) -> Program:
    """Collated labels have the shape (n, 1)."""
    return replace(program, labels_of=lambda labels: torch.as_tensor(labels)[:, None])


@fault("preflight", "DAT008")
def labels_one_row_off(program: Program) -> Program:
    """Labels were read with a header row too many."""
    return replace(program, train=changed(program.train, labels=np.roll(program.train.labels, 1)))


@fault("preflight", "DAT008")
def labels_shuffled_alone(program: Program) -> Program:
    """Texts were shuffled, labels were not."""
    program = healthy(program.encoders, program.seed, rows=1280)  # On fewer than 1,000 the rule abstains.
    labels = np.random.default_rng(program.seed).permutation(program.train.labels)
    return replace(program, train=changed(program.train, labels=labels))


@fault("preflight", "DAT009")
def validation_labels_inverted(program: Program) -> Program:
    """The validation file calls the positive class 0."""
    program = healthy(program.encoders, program.seed, rows=1280)  # On fewer the cheap baseline may not judge others.
    return replace(program, validation=changed(program.validation, labels=1 - program.validation.labels))


@fault("preflight", "DAT010")
def conflicting_duplicates(program: Program) -> Program:
    """A tenth of the texts comes twice, with different labels."""
    again = program.train.rows(some(program, 0.1))
    ids = tuple(f"{one}-again" for one in again.ids)
    train = Split(
        program.train.texts + again.texts,
        np.concatenate([program.train.labels, 1 - again.labels]),
        program.train.ids + ids,
    )
    return replace(program, train=train)


@fault("preflight", "DAT013")
def test_on_the_training_rows(program: Program) -> Program:
    """The test split is a sample of the training rows."""
    return replace(program, test=program.train.rows(some(program, 0.2)))


@fault("preflight", "DAT011")
def rows_in_two_splits(program: Program) -> Program:
    """A fifth of the test rows are training rows, too."""
    rows = some(program, 0.2, "test")
    texts = list(program.test.texts)
    for row, text in zip(rows, program.train.texts, strict=False):
        texts[row] = text
    labels = program.test.labels.copy()
    labels[rows] = program.train.labels[: len(rows)]
    return replace(program, test=changed(program.test, texts=tuple(texts), labels=labels))


@fault("preflight", "DAT012")
def edited_copies_in_two_splits(program: Program) -> Program:
    """A fifth of the test rows are training rows with a few words added."""
    leaked = rows_in_two_splits.inject(program).test
    known = set(program.train.texts)
    rows = np.array([row for row, text in enumerate(leaked.texts) if text in known])
    return replace(program, test=rewritten(leaked, rows, lambda text: f"{text[:-1].rstrip()} , really ."))


@fault("preflight", "DAT014")
def best_model_chosen_on_test(program: Program) -> Program:
    """The test split chooses the checkpoint."""
    return replace(program, selected_on="test")


@fault("preflight", "DAT015")
def a_word_gives_the_label_away(program: Program) -> Program:
    """Scraped stars are left in the positive texts."""
    positive = np.flatnonzero(program.train.labels == 1)
    return replace(program, train=rewritten(program.train, positive, lambda text: f"{text} ★★★★★ fivestars"))


@fault("preflight", "DAT016")
def empty_texts(program: Program) -> Program:
    """A tenth of the texts is blank after cleaning."""
    return replace(program, train=rewritten(program.train, some(program, 0.1), lambda text: " "))


@fault("preflight", "DAT017")
def one_text_all_over(program: Program) -> Program:
    """A third of the texts is the scraper's error page."""
    return replace(
        program, train=rewritten(program.train, some(program, 0.33), lambda text: "Please enable cookies to read on .")
    )


@fault("preflight", "DAT018")
def missing_texts_became_words(program: Program) -> Program:
    """pandas turned missing texts into the word nan."""
    return replace(program, train=rewritten(program.train, some(program, 0.1), lambda text: "nan"))


@fault("preflight", "DAT019")
def wrong_encoding(program: Program) -> Program:
    """UTF-8 was decoded as Latin-1."""
    return replace(
        program,
        train=rewritten(
            program.train,
            some(program, 0.5),
            lambda text: text.replace("e", "é").replace("'", "’").encode().decode("cp1252", "replace"),
        ),
    )


@fault("preflight", "DAT020")
def other_proportions_in_validation(program: Program) -> Program:
    """Nine tenths of the validation rows are positive, half of the training rows are."""
    positive, negative = (np.flatnonzero(program.validation.labels == k) for k in (1, 0))
    return replace(program, validation=program.validation.rows(np.concatenate([positive, negative[:9]])))


@fault("preflight", "DAT021")
def other_lengths_in_validation(program: Program) -> Program:
    """Validation rows are joined from three reviews of one class each."""
    texts = program.validation.texts
    longer = tuple(" ".join([text] * 3) for text in texts)
    return replace(program, validation=changed(program.validation, texts=longer))


@fault("preflight", "DAT024")
def the_sampler_skips_rows(program: Program) -> Program:
    """A sampler made for a smaller set leaves out a third of the rows."""

    def order(program: Program) -> list[int]:
        rows = np.random.default_rng(program.seed).permutation(len(program.train))
        return rows[: 2 * len(rows) // 3].tolist()

    return replace(program, order=order)


FAULTS = faults_of(globals())


@fault("preflight", "DAT026")
def refusals_as_texts(program: Program) -> Program:
    """A twentieth of the generated reviews are refusals."""
    refusal = "I'm sorry, but as an AI language model, I cannot write a negative review of this film."
    return replace(program, train=rewritten(program.train, some(program, 0.05), lambda text: refusal))


@fault("preflight", "DAT027")
def texts_with_a_signature(program: Program) -> Program:
    """Half of the texts end with the same signature."""
    signed = rewritten(
        program.train, some(program, 0.5), lambda text: f"{text} Sent from my phone , please excuse typos ."
    )
    return replace(program, train=signed)
