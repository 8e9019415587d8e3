"""The rows, batches and tokens of a training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from tenor.checks.evidence.conversion import arrays_of, convert, names_of
from tenor.data.sequences import array_of, sequence_of


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one split."""

    labels: np.ndarray
    """Unchecked: any shape and type; valid labels are integers of shape (n,)."""
    texts: Sequence[str] | None = None

    def __post_init__(self) -> None:
        convert(self, array_of, "labels")
        convert(self, sequence_of, "texts")


@dataclass(frozen=True, eq=False)
class DataEvidence:
    """The rows of every split, before tokenization."""

    description: ClassVar[str] = "the training rows with their labels"

    train: Rows
    n_classes: int
    validation: Rows | None = None
    test: Rows | None = None
    class_names: tuple[str, ...] | None = None
    source_labels: np.ndarray | None = None
    """Labels of the whole source in its own order, shape (m,)."""
    train_positions: np.ndarray | None = None
    """Positions of the training rows in the source, shape (n,)."""
    selected_on: Literal["validation", "test", "train"] | None = None
    """The split on which the best checkpoint or setting was selected."""

    def __post_init__(self) -> None:
        convert(self, names_of, "class_names")
        convert(self, array_of, "source_labels", "train_positions")


@dataclass(frozen=True, eq=False)
class BatchEvidence:
    """The first collated batches of an epoch, in the order of the loader."""

    description: ClassVar[str] = "the training loader's batches as collated"

    labels: tuple[np.ndarray, ...]
    """One array per batch, unchecked."""
    n_classes: int
    epoch_labels: np.ndarray | None = None
    """Labels in the order of the loader, for an epoch or the beginning of one, shape (rows,)."""
    input_ids: tuple[np.ndarray, ...] | None = None
    """Shape (rows, tokens) each."""
    attention_mask: tuple[np.ndarray, ...] | None = None
    rows_per_epoch: int | None = None
    """Rows that the loader returns in one epoch."""
    rows_in_split: int | None = None
    """Rows that it should return."""
    loss_labels: tuple[np.ndarray, np.ndarray] | None = None
    """The loader's labels of some rows, and the labels that the loss was given for them, shape (rows,) each."""
    row_order: np.ndarray | None = None
    """Row numbers in the order of the sampler, for an epoch or the beginning of one, shape (rows,)."""
    split_labels: np.ndarray | None = None
    """Labels of the split's rows by row number, shape (rows_in_split,)."""
    batches_done: int | None = None
    """Batches of the current epoch on which an interrupted run was trained before this one resumed it."""
    batches_skipped: int | None = None
    """Batches of the current epoch that the resumed loop or its loader left out."""
    with_replacement: bool | None = None
    """Whether the sampler says that it draws rows with replacement."""
    weights_given: int | None = None
    """Number of weights of a weighted sampler, one for each row that it can draw."""

    def __post_init__(self) -> None:
        convert(self, arrays_of, "labels", "input_ids", "attention_mask", "loss_labels")
        convert(self, array_of, "epoch_labels", "row_order", "split_labels")


@dataclass(frozen=True, eq=False)
class TokenEvidence:
    """The tokenizer compared with the model, and the tokenized training texts."""

    description: ClassVar[str] = "the tokenizer and tokenized texts"

    vocabulary_size: int
    """One more than the largest id that the tokenizer can produce."""
    embedding_rows: int
    """Rows of the model's embedding matrix."""
    has_words: bool = True
    """Whether the vocabulary contains anything but special tokens."""
    pad_id: int | None = None
    model_pad_id: int | None = None
    unknown_id: int | None = None
    first_id: int | None = None
    """The id at the start of every sequence ([CLS]), if the model was trained with one."""
    last_id: int | None = None
    """The id at the end of every sequence ([SEP])."""
    input_ids: tuple[np.ndarray, ...] | None = None
    """Token ids of some training texts, without padding, one array each."""
    full_lengths: np.ndarray | None = None
    """Tokens per text before truncation, shape (n,)."""
    kept_lengths: np.ndarray | None = None
    """Tokens per text after truncation, shape (n,)."""
    tokenizer_lowercases: bool | None = None
    vocabulary_is_lowercase: bool | None = None
    """Whether the model's own vocabulary contains no uppercase letter."""
    digest: str | None = None
    """Digest of the tokenizer's vocabulary."""
    model_digest: str | None = None
    """Digest of the vocabulary with which the model was trained."""
    truncation: Literal["head", "tail", "head_tail"] | None = None
    """Which part of a longer text is kept."""

    def __post_init__(self) -> None:
        convert(self, arrays_of, "input_ids")
        convert(self, array_of, "full_lengths", "kept_lengths")


@dataclass(frozen=True, eq=False)
class CorpusEvidence:
    """The texts that an encoder is trained on without labels, and those of the evaluated splits."""

    description: ClassVar[str] = "the corpus of a masked-language-model training and the evaluated texts"

    texts: Sequence[str]
    evaluated: Mapping[str, Sequence[str]]
    """By the name of the split."""

    def __post_init__(self) -> None:
        convert(self, sequence_of, "texts")


@dataclass(frozen=True, eq=False)
class OverlapEvidence:
    """Evaluated rows whose text is also in the run's other splits; arrays are bool, shape (n,)."""

    description: ClassVar[str] = "the evaluated texts and keys of the run's own texts"

    split: str
    """Name of the evaluated split."""
    texts: Sequence[str]
    """The texts of the n evaluated rows."""
    in_train: np.ndarray
    """Whether the text is a training text."""
    in_validation: np.ndarray
    """Whether the text is a validation text and not a training text."""
