"""Requests and answers of the API, from which its OpenAPI document is made."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tenor.explanations.explainer import rest_of
from tenor.inference.predictor import Prediction
from tenor.inference.texts import LongText

if TYPE_CHECKING:
    from tenor.explanations.explainer import Explanation

REVIEW = "The plot is thin, but the acting is superb and I laughed all the way through."
POOR = "Two hours of my life that I will never get back."


class Message(BaseModel):
    """Plain data without unknown keys, so that a misspelt option is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PredictRequest(Message):
    """Texts to classify."""

    texts: str | Annotated[list[str], Field(min_length=1)] = Field(
        description="One text or several.", examples=[REVIEW, [REVIEW, POOR]]
    )
    long_text: LongText | None = Field(
        None,
        description="Texts above the maximum length: truncate as in training, or average over overlapping windows. "
        "null: the server's setting.",
    )
    abstain_below: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Without a label if the highest probability is below this one. null: the server's setting.",
    )


class OnePrediction(Message):
    """The prediction for one text."""

    label: str = Field(description="The predicted class; empty if the model abstains.", examples=["positive"])
    probability: float = Field(description="Of the predicted class, or of the most probable one if it abstains.")
    probabilities: dict[str, float] = Field(
        description="Of every class.", examples=[{"negative": 0.03, "positive": 0.97}]
    )
    abstained: bool
    truncated: bool = Field(description="The text was too long, and the model did not read all of it.")
    windows: int = Field(description="Windows whose probabilities were averaged; 1 for a short text.")
    caution: str = Field(description="Why the prediction should not be trusted; empty: nothing is known.")

    @classmethod
    def of(cls, one: Prediction) -> "OnePrediction":
        return cls(**vars(one), abstained=not one.label)


class ThresholdUsed(Message):
    """A rule that replaces "the most probable class": this class from this probability on."""

    class_name: str = Field(alias="class", serialization_alias="class")
    probability: float


class PredictAnswer(Message):
    """The predictions, in the order of the texts, and how they were made."""

    predictions: list[OnePrediction]
    long_text: LongText
    abstain_below: float
    threshold: ThresholdUsed | None = Field(description="null: the label is the most probable class.")
    digest: str = Field(description="SHA-256 of the model.")


class ExplainRequest(Message):
    """A text whose prediction is to be explained."""

    text: str = Field(examples=[REVIEW])


class WordPart(Message):
    """A word and its part in the prediction."""

    word: str
    start: int = Field(description="Position in the text, in Unicode code points.")
    end: int
    value: float = Field(description="Contribution to the score of the class `explains`; negative: speaks against it.")


class SentencePart(Message):
    """The sentence that weighed most."""

    start: int
    end: int
    value: float


class ExplainAnswer(Message):
    """A prediction and the words that decided it, if this model's explanations passed their test."""

    prediction: OnePrediction
    explains: str = Field(description="The class that the values speak for.")
    words: list[WordPart]
    sentence: SentencePart | None
    read: list[tuple[int, int]] | None = Field(
        description="Parts that the encoder read, start and end in code points; the rest was truncated. null: unknown, "
        "because the tokenizer gives no positions."
    )
    completeness_gap: float | None = Field(
        description="Relative difference between the sum of the values and what they should sum up to."
    )
    shown: bool = Field(description="Whether this model's explanations passed their test; else there are no words.")
    why: str = Field(description="The result of the test.")
    digest: str

    @classmethod
    def of(
        cls, prediction: Prediction, explanation: "Explanation", text: str, why: str, digest: str
    ) -> "ExplainAnswer":
        sentence = explanation.sentence
        return cls(
            prediction=OnePrediction.of(prediction),
            explains=explanation.label,
            words=[
                WordPart(word=word.word, start=word.start, end=word.end, value=word.value) for word in explanation.words
            ],
            sentence=None
            if sentence is None
            else SentencePart(start=sentence.start, end=sentence.end, value=sentence.value),
            read=rest_of(explanation.skipped, text),
            completeness_gap=explanation.gap,
            shown=True,
            why=why,
            digest=digest,
        )


class ErrorAnswer(Message):
    """Why a request was not answered, and what to do."""

    error: str = Field(examples=["texts[1] is empty. Nothing was predicted"])
    error_type: Literal[
        "validation", "too_large", "overloaded", "deadline", "unauthorized", "not_ready", "not_found", "internal"
    ]


class TeiRequest(BaseModel):
    """A request to `/predict` of Text Embeddings Inference."""

    model_config = ConfigDict(extra="ignore", strict=True)

    inputs: str | Annotated[list[str], Field(min_length=1)] | Annotated[list[list[str]], Field(min_length=1)] = Field(
        description='A text, or a batch of texts: [["one"], ["another"]]. A pair of texts is refused.',
        examples=[REVIEW, [[REVIEW], [POOR]]],
    )
    truncate: bool | None = Field(None, description="false: a text above the maximum length is an error.")
    truncation_direction: Literal["left", "right", "Left", "Right"] | None = Field(
        None, description="Which end is truncated; only the one of the training is possible."
    )
    raw_scores: bool = Field(False, description="true: logarithms of the probabilities instead of probabilities.")


class TeiScore(Message):
    """A class and its score."""

    score: float
    label: str


class VllmRequest(BaseModel):
    """A request to `/classify` of vLLM."""

    model_config = ConfigDict(extra="ignore", strict=True)

    model: str | None = Field(None, description="The served model's name, or nothing.")
    input: str | Annotated[list[str], Field(min_length=1)] = Field(examples=[REVIEW, [REVIEW, POOR]])
    truncate_prompt_tokens: int | None = Field(
        None, ge=-1, description="Only -1 or the model's maximum length: texts are truncated as in training."
    )
    add_special_tokens: bool | None = Field(None, description="Only true: the model was trained with them.")
    use_activation: bool | None = Field(None, description="Only true: the answer has probabilities.")
    activation: bool | None = Field(None, description="The same in older versions …")
    softmax: bool | None = Field(None, description="… and in the oldest.")


class VllmItem(Message):
    """The prediction for one text."""

    index: int
    label: str | None
    probs: list[float]
    num_classes: int
    truncated: bool


class VllmUsage(Message):
    """Tokens that the model read."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: None = None


class VllmAnswer(Message):
    """The predictions as vLLM writes them."""

    id: str
    object: Literal["list"] = "list"
    created: int = Field(description="Seconds since 1970.")
    model: str
    data: list[VllmItem]
    usage: VllmUsage


class VllmFault(Message):
    """An error as vLLM writes it."""

    message: str
    type: str
    param: None = None
    code: int


class VllmError(Message):
    """The same, as the whole answer."""

    error: VllmFault


def readable(errors: Sequence[Any]) -> str:
    """pydantic's errors in words, without the values that the client sent."""
    parts = []
    for error in errors[:3]:
        place = ".".join(str(part)[:100] for part in error["loc"] if not _is_variant(part))
        parts.append(f"{place}: {error['msg']}" if place else str(error["msg"]))
    return "; ".join(dict.fromkeys(parts))


def _is_variant(part: object) -> bool:
    """Whether a place names one of the types of a union and not a key."""
    return isinstance(part, str) and (part in ("str", "list[str]", "list[list[str]]") or "constrained" in part)
