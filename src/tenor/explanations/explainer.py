"""A predictor's explanation of one text: what each word added to the score of the predicted class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tenor.errors import TextError, UserError, advice_on_memory
from tenor.explanations.integrated_gradients import (
    MOST_STEPS,
    STEPS,
    BeforePass,
    EmbeddedModel,
    attribute,
    relative_gap,
    require_captum,
)
from tenor.explanations.linear_terms import baseline_attributions, class_weights
from tenor.explanations.text_words import Span, sentence_spans, spread, word_spans
from tenor.inference.engines import fast_model, padded
from tenor.inference.predictor import Predictor
from tenor.inference.texts import text_fault
from tenor.model.device import PREDICTION_TOKENS
from tenor.model.tokenizer import embedding_count

CPU_TOKENS = 1024
"""Tokens per pass on a CPU, as for predictions."""


@dataclass(frozen=True)
class Word:
    """A word of a text, and what it added to the score of the explained class."""

    word: str
    start: int
    """Position in the text, in code points …"""
    end: int
    """… and its end, excluded."""
    value: float
    """Logits for two classes: above 0 the word speaks for the class, below 0 against it."""


@dataclass(frozen=True)
class Sentence:
    """A sentence of a text, and the sum of its words' values."""

    start: int
    end: int
    value: float


@dataclass(frozen=True)
class Explanation:
    """Why a text has its label.

    The score is the logit of `label` minus the mean logit of the other classes; the sum of the words' values is the
    score minus that of the empty text, except for the gap.
    """

    label: str
    """The predicted class, for which the values speak."""
    words: tuple[Word, ...]
    """In the order of the text. Words that no part of the model read are left out."""
    sentence: Sentence | None
    """The sentence that speaks most for `label`; None if no sentence does, or there is only one."""
    read_until: int
    """The end of what the encoder read, in code points. With `truncation: head` the rest was truncated …"""
    skipped: tuple[Span, ...]
    """… with every setting, these parts were. The text baseline of a hybrid reads the whole text."""
    gap: float
    """The completeness gap: |sum of the values − change of the score| / |change of the score|."""
    change: float
    """The score minus that of the empty text, in logits."""


@dataclass(frozen=True)
class Explainer:
    """Explains the predictions of a predictor; several threads may use it at once. `Explainer.of` makes one."""

    predictor: Predictor
    model: EmbeddedModel
    empty_id: int
    """Id of the token that the baseline consists of."""
    steps: int = STEPS
    most_steps: int = MOST_STEPS

    @classmethod
    def of(cls, predictor: Predictor) -> "Explainer":
        """The explainer of a model that PyTorch computes.

        Raises:
            UserError: an ONNX model, a model without token embeddings, a tokenizer that gives no positions, or Captum
                is missing.
        """
        require_captum()
        source = predictor.source
        if source.model is None:
            raise UserError(
                f"{source.origin} is an ONNX file, which has no gradients, so its predictions can't be explained. "
                "Explain the run or the model folder that it was exported from"
            )
        if not getattr(source.tokenizer, "is_fast", False):
            raise UserError(
                f"{source.origin}: its tokenizer gives no positions of tokens, so words can't be explained; expected "
                "one with tokenizer.json. Load it with transformers, which converts most tokenizers, and save it again"
            )
        model = source.model.eval().to(predictor.plan.device)
        embeddings = _embeddings(model, source.origin)
        embedded = EmbeddedModel.of(fast_model(model), embeddings, predictor.plan.device)
        return cls(predictor, embedded, _empty_id(source.tokenizer, predictor.framing.pad_id))

    def explain(self, text: str, before_pass: BeforePass = lambda: None) -> Explanation:
        """Explain the prediction of one text, which is truncated as in training.

        `before_pass` is called before each pass of the model, in any thread; an exception of it ends the work.

        Raises:
            TextError: a text that cannot be predicted.
        """
        if (fault := text_fault(text)) is not None:
            raise TextError(f"the text {fault}", 0)
        ((_, scores),) = self.predictor.stream([(None, [text])], refuse_faults=True)
        return self.explain_class(text, int(self.predictor.decide(scores.probabilities)[0]), before_pass)

    def explain_class(self, text: str, label: int, before_pass: BeforePass = lambda: None) -> Explanation:
        """Explain the score of a class, 0 … K-1, for a text that can be predicted."""
        source = self.predictor.source
        read = _read_text(text, self.predictor)
        words = word_spans(text, read.spans)
        values, change = self._of_encoder(read, label, words, before_pass)
        seen = spread(np.ones(len(read.kept)), [read.spans[at] for at in read.kept], words) > 0
        if source.hybrid is not None:
            spans, added = baseline_attributions(source.hybrid.baseline, text, label)
            of_text = spread(added * source.hybrid.stacker.text, spans, words)
            values, change, seen = values + of_text, change + float(of_text.sum()), seen | (of_text != 0)
        found = tuple(
            Word(text[start:end], start, end, float(value))
            for (start, end), value, is_seen in zip(words, values, seen, strict=True)
            if is_seen
        )
        return Explanation(
            label=source.labels[label],
            words=found,
            sentence=_strongest_sentence(text, found),
            read_until=read.until if len(read.spans) - 1 not in read.kept else len(text),
            skipped=read.skipped,
            gap=relative_gap(float(values.sum()), change),
            change=change,
        )

    def _of_encoder(
        self, read: "_ReadText", label: int, words: list[Span], before_pass: BeforePass
    ) -> tuple[np.ndarray, float]:
        """What the encoder adds to the score by word, shape (words,), and what it adds in all."""
        predictor = self.predictor
        source, framing, plan = predictor.source, predictor.framing, predictor.plan
        scale = 1 / source.temperature if source.hybrid is None else source.hybrid.stacker.encoder / source.temperature
        fixed = np.ones(len(read.ids), dtype=bool)
        before, after = framing.around
        fixed[before : len(read.ids) - after] = False
        weights = class_weights(label, len(source.labels)) * scale
        on_cpu = plan.device == "cpu"
        tokens = CPU_TOKENS if on_cpu else PREDICTION_TOKENS[plan.device] // 2
        with torch.inference_mode(False), advice_on_memory("in an explanation", "use a shorter text"):
            path = self.model.path(padded([read.ids], framing), fixed, self.empty_id, weights)
            found = attribute(self.model, path, tokens, self.steps, self.most_steps, before_pass)
        content = found.values[before : len(read.ids) - after]
        return spread(content, [read.spans[at] for at in read.kept], words), found.change


def parts_read(text: str, predictor: Predictor) -> list[Span] | None:
    """The parts of a text that the encoder reads, in code points; None if the tokenizer gives no positions."""
    if not getattr(predictor.source.tokenizer, "is_fast", False):
        return None
    return rest_of(_read_text(text, predictor).skipped, text)


def rest_of(skipped: Sequence[Span], text: str) -> list[Span]:
    """The parts of a text that were not skipped, without white space next to what was."""
    if not skipped:
        return [(0, len(text))]
    bounds = [0, *(bound for part in skipped for bound in part), len(text)]
    parts = zip(bounds[::2], bounds[1::2], strict=True)
    return [
        (end - len(text[start:end].lstrip()), start + len(text[start:end].rstrip()))
        for start, end in parts
        if text[start:end].strip()
    ]


@dataclass(frozen=True)
class _ReadText:
    """What the encoder reads of a text."""

    ids: np.ndarray
    """With special tokens, int32, shape (length,)."""
    spans: list[Span]
    """Of all tokens of the text, read or not, without special tokens."""
    kept: np.ndarray
    """Which of them it reads, ascending positions."""
    characters: int
    """Length of the text."""

    @property
    def skipped(self) -> tuple[Span, ...]:
        """The parts of the text that it does not read."""
        dropped = np.setdiff1d(np.arange(len(self.spans)), self.kept)
        runs = np.split(dropped, np.flatnonzero(np.diff(dropped) > 1) + 1) if len(dropped) else []
        return tuple(
            # White space at the end belongs to no token, and is not read without what precedes it.
            (self.spans[run[0]][0], self.characters if run[-1] == len(self.spans) - 1 else self.spans[run[-1]][1])
            for run in runs
        )

    @property
    def until(self) -> int:
        """The end of the last token that it reads."""
        return self.spans[self.kept[-1]][1]


def _read_text(text: str, predictor: Predictor) -> _ReadText:
    """The tokens of a text, truncated as the predictor does."""
    source, (before, after) = predictor.source, predictor.framing.around
    encoded = source.tokenizer(
        text, truncation=False, padding=False, return_offsets_mapping=True, return_attention_mask=False, verbose=False
    )
    ids, end = np.asarray(encoded["input_ids"], dtype=np.int32), len(encoded["input_ids"]) - after
    spans = [_trimmed(text, int(start), int(stop)) for start, stop in encoded["offset_mapping"][before:end]]
    kept = source.truncation.keep(np.arange(len(spans)), before + after)
    return _ReadText(np.concatenate([ids[:before], ids[before:end][kept], ids[end:]]), spans, kept, len(text))


def _trimmed(text: str, start: int, end: int) -> Span:
    """A token's span without the space before it, which some tokenizers count to it."""
    while start < end - 1 and text[start].isspace():
        start += 1
    return start, end


def _strongest_sentence(text: str, words: Sequence[Word]) -> Sentence | None:
    spans = sentence_spans(text)
    if len(spans) < 2 or not words:
        return None
    values = spread(np.array([word.value for word in words]), [(word.start, word.end) for word in words], spans)
    best = int(values.argmax())
    return Sentence(*spans[best], float(values[best])) if values[best] > 0 else None


def _embeddings(model: Any, origin: str) -> torch.nn.Module:
    """The module that maps token ids to embeddings. Raises UserError if there is none."""
    if embedding_count(model) is None:
        raise UserError(
            f"{origin}: a {model.config.model_type} model has no table of token embeddings, so its predictions can't "
            "be explained. Use an encoder that reads tokens, such as BERT, RoBERTa or DeBERTa"
        )
    return model.get_input_embeddings()


def _empty_id(tokenizer: Any, pad_id: int | None) -> int:
    """The id of the token that means nothing: padding, else unknown, else the end of a text."""
    ids = (pad_id, tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id)
    return next((one for one in ids if one is not None), 0)
