"""stub"""

from dataclasses import dataclass

from tenor.inference.predictor import Predictor


@dataclass(frozen=True)
class Word:
    word: str
    start: int
    end: int
    value: float


@dataclass(frozen=True)
class Sentence:
    start: int
    end: int
    value: float


@dataclass(frozen=True)
class Explanation:
    label: str
    words: tuple[Word, ...]
    sentence: Sentence | None
    read: tuple[tuple[int, int], ...]
    gap: float


@dataclass(frozen=True)
class Explainer:
    predictor: Predictor

    @classmethod
    def of(cls, predictor: Predictor) -> "Explainer":
        return cls(predictor)

    def explain(self, text: str) -> Explanation:
        raise NotImplementedError
