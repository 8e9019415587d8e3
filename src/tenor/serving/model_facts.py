"""What a server says about its model: `GET /v1/info`, and the statement on the page."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tenor
from tenor.errors import RefusedError, UserError
from tenor.evaluation.formatting import interval, percent
from tenor.evaluation.model_card import data_name, measured_limits
from tenor.evaluation.report.run_content import RunContent, collect_run
from tenor.explanations.verdict import Verdict, run_of_model
from tenor.inference.predictor import Predictor
from tenor.runs.best_evaluation import SplitNumbers
from tenor.runs.findings import Finding
from tenor.runs.missing import Missing
from tenor.runs.text_keys import read_text_keys
from tenor.serving.limits import ServerLimits

FILM_REVIEWS = frozenset({"embedded", "imdb", "rotten_tomatoes", "sst2"})
EXAMPLES = (
    "The plot is thin, but the acting is superb and I laughed all the way through.",
    "Two hours of my life that I will never get back. The dialogue is wooden and the ending makes no sense.",
    "Not bad at all, though I expected more from this director.",
)


@dataclass(frozen=True)
class ModelFacts:
    """Everything that is known about a served model when the server starts."""

    model: str
    """Its run, or the name that the user gave."""
    digest: str
    labels: tuple[str, ...]
    predictor: Mapping[str, Any]
    evaluation: Mapping[str, SplitNumbers | Missing]
    """By split."""
    errors: tuple[Finding, ...]
    """Error findings of the run's checks that were not allowed."""
    checks: Mapping[str, Any]
    explanations: Verdict
    card: Mapping[str, Any]
    examples: tuple[str, ...]

    def as_dict(self, limits: ServerLimits) -> dict[str, Any]:
        """The answer of `GET /v1/info`."""
        return {
            "model": self.model,
            "digest": self.digest,
            "labels": list(self.labels),
            **self.predictor,
            "evaluation": {name: _numbers(numbers) for name, numbers in self.evaluation.items()},
            "checks": dict(self.checks),
            "explanations": {"shown": self.explanations.shown, "why": self.explanations.why},
            "card": dict(self.card),
            "examples": list(self.examples),
            "limits": {
                "max_texts": limits.texts,
                "max_characters": limits.characters,
                "max_body_bytes": limits.body_bytes,
                "queue_tokens": limits.queue_tokens,
                "deadline_seconds": limits.seconds,
            },
            "version": tenor.__version__,
        }


def model_facts(reference: str, predictor: Predictor, root: Path, explanations: Verdict) -> ModelFacts:
    """The facts, from the run's folder if the model is a run's."""
    run = run_of_model(reference, root)
    content = Missing(f"{reference} is not a run's model") if run is None else collect_run(run)
    findings = _findings(content)
    errors = tuple(one for one in findings if one.severity == "error" and not one.allowed)
    source = predictor.source
    return ModelFacts(
        model=source.origin,
        digest=source.digest,
        labels=predictor.labels,
        predictor={
            "max_length": source.truncation.max_length,
            "truncation": source.truncation.strategy,
            "temperature": source.temperature,
            "hybrid": source.hybrid is not None,
            "threshold": None
            if predictor.threshold is None
            else {"class": predictor.threshold.class_name, "probability": predictor.threshold.probability},
            "engine": predictor.engine.name,
            "engine_why": predictor.why,
        },
        evaluation=_evaluation(content),
        errors=errors,
        checks=_checks(content, findings, errors),
        explanations=explanations,
        card=_card(content, predictor),
        examples=EXAMPLES if _is_of_films(content) else (),
    )


def require_verified(facts: ModelFacts) -> None:
    """Raises RefusedError if the model's run has error findings that nobody allowed."""
    if facts.errors:
        named = "; ".join(f"{one.code} ({one.title}): {one.observed}" for one in facts.errors[:3])
        raise RefusedError(
            f"{facts.model} has {len(facts.errors)} open error finding{'s' if len(facts.errors) > 1 else ''}: {named}. "
            f"Fix the cause and train again (tenor rule {facts.errors[0].code}), or serve it all the same: "
            "--allow-unverified"
        )


def _findings(content: RunContent | Missing) -> tuple[Finding, ...]:
    if isinstance(content, Missing) or isinstance(content.checks, Missing):
        return ()
    return tuple(finding for report in content.checks for finding in report.findings)


def _evaluation(content: RunContent | Missing) -> Mapping[str, SplitNumbers | Missing]:
    if isinstance(content, Missing):
        return {"validation": content, "test": content}
    if isinstance(content.evaluation, Missing):
        return {"validation": content.evaluation, "test": content.evaluation}
    return content.evaluation.splits


def _is_of_films(content: RunContent | Missing) -> bool:
    if isinstance(content, Missing) or isinstance(content.config, Missing):
        return False
    return content.config.data.source in FILM_REVIEWS


def _numbers(numbers: SplitNumbers | Missing) -> dict[str, Any]:
    if isinstance(numbers, Missing):
        return {"missing": numbers.reason}
    bounds = {
        "accuracy_interval": asdict(numbers.accuracy_interval),
        "macro_f1_interval": asdict(numbers.macro_f1_interval),
    }
    return {"n": numbers.n, "accuracy": numbers.accuracy, "macro_f1": numbers.macro_f1, "loss": numbers.loss, **bounds}


def _checks(
    content: RunContent | Missing, findings: tuple[Finding, ...], errors: tuple[Finding, ...]
) -> dict[str, Any]:
    warnings = [one.code for one in findings if one.severity == "warning" and not one.allowed]
    return {
        "checked": not isinstance(content, Missing) and not isinstance(content.checks, Missing),
        "verdict": _verdict(content, len(errors), len(warnings)),
        "errors": [one.code for one in errors],
        "warnings": warnings,
    }


def _verdict(content: RunContent | Missing, errors: int, warnings: int) -> str:
    if isinstance(content, Missing):
        return f"not checked: {content.reason}"
    if isinstance(content.checks, Missing):
        return f"not checked: {content.checks.reason}"
    checked = len({code for report in content.checks for code in report.checked})
    counts = f"{errors} open error{'' if errors == 1 else 's'}, {warnings} warning{'' if warnings == 1 else 's'}"
    return f"{checked} rules were checked: {counts}"


def _card(content: RunContent | Missing, predictor: Predictor) -> dict[str, Any]:
    source = predictor.source
    truncation = f"It reads at most {source.truncation.max_length} tokens of a text, about {_words(predictor)} words."
    if isinstance(content, Missing) or isinstance(content.config, Missing):
        reason = content.reason if isinstance(content, Missing) else "its configuration cannot be read"
        return {"trained_on": f"Unknown: {reason}.", "accuracy": f"Unknown: {reason}.", "limits": [truncation]}
    evaluation = _evaluation(content)
    split = "test" if isinstance(evaluation["test"], SplitNumbers) else "validation"
    numbers = evaluation[split]
    if isinstance(numbers, Missing):
        return {"trained_on": _trained_on(content), "accuracy": f"Unknown: {numbers.reason}.", "limits": [truncation]}
    bounds = numbers.accuracy_interval
    accuracy = (
        f"{percent(numbers.accuracy, 1)} of {numbers.n:,} {split} texts were classified correctly "
        f"({100 * bounds.confidence:g}% CI {interval(bounds.low, bounds.high, 1)})."
    )
    limits = measured_limits(numbers, content.predictions[split], bounds.confidence)
    kind = "Texts of another kind than its training texts may have a lower accuracy; the interval does not cover that."
    return {"trained_on": _trained_on(content), "accuracy": accuracy, "limits": [truncation, *limits, kind]}


def _trained_on(content: RunContent) -> str:
    if isinstance(content.config, Missing):
        return f"Unknown: {content.config.reason}."
    try:
        texts = f"{len(read_text_keys(content.run.text_keys)['train']):,} texts: "
    except UserError:  # Earlier versions did not count them; the kind of the data is known all the same.
        texts = ""
    return f"Trained on {texts}{data_name(content.config.data)}."


def _words(predictor: Predictor) -> int:
    """English words that fit, roughly: 1.3 tokens each."""
    return int((predictor.source.truncation.max_length - sum(predictor.framing.around)) / 1.3)
