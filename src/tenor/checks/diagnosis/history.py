"""A training history: metrics by name and step, as every logger and tracker records them, and the evidence in it.

Names differ between programs ("train/loss", "val_acc", "epoch_loss", "eval_embedding_loss"), their words do not: a
split, a measure, and words without a meaning for it. Each reader of a format returns series by name; this module says
what they are.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from tenor.checks.diagnosis.artifacts import evaluation_evidence
from tenor.checks.diagnosis.results_json import claims_of, non_finite_metrics
from tenor.checks.evidence.checkpoint_evidence import CheckpointEvidence
from tenor.checks.evidence.evaluation_evidence import ReportedSplit, ValidationCourse
from tenor.checks.evidence.training_evidence import StepEvidence, ValidationPoint

Series = dict[int, float]
"""Step → value."""
Split = Literal["train", "validation", "test", ""]

SPLIT_WORDS: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "tr", "learn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "eval", "evaluation", "dev", "devel", "heldout"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
WITHOUT_MEANING = frozenset(("epoch", "step", "batch", "mean", "avg", "average", "running", "metrics", "metric", "mid"))
WHOLE = "full"
"""In the name of a held-out metric: over all rows, next to one over a batch (the results of OpenAI's fine-tuning)."""
LOSS = frozenset(("loss", "logloss", "nll", "crossentropy", "xent"))
NOT_A_LOSS = frozenset(("scale", "scaler", "weight", "factor", "best", "min", "max", "diff", "ratio", "count"))
ACCURACY = frozenset(("accuracy", "acc"))
KINDS_OF_ACCURACY = frozenset(
    ("sparse", "categorical", "binary", "multiclass", "classification", "sk", "score", "cosine", "overall")
)
"""Words before an accuracy that do not change its meaning; top-5 or per-class accuracies are something else."""
SCORES = frozenset(("f1", "mcc", "matthews", "matthewscorrelation", "f1score"))
COUNTS = (
    *((("tn",), ("true", "negatives")), (("fp",), ("false", "positives"))),
    *((("fn",), ("false", "negatives")), (("tp",), ("true", "positives"))),
)
"""Measures of the cells of a confusion matrix of two classes: rows of class 0, then of class 1."""
NOT_A_SCORE = frozenset(("threshold", "best", "max", "min", "class", "pr"))
"""Words in the name of something that belongs to a score."""
RATE = (("learning", "rate"), ("lr",))
NORM = (("grad", "norm"), ("gradient", "norm"))
CLASS_KEYS = ("num_labels", "num_classes", "n_classes", "n_labels", "id2label", "label2id")
MOST_CLASSES = 1000
DENSE = 0.5
"""Share of the losses' steps at which a rate must be logged, so that those in between are known."""


@dataclass(frozen=True, eq=False)
class History:
    """Metrics by name."""

    series: Mapping[str, Series]
    per_epoch: bool = False
    """Whether a step is an epoch, and a training metric the mean over it."""
    epochs: float | None = None
    """The epochs that were trained, if the steps do not say it."""
    numbered: bool = False
    """Whether a step is the number of a record, because none was recorded."""
    is_whole: bool = False
    """Whether these are all metrics of the run, so that an evaluation that is not among them was not recorded."""
    is_last: bool = False
    """Whether these are the last values only, which are no course of the training."""
    notes: tuple[str, ...] = ()
    """How it was read if there was a choice."""


def history_evidence(history: History, n_classes: int | None = None, clip_at: float | None = None) -> tuple[Any, ...]:
    """Step records, validations and the last evaluation, as far as the names are known; empty if none is."""
    by_split: dict[Split, dict[str, Series]] = {"train": {}, "validation": {}, "test": {}, "": {}}
    for name, values in history.series.items():
        if values:
            by_split[split_of(name)][name] = values
    _move_held_out(by_split)
    training = {**by_split[""], **by_split["train"]}
    evidence: list[Any] = []
    held_out_loss = _points(best_series(by_split["validation"], LOSS) or best_series(by_split["test"], LOSS))
    loss = best_series(training, LOSS)
    if not history.numbered and _counts_epochs(loss, by_split):
        history = replace(history, per_epoch=True)
    if loss and not history.is_last:
        steps = sorted(loss)
        has_evaluation = any(by_split["validation"].values()) or any(by_split["test"].values())
        evidence.append(
            StepEvidence(
                steps=np.array(steps, dtype=np.int64),
                loss=np.array([loss[step] for step in steps], dtype=np.float64),
                n_classes=n_classes,
                grad_norm=_at_steps(_named(training, NORM), steps),
                clip_at=clip_at,
                learning_rate=_at_steps(_rate(history.series), steps, fill=True),
                logged_rates=_points(_rate(history.series)),
                validation_loss=held_out_loss,
                epochs=float(len(steps)) if history.per_epoch else history.epochs,
                unit="epoch" if history.per_epoch else "record" if history.numbered else "step",
                ended=True,
                has_evaluation=True if has_evaluation else False if history.is_whole else None,
            )
        )
    elif held_out_loss and not loss and not history.is_last:
        # A course of validation losses alone, such as an exported chart of them.
        evidence.append(StepEvidence(np.zeros(0), np.zeros(0), n_classes, validation_loss=held_out_loss))
    for split in ("validation", "test"):
        if not best_series(by_split[split], ACCURACY) and (matrices := _matrices(by_split[split])):
            by_split[split]["accuracy"] = {step: float(np.trace(m) / m.sum()) for step, m in matrices.items()}
    accuracy = best_series(by_split["validation"], ACCURACY) or best_series(by_split["test"], ACCURACY)
    score_name, score = _score(by_split["validation"])
    if accuracy:
        evidence.append(CheckpointEvidence(validations=_points(accuracy), metric="accuracy"))
    elif score:
        evidence.append(CheckpointEvidence(validations=_points(score), metric=score_name, larger_is_better=True))
    elif held_out_loss and (history.is_last or not loss):
        evidence.append(CheckpointEvidence(validations=held_out_loss, metric="loss"))
    course = ValidationCourse(
        accuracy=_points(best_series(by_split["validation"], ACCURACY)),
        loss=_points(best_series(by_split["validation"], LOSS)),
        n_classes=n_classes,
        training_loss=loss[max(loss)] if loss else None,
        first_training_loss=_before_validations(loss, by_split["validation"]),
        training_accuracy=_points(best_series(training, ACCURACY)),
        score=() if accuracy else _points(score),
        score_name=score_name,
        by_epoch=history.per_epoch,
        epochs=history.epochs,
    )
    is_known = course.accuracy or course.score
    return (*evidence, *_last_evaluation(by_split, n_classes, course if is_known else None))


def _counts_epochs(loss: Series, by_split: Mapping[Split, Mapping[str, Series]]) -> bool:
    """Whether the steps count epochs: consecutive numbers, with a validation at each one."""
    steps = sorted(loss)
    validations = (set(values) for values in by_split["validation"].values())
    return len(steps) > 1 and steps == list(range(steps[0], steps[0] + len(steps))) and set(steps) in validations


def _before_validations(loss: Series, held_out: Mapping[str, Series]) -> float | None:
    """The last training loss before the first validation, or at the same step; None without one."""
    first = min((min(values) for values in held_out.values()), default=None)
    before = [step for step in loss if first is not None and step <= first]
    return loss[max(before)] if before else None


def _matrices(series: Mapping[str, Series]) -> dict[int, np.ndarray]:
    """The confusion matrix of two classes at each step at which all its cells are recorded as counts."""
    cells = [next((series[name] for name in series if measure_of(name) in names), Series()) for names in COUNTS]
    steps = sorted(set.intersection(*(set(cell) for cell in cells)))
    counts = {step: [cell[step] for cell in cells] for step in steps}
    whole = {step: values for step, values in counts.items() if all(v >= 0 and v.is_integer() for v in values)}
    return {step: np.array(v, dtype=np.int64).reshape(2, 2) for step, v in whole.items() if 0 < sum(v) < 2**53}


def _move_held_out(by_split: dict[Split, dict[str, Series]]) -> None:
    """Move metrics without a split that are those of the validation.

    The only accuracy, next to a loss of each split: fastai and the tables that Trainer shows in a notebook name it so.
    Loss and accuracy, each time next to a training loss: reports to Ray Tune. Keras names no split in its training
    metrics, and `val_` in the others.
    """
    trained, held_out = best_series(by_split["train"], LOSS), {**by_split["validation"], **by_split["test"]}
    has_losses = bool(trained) and bool(best_series(by_split["validation"], LOSS))
    has_accuracy = any(best_series(by_split[split], ACCURACY) for split in ("train", "validation", "test"))
    is_next_to = len(trained) > 1 and not held_out
    for name, values in list(by_split[""].items()):
        is_accuracy = _rank(name, ACCURACY) is not None
        is_measured = is_accuracy or _rank(name, LOSS) is not None
        if (is_accuracy and has_losses and not has_accuracy) or (
            is_measured and is_next_to and values.keys() == trained.keys()
        ):
            by_split["validation"][name] = by_split[""].pop(name)


def is_metric(name: str) -> bool:
    """Whether a name is that of a loss or an accuracy."""
    return _rank(name, LOSS) is not None or _rank(name, ACCURACY) is not None


def is_loss_or_rate(name: str) -> bool:
    """Whether a name is that of a loss or a learning rate."""
    return _rank(name, LOSS) is not None or any(measure_of(name)[: len(rate)] == rate for rate in RATE)


def split_of(name: str) -> Split:
    """The split in a name, such as validation in "eval/loss"; "" if there is none, as in Keras' training metrics."""
    return next((SPLIT_WORDS[word] for word in _words(name) if word in SPLIT_WORDS), "")


def measure_of(name: str) -> tuple[str, ...]:
    """The words of a name that say what was measured."""
    no_meaning = WITHOUT_MEANING | {WHOLE} if _is_whole(name) else WITHOUT_MEANING
    return tuple(word for word in _words(name) if word not in SPLIT_WORDS and word not in no_meaning)


def best_series(series: Mapping[str, Series], words: frozenset[str]) -> Series:
    """The series whose name says it is this measure and the least else; of several the one with the most records. One
    over all held-out rows is taken before one over a batch."""
    ranked = [
        (not _is_whole(name), rank, -len(values), len(name), name)
        for name, values in series.items()
        if (rank := _rank(name, words))
    ]
    return series[min(ranked)[-1]] if ranked else {}


def classes_in(settings: Mapping[str, Any], depth: int = 3) -> int | None:
    """The number of classes in a configuration, nested or flat; None if it is not recorded."""
    for key in CLASS_KEYS:
        value = plain_setting(settings.get(key))
        whole = isinstance(value, int | float | str) and re.fullmatch(r"\d{1,4}(\.0)?", str(value))
        size = len(value) if isinstance(value, Mapping) else int(float(str(value))) if whole else 0
        if 1 < size <= MOST_CLASSES:
            return size
    nested = (value for value in settings.values() if isinstance(value, Mapping) and depth > 0)
    return next((count for value in nested if (count := classes_in(value, depth - 1)) is not None), None)


CLASSIFIER = "ForSequenceClassification"
"""The end of the name of a classifier; `transformers` writes its number of classes only if it is not 2, the default."""


def classes_by_default(config: Mapping[str, Any]) -> int | None:
    """2 if a model's configuration is that of a classifier and names no classes, else None."""
    architectures = config.get("architectures")
    is_classifier = isinstance(architectures, list) and str(architectures).count(CLASSIFIER) == 1
    return 2 if is_classifier and "id2label" not in config else None


def plain_setting(value: Any) -> Any:
    """A setting; Weights & Biases writes each one as {"value": …}."""
    return value["value"] if isinstance(value, Mapping) and "value" in value else value


def logged_number(value: object) -> float | None:
    """A logged value as a number, NaN and infinities included, also as text; None for anything else."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        value = value.strip().removeprefix("tensor(").removesuffix(")")
        if not value or "_" in value:
            return None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None


def series_of_records(records: Iterable[tuple[int, Mapping[str, Any]]]) -> dict[str, Series]:
    """Series by name from records with their steps; of a step recorded twice, the last value."""
    series: dict[str, Series] = {}
    for step, record in records:
        for name, value in record.items():
            if (number := logged_number(value)) is not None:
                series.setdefault(str(name), {})[step] = number
    return series


def _words(name: str) -> list[str]:
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return [word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word]


def _is_whole(name: str) -> bool:
    """Whether a name says that all rows of a held-out split were measured."""
    return WHOLE in _words(name) and split_of(name) in ("validation", "test")


def _rank(name: str, words: frozenset[str]) -> int | None:
    """The number of words in a name's measure, so that the plainest name comes first; None if it is another measure."""
    measure = measure_of(name)
    if words is LOSS and measure[-2:] == ("cross", "entropy"):
        measure = (*measure[:-2], "crossentropy")
    if not measure or not words & set(measure) or NOT_A_LOSS & set(measure):
        return None
    if words is ACCURACY and set(measure) - ACCURACY - KINDS_OF_ACCURACY:
        return None
    return len(measure)


def _score(series: Mapping[str, Series]) -> tuple[str, Series]:
    """Another score of all rows than the accuracy: that with the plainest name; ("", {}) if there is none."""
    names = [name for name in series if SCORES & set(measure_of(name)) and not NOT_A_SCORE & set(measure_of(name))]
    name = min(names, key=lambda one: (len(measure_of(one)), one), default="")
    return name, series.get(name, {})


def _named(series: Mapping[str, Series], measures: tuple[tuple[str, ...], ...]) -> Series:
    """The series with one of these measures; "lr-AdamW" and "lr-AdamW/pg1" are rates too."""
    found = [name for name in series if any(measure_of(name)[: len(measure)] == measure for measure in measures)]
    return series[min(found, key=len)] if found else {}


def _rate(series: Mapping[str, Series]) -> Series:
    """The learning rate; of several groups one that is not switched off, since a frozen group may have rate 0."""
    working = {name: values for name, values in series.items() if any(values.values())}
    return _named(working, RATE) or _named(series, RATE)


def _at_steps(values: Series, steps: list[int], fill: bool = False) -> np.ndarray | None:
    """A series at the steps of the losses; None if it is not recorded there, or, with `fill`, near enough."""
    if not values:
        return None
    if all(step in values for step in steps):
        return np.array([values[step] for step in steps])
    if not fill or len(values) < DENSE * len(steps):
        return None
    logged = np.array(sorted(values), dtype=np.int64)
    places = np.maximum(np.searchsorted(logged, np.array(steps, dtype=np.int64), side="right") - 1, 0)
    return np.array([values[int(logged[place])] for place in places])


def _points(values: Series) -> tuple[ValidationPoint, ...]:
    return tuple(ValidationPoint(step, value) for step, value in sorted(values.items()))


def _last_evaluation(
    by_split: Mapping[Split, Mapping[str, Series]], n_classes: int | None, course: ValidationCourse | None
) -> tuple[Any, ...]:
    """The last value of every metric of the held-out splits."""
    splits: dict[str, ReportedSplit] = {}
    broken: dict[str, tuple[str, ...]] = {}
    for split in ("validation", "test"):
        series = by_split[split]
        last = {name: values[max(values)] for name, values in series.items() if _is_result(name)}
        record = {"_".join(measure_of(name)): value for name, value in last.items()}
        if (accuracy := best_series(series, ACCURACY)) and math.isfinite(accuracy[max(accuracy)]):
            record["accuracy"] = accuracy[max(accuracy)]
        if "loss" in record and (loss := best_series(series, LOSS)):
            record["loss"] = loss[max(loss)]
        if (matrices := _matrices(series)) and max(matrices) == max(map(max, series.values())):
            record["confusion_matrix"] = matrices[max(matrices)].tolist()
        if bad := non_finite_metrics(last):
            broken[f"the last {split}"] = bad
        if (claims := claims_of(record, split)) is not None:
            splits[split] = claims
    return (evaluation_evidence(splits, n_classes, broken, course),) if splits or broken else ()


def _is_result(name: str) -> bool:
    """Whether a metric of a held-out split is a result, and no time or count."""
    return not {"runtime", "second", "seconds", "time", "samples", "threshold", "iterations"} & set(_words(name))
