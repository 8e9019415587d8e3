"""The model card's section on probabilities: the one part that changes after training."""

import re
from collections.abc import Mapping
from typing import Any

from tenor.evaluation.words import interval, markdown, percent
from tenor.model.notes import Threshold, parse_threshold
from tenor.runs.environment import is_absent

CARD = "README.md"
"""In the model's folder."""

HEADING = "## Probabilities"
_SECTION = re.compile(rf"^{HEADING}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)


def probabilities_section(notes: Mapping[str, Any]) -> str:
    """What the temperature and the threshold in `tenor.json` mean for whoever uses the model, with or without Tenor."""
    threshold = parse_threshold(notes.get("threshold"))
    told = [HEADING, _temperature(notes)]
    if threshold is not None:
        told += [_decision(threshold, notes["threshold"]), _without_tenor(notes)]
    return "\n\n".join(told) + "\n"


def with_probabilities(card: str, notes: Mapping[str, Any]) -> str:
    """The card with this section as `notes` have it now; at the end where it has none."""
    section = probabilities_section(notes) + "\n"
    if _SECTION.search(card):
        return _SECTION.sub(lambda _: section, card, count=1)
    return f"{card.rstrip()}\n\n{section}"


def _temperature(notes: Mapping[str, Any]) -> str:
    if notes["temperature"] != 1.0:
        return (
            f"Those of a plain `pipeline` are not calibrated. Tenor divides the logits by {notes['temperature']:.4f} "
            "before the softmax, a temperature fitted on the validation rows (`temperature` in `tenor.json`); "
            "`tenor calibrate RUN --fold` builds it into the weights, for a `pipeline` too."
        )
    folded = notes.get("folded")
    if folded:
        before = folded.get("checkpoint_sha256", "not recorded")
        return (
            f"Calibrated, in a plain `pipeline` too: the temperature {folded['temperature']:.4f}, fitted on the "
            f"validation rows, is part of the weights. Their SHA-256 is {notes['weights_sha256']}; that of the "
            f"evaluated checkpoint, before the temperature was folded in, is {before}."
        )
    return "As the softmax gives them: no temperature fits the validation rows better by more than chance."


def _decision(threshold: Threshold, record: Mapping[str, Any]) -> str:
    name = markdown(threshold.class_name)
    return (
        f"`tenor predict` and `tenor.Predictor` call a text **{name}** where the calibrated probability of {name} is "
        f"{threshold.probability:.6f} or more, and otherwise by the most probable other class; the threshold was "
        f"chosen on the validation rows for a {threshold.wanted} of {threshold.value:g}.{_reached(name, record)} All "
        "results above are those of the most probable class, without a threshold."
    )


def _reached(name: str, record: Mapping[str, Any]) -> str:
    split = "test" if "test" in record else "validation"
    shares = {kind: record.get(split, {}).get(kind) for kind in ("precision", "recall")}
    if any(one is None or is_absent(one) for one in shares.values()):
        return ""
    told = (
        f"{kind} {percent(one['value'])} ({interval(one['low'], one['high'])})" for kind, one in shares.items() if one
    )
    return f" On the {split} rows {name} then has {' and '.join(told)}."


def _without_tenor(notes: Mapping[str, Any]) -> str:
    calibrated = notes["temperature"] == 1.0
    first = (
        "" if calibrated else " Fold the temperature in first, since the threshold is one on calibrated probabilities."
    )
    return (
        "A plain `pipeline` knows nothing of the threshold: it names the most probable class, and only its scores "
        f"(`top_k=None`) let you decide as Tenor does.{first}"
    )
