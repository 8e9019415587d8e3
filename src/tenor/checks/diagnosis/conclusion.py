"""What a diagnosis amounts to, in a sentence or two: how much was checked, what was found, and what follows."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tenor.checks.diagnosis.artifacts import NO_SPLIT, Artifacts
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence
from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.runs.findings import Finding

FEW = 6
"""With fewer rules, nothing was found means nothing. A log of losses alone allows 5, a confusion matrix 7."""

LEARNING = ("LOS006", "EVL005", "EVL020")
"""Rules that show whether anything was learned: the loss falls, the result is better than the most frequent class, or
than chance. Without any of them, many checked rules say nothing about the model."""

SPLITS_SHOWN = 8
RUNS_SHOWN = 3
VERDICTS_SHOWN = 10
MORE = {
    StepEvidence: "the record of the training steps (trainer_state.json, metrics.jsonl, event files)",
    EvaluationEvidence: "the evaluated rows (a CSV file with the columns label and prediction, and prob_CLASS)",
}
ROWS = "the same file with a column of true classes, and of scores for each class"


def is_enough(artifacts: Artifacts, checked: Collection[str]) -> bool:
    """Whether a diagnosis without a finding says something: on the steps of a run so far, or on a result."""
    has_steps = any(isinstance(item, StepEvidence) for item in artifacts.evidence)
    return len(checked) >= FEW and (has_steps or any(code in checked for code in LEARNING))


def limits_of(artifacts: Artifacts, checked: Collection[str], reasons: Mapping[str, str]) -> str:
    """How little could be judged, and what to pass; empty if enough was checked.

    `reasons` are those of the rules that were not applicable, by code.
    """
    if is_enough(artifacts, checked):
        return ""
    if len(checked) >= FEW:
        why = [f"{code}: {reasons[code]}" for code in LEARNING if code in reasons]
        return f"Whether the model learned anything could not be judged ({'; '.join(why)})."
    count = f"Only {len(checked)} rule{'s' if len(checked) != 1 else ''}" if checked else "No rule"
    codes = f" ({', '.join(checked)})" if checked else ""
    available = {type(item) for item in artifacts.evidence}
    wanted = [text for kind, text in MORE.items() if kind not in available]
    if EvaluationEvidence in available:
        wanted.append(MORE[EvaluationEvidence] if not _has_rows(artifacts.evidence) else ROWS)
    return f"{count} could be checked{codes}. To check more, pass {', or '.join(dict.fromkeys(wanted))}."


def conclusion_of(artifacts: Artifacts, checked: Collection[str], findings: Sequence[Finding], first_cause: str) -> str:
    """What was checked, what was found, how the run ended and what to do next, in one sentence."""
    count = f"{len(checked)} rule{'s' if len(checked) != 1 else ''} checked"
    scope = _scope(artifacts)
    parts = [f"{count}{f' on {scope}' if scope else ''}: {_result(findings, is_enough(artifacts, checked))}"]
    parts += [artifacts.outcome] if artifacts.outcome else []
    serious = any(finding.severity != "note" and not finding.allowed for finding in findings)
    first = first_cause or next((one.code for one in findings if one.severity != "note" and not one.allowed), "")
    if serious:
        parts.append(f"begin with {first}, then diagnose again")
    return "; ".join(parts) + "."


def limits_of_runs(names: Sequence[str], limits: Sequence[str]) -> str:
    """The limits of several runs: that of the first, and how many there are."""
    limited = [(name, limit) for name, limit in zip(names, limits, strict=True) if limit]
    if not limited:
        return ""
    name, limit = limited[0]
    others = f" (and {len(limited) - 1} of the other {len(names) - 1} runs alike)" if len(limited) > 1 else ""
    return f"{name}{others}: {limit}"


def conclusion_of_runs(names: Sequence[str], parts: Sequence[tuple[str, Sequence[Finding]]]) -> str:
    """The conclusion on each of a few runs; of many, their numbers and that of each run with an error or a warning."""
    if len(names) <= RUNS_SHOWN:
        return " ".join(f"{name}: {conclusion}" for name, (conclusion, _) in zip(names, parts, strict=True))
    severities = [{finding.severity for finding in findings if not finding.allowed} for _, findings in parts]
    errors = sum("error" in found for found in severities)
    warnings = sum("warning" in found and "error" not in found for found in severities)
    judged = zip(names, parts, severities, strict=True)
    # After the first colon: what was found, how the run ended and where to begin.
    bad = [f"{name}: {conclusion.partition(': ')[2]}" for name, (conclusion, _), found in judged if found - {"note"}]
    shown = [*bad[:VERDICTS_SHOWN], *([f"And {len(bad) - VERDICTS_SHOWN} more."] if len(bad) > VERDICTS_SHOWN else [])]
    alone = shown or [f"Diagnose one of them alone for its conclusion, for example {names[0]}: {parts[0][0]}"]
    counts = f"{errors} with an error, {warnings} with a warning, {len(names) - errors - warnings} with neither."
    return " ".join([f"{len(names)} runs: {counts}", *alone])


def _result(findings: Sequence[Finding], enough: bool) -> str:
    counts = dict.fromkeys(("error", "warning", "note"), 0)
    for finding in findings:
        counts[finding.severity] += 1
    named = [f"{n} {severity}{'s' if n > 1 else ''}" for severity, n in counts.items() if n]
    if named:
        return " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
    return "no problem found" if enough else "too little to say that the result is sound"


def _scope(artifacts: Artifacts) -> str:
    """The steps and rows on which the rules were checked, as text."""
    parts = []
    for item in artifacts.evidence:
        if isinstance(item, StepEvidence) and len(item.steps):
            last = len(item.steps) if item.unit != "step" else item.last_step or int(item.steps[-1])
            is_part = item.total_steps is not None and last < item.total_steps
            planned = f" of {item.total_steps:,}" if is_part else ""
            first = "the first " if is_part or "interrupted" in artifacts.outcome else ""
            parts.append(f"{first}{last:,}{planned} {item.unit}{'s' if last != 1 else ''}")
        if isinstance(item, EvaluationEvidence):
            rows = {name: claims.n for name, claims in item.splits.items() if claims.n}
            parts += [f"{n:,} {'' if name in NO_SPLIT else f'{name} '}rows" for name, n in rows.items()][:SPLITS_SHOWN]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


"""What a split is called if its file does not name it."""


def _has_rows(evidence: Sequence[Any]) -> bool:
    evaluations = [item for item in evidence if isinstance(item, EvaluationEvidence)]
    return any(claims.predicted is not None for item in evaluations for claims in item.splits.values())
