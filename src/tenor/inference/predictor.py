"""`tenor.Predictor`: texts → labels and probabilities, in order, for any sequence classifier."""

import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tenor.data.sequences import array_of, sequence_of
from tenor.data.tokenization import whole_ids
from tenor.data.unlike_texts import CAUTIONS, Kind, UnlikeTexts
from tenor.errors import TenorError, TextError, UserError, advice_on_memory
from tenor.inference.engine_choice import OTHER_PROBABILITIES, Choice, Compared, build_engine, choose_engine
from tenor.inference.engines import Engine, EngineName, padded, run_rows
from tenor.inference.logits import same_logits
from tenor.inference.source import Source, load_source
from tenor.inference.texts import Framing, LongText, TextTokens, token_rows
from tenor.measures.objective import class_probabilities, predicted_classes
from tenor.model.device import DevicePlan, plan_device
from tenor.runs.directory import DEFAULT_ROOT
from tenor.runs.model_notes import Threshold


def decide_labels(probabilities: np.ndarray, member: int | None = None, threshold: float = 0.0) -> np.ndarray:
    """The predicted class of each row, int64, shape (rows,), from probabilities (rows, K): the most probable one.

    With `member`: that class if its probability is at least `threshold`, else the most probable of the others.
    """
    if member is None:
        return predicted_classes(probabilities)
    others = probabilities.copy()
    others[:, member] = -np.inf
    return np.where(probabilities[:, member] >= threshold, member, others.argmax(axis=1))


T = TypeVar("T")
_END: Any = object()


def prefetch(items: Generator[T], depth: int = 1) -> Iterator[T]:
    """The items in order, computed up to `depth` items ahead in a thread; errors of the generator are raised here.

    The generator is closed in that thread, even if the caller stops early.
    """
    with ThreadPoolExecutor(1, "tenor-prefetch") as worker:
        ahead = deque(worker.submit(next, items, _END) for _ in range(depth))
        try:
            while (item := ahead.popleft().result()) is not _END:
                ahead.append(worker.submit(next, items, _END))
                yield item
        finally:
            for future in ahead:
                future.cancel()
            worker.submit(items.close).result()


CONTENT, LONGEST = 4, 60
"""Tokens of the text that is tested, and of the longest text that it is batched with."""
ONE_BY_ONE = "rows are computed one by one, because padding is impossible with this model or changes its results"


def framing_for(engine: Engine, framing: Framing, tokenizer: Any, max_length: int, name: str) -> Framing:
    """`framing` with or without padding: a row is computed alone, then with rows that are longer by one and by many.

    For a model that rejects padding (a decoder without a padding id rejects two rows) there is none.

    Raises:
        UserError: the model can't compute the row alone, or not to finite numbers.
    """
    (ids,) = whole_ids(["a good film and a bad plot"], tokenizer)
    before, after = framing.around
    content = np.resize(ids[before : len(ids) - after], max(1, min(LONGEST, max_length - before - after)))
    rows = [
        np.concatenate([ids[:before], content[:length], ids[len(ids) - after :]])
        for length in sorted({CONTENT, CONTENT + 1, LONGEST})
        if length <= len(content)
    ]
    alone = _finite(engine, rows[0], framing, name)
    if framing.pad_id is None or engine.rows_alone:
        return framing
    if all(_is_same(engine, rows[0], alone, longer, framing) for longer in rows[1:]):
        return framing
    return replace(framing, pad_id=None)


def _finite(engine: Engine, row: np.ndarray, framing: Framing, name: str) -> np.ndarray:
    """The logits of one row, shape (K,)."""
    logits = engine.run(padded([row], framing))[0]
    if not np.isfinite(logits).all():
        raise UserError(
            f"{name}: the outputs for a text are {', '.join(f'{value:g}' for value in logits)}, expected finite "
            "numbers, so the weights are broken. Use an earlier checkpoint"
        )
    return logits


def _is_same(engine: Engine, row: np.ndarray, alone: np.ndarray, longer: np.ndarray, framing: Framing) -> bool:
    try:
        together = engine.run(padded([row, longer], framing))[0]
    # Architectures reject padding by their own checks, by an index out of range, or by an error of ONNX Runtime.
    except (ValueError, IndexError, RuntimeError, TenorError):
        return False
    return same_logits(alone, together)


EngineChoice = Compared | EngineName
C = TypeVar("C")

CHUNK_TEXTS = 4096
"""Count of texts that are sorted by length together: enough for batches with almost no padding."""


@dataclass(frozen=True)
class Prediction:
    """The prediction for one text."""

    label: str
    """The most probable class, unless the predictor has a threshold; empty if its probability is below
    `abstain_below`."""
    probability: float
    """Probability of `label`, or of the most probable class if the label is empty, in 0 … 1."""
    probabilities: dict[str, float]
    """Probability of every class, in the model's order."""
    truncated: bool
    """Whether the text was too long and was truncated."""
    windows: int = 1
    """Count of windows whose probabilities were averaged."""
    caution: str = ""
    """Why the prediction should not be trusted: the text is unlike the training texts. Empty: nothing is known."""


class UnlikeTextsWarning(UserWarning):
    """Predicted texts are unlike the training texts: their language, script or tokens."""


@dataclass(frozen=True)
class Scores:
    """Predictions of n texts as arrays."""

    probabilities: np.ndarray
    """float64, shape (n, K); NaN for a text with a fault."""
    truncated: np.ndarray
    """bool, shape (n,)."""
    windows: np.ndarray
    """Count of windows per text, int64, shape (n,)."""
    faults: dict[int, str]
    """Faults of the texts that could not be predicted, by position."""
    tokens: np.ndarray
    """Tokens of each text that the model read, without special tokens, int64, shape (n,) …"""
    unknown: np.ndarray
    """… and how many of them it does not know."""


@dataclass(frozen=True)
class PreparedTexts:
    """Texts as the model reads them."""

    tokens: TextTokens
    text_scores: np.ndarray | None
    """For a hybrid: the text baseline's log-probabilities, float64, shape (texts, K)."""


@dataclass(frozen=True)
class Predictor:
    """A classifier that is ready to predict; `Predictor.load` makes one."""

    source: Source
    engine: Engine
    plan: DevicePlan
    framing: Framing
    why: str
    """Why this engine was chosen, and its limitations on this machine."""

    @classmethod
    def load(
        cls,
        reference: str | Path,
        *,
        engine: EngineChoice = "auto",
        sample: Iterable[str] = (),
        long_text: LongText = "truncate",
        device: str = "auto",
        threads: int | None = None,
        root: str | Path = DEFAULT_ROOT,
        ignore_threshold: bool = False,
    ) -> "Predictor":
        """Load a run (a folder, an id or `latest`), a model folder, an exported artefact or an id of the hub.

        `engine="auto"` is PyTorch, or an artefact's own engine, unless `sample` has 64 or more texts of the expected
        lengths: then PyTorch and ONNX Runtime are timed on it, and the fastest that reproduces PyTorch's probabilities
        is chosen and remembered for this machine and model. ONNX Runtime requires the extra `onnx`. Both compute in
        float32. `engine="fastest"` also tries 16 and 8 bits, and accepts probabilities that differ by up to 0.01.

        If `tenor calibrate` chose a threshold for the model, it decides the labels, which then are not always the most
        probable class; `ignore_threshold` disables it.

        Raises:
            UserError: no such model, no trained head, an unavailable engine, or a `sample` that is not a list.
        """
        sample_texts = sequence_of(sample, "sample")
        source = load_source(reference, Path(root))
        if ignore_threshold:
            source = replace(source, threshold=None)
        # On a GPU the default is 16 bits; predictions are computed in float32 on every device.
        plan = plan_device(device, "fp32", threads)
        framing = Framing.of(source.tokenizer, source.pad_id)
        if engine == "auto" or engine == "fastest":
            rows = token_rows(sample_texts, source.tokenizer, framing, source.truncation, long_text).rows
            built, choice = choose_engine(source, plan, framing, rows, engine)
        else:
            why = OTHER_PROBABILITIES.get(engine, "as requested")
            built, choice = build_engine(source, engine, plan, framing), Choice(engine, why)
        if built.name.startswith("onnx"):  # ONNX Runtime computes on the CPU, so passes have the length for a CPU.
            plan = plan_device("cpu", "fp32", threads)
        # In 16 bits the last digits of a row depend on its batch; whether padding may be used does not.
        exact = build_engine(source, "torch", plan, framing) if built.name == "torch-bf16" else built
        framing = framing_for(exact, framing, source.tokenizer, source.truncation.max_length, source.origin)
        cautions = [source.caution, ONE_BY_ONE if framing.pad_id is None else None]
        why = "; ".join([choice.why, *(caution for caution in cautions if caution is not None)])
        return cls(source, built, plan, framing, why)

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the model's order."""
        return self.source.labels

    @property
    def threshold(self) -> Threshold | None:
        """The threshold that decides the labels; None: the most probable class."""
        return self.source.threshold

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Indices of the labels, int64, shape (n,), for probabilities (n, K)."""
        probabilities = array_of(probabilities, "probabilities")
        if self.threshold is None:
            return decide_labels(probabilities)
        return decide_labels(probabilities, self.labels.index(self.threshold.class_name), self.threshold.probability)

    def require_abstention(self, below: float) -> None:
        """Raises UserError unless `below` is a probability, and if the predictor has a threshold, which excludes it."""
        if not 0 <= below <= 1:
            raise UserError(f"abstain below {below:g}: expected a probability from 0 to 1, such as 0.9")
        if below and self.threshold is not None:
            raise UserError(
                f"abstain below {below:g}: the model has a threshold ({self.threshold}), so its labels are not always "
                "the most probable classes. Disable the threshold: --ignore-threshold (ignore_threshold=True)"
            )

    def predict(
        self, texts: Iterable[str], long_text: LongText = "truncate", abstain_below: float = 0.0
    ) -> list[Prediction]:
        """One prediction per text, in order. `texts`: lists, pandas Series (by position), Arrow and
        NumPy arrays, columns of datasets, iterators.

        A text longer than the model's maximum length is truncated as in training and flagged; with
        `long_text="windows"` all of it is read in overlapping windows, whose probabilities are averaged. If the most
        probable class has a probability below `abstain_below`, the label is empty.

        Texts in another script or language than the training texts, or of unknown tokens, have a `caution`, and an
        `UnlikeTextsWarning` says how many they are.

        Raises:
            TextError: a text that is empty or not a string; `position` is its position, counted from 0.
            UserError: a single string, a data frame or a mapping instead of a list of texts; `abstain_below` outside
                0 … 1, or with a model that has a threshold.
        """
        self.require_abstention(abstain_below)
        predictions: list[Prediction] = []
        unlike = UnlikeTexts(self.source.training_texts)
        for chunk, scores in self.stream(_chunks(texts), long_text, refuse_faults=True):
            kinds = unlike.add(chunk, scores.tokens, scores.unknown, partial(_place, len(predictions)))
            predictions += self.predictions(scores, kinds, abstain_below)
        _warn(unlike)
        return predictions

    def probabilities(self, texts: Iterable[str], long_text: LongText = "truncate") -> np.ndarray:
        """The probabilities as an array, float64, shape (texts, K). Raises and warns as `predict` does."""
        of_chunks = [np.empty((0, len(self.labels)))]
        unlike = UnlikeTexts(self.source.training_texts)
        for chunk, scores in self.stream(_chunks(texts), long_text, refuse_faults=True):
            unlike.add(chunk, scores.tokens, scores.unknown, partial(_place, unlike.rows))
            of_chunks.append(scores.probabilities)
        _warn(unlike)
        return np.concatenate(of_chunks)

    def stream(
        self,
        chunks: Iterable[tuple[C, Iterable[object]]],
        long_text: LongText = "truncate",
        advance: Callable[[int], None] = lambda texts: None,
        refuse_faults: bool = False,
    ) -> Iterator[tuple[C, Scores]]:
        """The scores of each chunk of texts, together with the object that identifies the chunk.

        The next chunk is read and tokenized in a thread while the model computes this one. `advance` is called with
        the count of finished texts. With `refuse_faults` the first text that cannot be predicted raises TextError.
        """
        for chunk, prepared in prefetch(self._prepared(chunks, long_text, refuse_faults)):
            yield chunk, self.scores(prepared, self.logits(prepared.tokens, advance))

    def tokenized(self, texts: Sequence[object], long_text: LongText = "truncate") -> TextTokens:
        """The rows of ids that the model reads of these texts."""
        return token_rows(texts, self.source.tokenizer, self.framing, self.source.truncation, long_text)

    def prepare(self, texts: Sequence[object], long_text: LongText = "truncate") -> PreparedTexts:
        """Everything that is computed before the encoder."""
        tokens = self.tokenized(texts, long_text)
        if self.source.hybrid is None:
            return PreparedTexts(tokens, None)
        sound = ["" if position in tokens.faults else str(text) for position, text in enumerate(texts)]
        return PreparedTexts(tokens, self.source.hybrid.baseline.log_probabilities(sound))

    def scores(self, prepared: PreparedTexts, logits: np.ndarray) -> Scores:
        """Everything that is computed after the encoder, from its logits (rows, K) of the rows in `prepared`."""
        tokens = prepared.tokens
        count = len(tokens.truncated)
        windows = np.bincount(tokens.owner, minlength=count)
        sums = np.zeros((count, len(self.labels)))
        if len(tokens.rows):
            np.add.at(sums, tokens.owner, self._probabilities(logits, tokens.owner, prepared.text_scores))
        with np.errstate(invalid="ignore"):
            probabilities = sums / windows[:, None]
        return Scores(probabilities, tokens.truncated, windows, tokens.faults, tokens.lengths, tokens.unknown)

    def predictions(self, scores: Scores, kinds: Mapping[int, Kind], abstain_below: float = 0.0) -> list[Prediction]:
        """The prediction of each text, none of which has a fault; `kinds`: what is unlike the training texts."""
        predictions = []
        for row, chosen in enumerate(self.decide(scores.probabilities)):
            values = [float(value) for value in scores.probabilities[row]]
            one = Prediction(
                label=self.labels[chosen] if values[chosen] >= abstain_below else "",
                probability=values[chosen],
                probabilities=dict(zip(self.labels, values, strict=True)),
                truncated=bool(scores.truncated[row]),
                windows=int(scores.windows[row]),
                caution=CAUTIONS[kinds[row]] if row in kinds else "",
            )
            predictions.append(one)
        return predictions

    def _prepared(
        self, chunks: Iterable[tuple[C, Iterable[object]]], long_text: LongText, refuse_faults: bool
    ) -> Generator[tuple[C, PreparedTexts]]:
        before = 0
        for chunk, given in chunks:
            texts = sequence_of(given, "texts")
            prepared = self.prepare(texts, long_text)
            if refuse_faults and prepared.tokens.faults:
                position, fault = next(iter(prepared.tokens.faults.items()))
                raise TextError(f"texts[{before + position}] {fault}", before + position)
            yield chunk, prepared
            before += len(texts)

    def logits(self, tokens: TextTokens, advance: Callable[[int], None] = lambda texts: None) -> np.ndarray:
        """Logits of all rows, float32, shape (rows, K); `advance` is called with the count of finished texts."""
        count = len(tokens.truncated)
        progress = RowsToTexts(len(tokens.rows), count, advance)
        with advice_on_memory("in prediction", self.memory_advice()):
            logits = run_rows(self.engine, tokens.rows, self.framing, self.plan.prediction_tokens, progress)
        if not len(tokens.rows):
            advance(count)
        return logits

    def _probabilities(self, logits: np.ndarray, owner: np.ndarray, text_scores: np.ndarray | None) -> np.ndarray:
        """Probabilities (rows, K) of rows, each of which belongs to the text `owner`."""
        source = self.source
        if source.hybrid is None or text_scores is None:
            return class_probabilities(logits, source.temperature)
        return class_probabilities(source.hybrid.stacker.logits(logits / source.temperature, text_scores[owner]))

    def memory_advice(self) -> str:
        """What to do if memory runs out in prediction."""
        if self.plan.device != "cpu":
            return f'predict on the CPU: --device cpu (device="cpu"), now {self.plan.device}'
        if self.engine.side_by_side > 1:
            return f"use fewer threads (--threads 1, threads=1; now {self.plan.threads}): each runs a separate pass"
        return "free some memory, or use a smaller model"


@dataclass
class RowsToTexts:
    """Converts the count of finished rows to a count of finished texts; at the end it is the count of all texts."""

    rows: int
    texts: int
    advance: Callable[[int], None]
    done: int = 0
    reported: int = 0

    def __call__(self, rows: int) -> None:
        self.done += rows
        reached = self.texts * self.done // self.rows
        self.advance(reached - self.reported)
        self.reported = reached


def _chunks(texts: Iterable[str]) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    given = sequence_of(texts, "texts")
    chunks = (given[start : start + CHUNK_TEXTS] for start in range(0, len(given), CHUNK_TEXTS))
    return ((chunk, chunk) for chunk in chunks)


def _warn(unlike: UnlikeTexts) -> None:
    if unlike.notes:
        warnings.warn("\n".join(unlike.notes), UnlikeTextsWarning, stacklevel=3)


def _place(before: int, position: int) -> str:
    return f"texts[{before + position}]"
