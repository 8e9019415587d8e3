"""Healthy programs, awkward in rows, labels, splits and tokens."""

from dataclasses import replace

import numpy as np
import torch

from faults.control import AnyProgram, control, controls_of
from faults.in_data import rewritten
from faults.in_model import cross_entropy
from faults.program import Program, healthy
from faults.texts import Split, sentences


def several_classes(program: Program, k: int, per_class: int, held: int) -> Program:
    """Sentences of k classes, each told by two words, either of which it shares with other classes."""
    source, rng = sentences(), np.random.default_rng(program.seed)
    topics = [f"{first} {second}" for second in _KINDS for first in ("war", "love", "crime", "music", "space")]
    rows = rng.permutation(len(source))[: k * (per_class + 2 * held)]
    labels = np.arange(len(rows)) % k
    texts = tuple(f"{source.texts[row]} A {topics[label]} film ." for row, label in zip(rows, labels, strict=True))
    whole = Split(texts, labels, tuple(source.ids[row] for row in rows))
    a, b = k * per_class, k * (per_class + held)
    parts = (whole.rows(np.arange(a)), whole.rows(np.arange(a, b)), whole.rows(np.arange(b, len(rows))))
    names = tuple(topics[label] for label in range(k))
    return replace(
        program, train=parts[0], validation=parts[1], test=parts[2], n_classes=k, class_names=names, epochs=2
    )


_KINDS = ("drama", "comedy", "documentary", "romance")


def imbalanced(program: Program, share: float) -> Program:
    """A share of positive rows, in every split."""

    def cut(split: Split) -> Split:
        positive, negative = (np.flatnonzero(split.labels == k) for k in (1, 0))
        few = positive[: max(4, int(share / (1 - share) * len(negative)))]
        return split.rows(np.random.default_rng(0).permutation(np.concatenate([few, negative])))

    return replace(program, train=cut(program.train), validation=cut(program.validation), test=cut(program.test))


@control
def plain(program: AnyProgram) -> AnyProgram:
    return program


@control
def imbalance_of_19_to_1(program: Program) -> Program:
    return imbalanced(program, 0.05)


@control
def imbalance_of_9_to_1_weighted(program: Program) -> Program:
    weights = torch.tensor([1.0, 9.0])
    return replace(imbalanced(program, 0.1), loss_fn=lambda logits, labels: cross_entropy(logits, labels, weights))


@control
def twenty_classes(program: Program) -> Program:
    return several_classes(program, 20, per_class=60, held=10)


@control
def three_classes(program: Program) -> Program:
    """Every third row holds two sentences, one of each kind."""

    def mixed(split: Split) -> Split:
        of_class = [np.flatnonzero(split.labels == k) for k in (0, 1)]
        third = len(split) // 6
        joined = zip(of_class[0][:third], of_class[1][:third], strict=True)
        texts = [f"{split.texts[a]} {split.texts[b]}" for a, b in joined]
        alone = np.concatenate([rows[third:] for rows in of_class])
        whole = Split(
            (*(split.texts[i] for i in alone), *texts),
            np.concatenate([split.labels[alone], np.full(third, 2)]),
            (*(split.ids[i] for i in alone), *(f"mixed-{i}" for i in range(third))),
        )
        return whole.rows(np.random.default_rng(0).permutation(len(whole)))

    return replace(
        program,
        train=mixed(program.train),
        validation=mixed(program.validation),
        test=mixed(program.test),
        n_classes=3,
        class_names=("negative", "positive", "mixed"),
        epochs=2,
    )


@control
def tiny_data(program: Program) -> Program:
    return replace(healthy(program.encoders, program.seed, rows=32), epochs=4, batch_size=8)


@control
def little_data(program: Program) -> Program:
    return replace(healthy(program.encoders, program.seed, rows=200), epochs=2)


@control
def padded_to_the_maximum(program: Program) -> Program:
    return replace(
        program,
        encode=lambda tokenizer, texts: dict(
            tokenizer(texts, padding="max_length", truncation=True, max_length=48, return_tensors="pt")
        ),
    )


@control
def cut_short(program: Program) -> Program:
    return replace(
        program,
        encode=lambda tokenizer, texts: dict(
            tokenizer(texts, padding=True, truncation=True, max_length=12, return_tensors="pt")
        ),
    )


@control
def sorted_by_length(program: Program) -> Program:
    def order(program: Program) -> list[int]:
        lengths = np.array([len(text) for text in program.train.texts])
        batches = np.array_split(np.argsort(lengths, kind="stable"), len(lengths) // 16)
        return np.concatenate([batches[i] for i in np.random.default_rng(1).permutation(len(batches))]).tolist()

    return replace(program, order=order)


@control
def noisy_labels(program: Program) -> Program:
    labels = program.train.labels.copy()
    rows = np.random.default_rng(program.seed).permutation(len(labels))[: len(labels) // 10]
    labels[rows] = 1 - labels[rows]
    return replace(program, train=replace(program.train, labels=labels))


@control
def upper_case(program: Program) -> Program:
    rows = np.arange(len(program.train))
    return replace(program, train=rewritten(program.train, rows, str.upper))


@control
def a_few_repeated_texts(program: Program) -> Program:
    again = program.train.rows(np.arange(8))
    train = Split(
        program.train.texts + again.texts,
        np.concatenate([program.train.labels, again.labels]),
        program.train.ids + tuple(f"{one}-again" for one in again.ids),
    )
    return replace(program, train=train)


@control
def few_held_out_rows(program: Program) -> Program:
    return replace(program, validation=program.validation.rows(np.arange(24)), test=program.test.rows(np.arange(24)))


@control
def threads_of_exotic_names(program: Program) -> Program:
    return replace(program, class_names=("nein <b>", "ja & amen"))


CONTROLS = controls_of(globals())
