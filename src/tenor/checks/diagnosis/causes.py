"""From findings to ranked causes: confirmed ones first, then suspected ones by how well they fit the results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tenor.checks.catalogue import BY_CODE, causes_of
from tenor.checks.diagnosis.observations import Observations
from tenor.checks.rule import Rule
from tenor.checks.rules.opt_groups import DESTRUCTIVE_RATE, LARGE_RATE, SGD_LARGE, SGD_SMALL, SMALL_RATE
from tenor.runs.findings import Finding

Rules = Mapping[str, Rule]

COLLAPSE = frozenset({"EVL001", "EVL003", "EVL024", "EVL032"})
AT_CHANCE = frozenset({"EVL020", "LOS006", "EVL033"})
"""Rules that report that nothing was learned."""
# Shares of ln K, the loss of uniform predictions: the model has fitted the training rows below FITTED, and has not
# above NOT_FITTED.
FITTED, NOT_FITTED = 0.1, 0.5
# Below this share of ln K the model separates the training rows to some degree, so weights that predict one class for
# every row are not the trained ones.
LEARNED = 0.9
# Below this share of ln K nothing can have prevented learning: cross-entropy of probabilities instead of logits, which
# is what learns the furthest of such faults, stays above 0.45 ln 2 and 0.5 ln 3.
LEARNED_WELL = 0.4
TOO_LARGE, TOO_SMALL, OTHER_ROWS = "OPT007", "OPT006", "EVL026"
SURE, UNSURE = 0.75, 0.1
"""Mean probability of the predicted class if something was learned; its excess over 1/K if nothing was."""
LEARNS_ANYWAY = frozenset({"DAT008", "LOS003", "LOS004", "OPT007", "OPT012", "PRC002"})
"""Faults that explain a loss that does not fall, but may also end in a model that is sure: wrong labels, inverted
losses, steps that are too large."""
NO_WEIGHT_MOVES = frozenset({"FRZ003", "OPT020", "OPT021"})
"""Faults that leave every weight, or nearly every one, as it was."""
NO_RATE = "OPT005"
NOT_FINITE_AT_FIRST = "PRC005"
NO_GRADIENT = frozenset({"FRZ003", "OPT020"})
INVERTED = "LOS003"
IMBALANCE = "DAT022"
HEURISTICS = frozenset({"OPT030", IMBALANCE})
"""A short training and imbalanced classes explain a result, but exclude no other cause."""
DIVERGED = frozenset({"LOS007", "LOS008"})
BELOW_CHANCE = "EVL030"
UNCHANGED, OUTPUTS = "EVL033", "MOD001"
FAR_APART, OF_OTHER_ROWS = "EVL015", frozenset({"EVL017", "EVL025", "EVL026"})
"""Validation and test far apart; predictions that were compared with the labels of other rows."""
OTHER_NUMBERS = "DAT009"
OF_ONE_CLASS = frozenset({"DAT020", "DAT023"})
"""Faults of a split in which classes are missing or rare."""
UNTRAINED = NO_WEIGHT_MOVES | {"FRZ005", "OPT002", "OPT005", "OPT006", "OPT017", "OPT031"}
"""Faults that leave the model or its head untrained."""
MERGED = "LOS018"
LEARNED_SWAPPED, LEARNED_SEVERAL = 0.75, 0.5
"""Accuracy after the best relabelling of two classes and of more: an untrained head is nearer to chance in either
direction, with more than three classes twice chance at most."""
LEARNED_EACH = 0.25
"""Recall of every class after it: the rows of two classes are not taken for one."""
DESCENT_FIX = "a tenth of this rate, with a warm-up; for a pretrained encoder AdamW at 2e-5 to 1e-4"
OUTPUTS_FIX = "a sigmoid over one output, or a softmax over one output for each class"
ALWAYS, RECORDED = 3, 4
"""How well a cause fits that the run's own settings show."""


def is_excluded(rule: Rule, symptoms: tuple[str, ...], observations: Observations) -> bool:
    """Whether the records contradict the fault, so that it is not a suspect."""
    share = observations.loss_share
    if _is_excluded_by_rows(rule, observations):
        return True
    if (rule.code == "LOS008" and observations.fell) or (rule.code == "FRZ003" and observations.has_gradients):
        return True
    if rule.code in NO_WEIGHT_MOVES and observations.weights_moved:
        return True
    if rule.code == NOT_FINITE_AT_FIRST and observations.began_finite:
        return True
    if UNCHANGED in symptoms and _learns(observations) and "stalled loss" in rule.explains:
        return True
    if _is_excluded_by_relabelling(rule, symptoms, observations) or rule.code in ruled_out_by_rate(observations):
        return True
    if share is None:
        return False
    learned = share < LEARNED_WELL and ("stalled loss" in rule.explains or rule.training_loss == "high")
    not_learned = share > LEARNED and rule.training_loss in ("low", "fell")
    return learned or not_learned or likelihood(rule, symptoms, observations) == 0


def _learns(observations: Observations) -> bool:
    """Whether training loss and validation loss show that the weights change for the better."""
    return observations.validation_fell and observations.fell is True


def ruled_out_by_rate(observations: Observations) -> frozenset[str]:
    """Codes of faults of the learning rate that the recorded rate contradicts."""
    rate = observations.recorded_rate
    if rate is None:
        return frozenset()
    # What is not too large for Adam is not for gradient descent, and what is not too small for that is not for Adam.
    is_usual = rate >= SGD_SMALL or (observations.is_adam and rate >= SMALL_RATE["head"])
    return frozenset(({TOO_LARGE} if rate <= LARGE_RATE else set()) | ({TOO_SMALL} if is_usual else set()))


def _is_excluded_by_relabelling(rule: Rule, symptoms: tuple[str, ...], observations: Observations) -> bool:
    """Whether the model has learned the classes under other names, so that it was trained, and on each of them."""
    enough = LEARNED_SWAPPED if observations.n_classes == 2 else max(LEARNED_SEVERAL, 2 / observations.n_classes)
    if "EVL007" not in symptoms or (observations.relabelled or 0.0) < enough:
        return False
    if rule.code == MERGED:
        return (observations.each_relabelled or 0.0) >= LEARNED_EACH
    # An inverted loss teaches the other one of two classes; of several, no single one.
    return rule.code in UNTRAINED or (rule.code == INVERTED and observations.n_classes > 2)


def _is_excluded_by_rows(rule: Rule, observations: Observations) -> bool:
    """Whether the predictions of the evaluated rows contradict the fault.

    Predictions that are spread over the classes as the labels are do not come from a model that gives one class. A
    model that learned nothing is not sure, one that memorized its training rows is.
    """
    sure, chance = observations.sureness, 1 / max(observations.n_classes, 2)
    is_unsure = sure is not None and sure <= chance + UNSURE
    gives_one_class = rule.one_class == "always" or "collapsing predictions" in rule.explains
    # A new head that was not trained prefers one class, too, unless it is so unsure that noise decides.
    if observations.spread and (gives_one_class or (rule.one_class == "usually" and not is_unsure)):
        return True
    if sure is None:
        return False
    knows_nothing = rule.training_loss == "high" or ("stalled loss" in rule.explains and rule.code not in LEARNS_ANYWAY)
    if sure >= SURE and knows_nothing:
        return True
    return is_unsure and rule.training_loss in ("low", "fell")


def likelihood(rule: Rule, symptoms: tuple[str, ...], observations: Observations) -> int:
    """How well a cause fits the results, 0 … 4: contradicted by the training loss, possible, usual, always so, recorded
    in the run itself."""
    if rule.code == OTHER_ROWS:
        return 3 if observations.spread else 1
    if rule.code == IMBALANCE:
        return 3 if observations.majority else 1
    fitted = observations.loss_share is not None and observations.loss_share < FITTED
    is_bad = bool((AT_CHANCE | COLLAPSE | DIVERGED) & set(symptoms))
    if rule.code == TOO_LARGE and is_bad and not fitted and _is_destructive(observations):
        return RECORDED
    if rule.code in NO_GRADIENT and AT_CHANCE & set(symptoms) and observations.gradients_are_zero:
        return RECORDED
    if FAR_APART in symptoms and observations.test_at_chance:
        return ALWAYS if rule.code in OF_OTHER_ROWS else 1
    if rule.code == TOO_SMALL and (AT_CHANCE | COLLAPSE) & set(symptoms) and _is_tiny(observations):
        return RECORDED
    if BELOW_CHANCE in symptoms:
        likely = OF_ONE_CLASS if observations.may_lack_a_class else {OTHER_NUMBERS}
        return 2 if rule.code in likely else 1
    if AT_CHANCE & set(symptoms) and observations.saturated:
        return ALWAYS if rule.code == OUTPUTS else 1
    if AT_CHANCE & set(symptoms) and observations.weights_kept:
        return 3 if _keeps_weights(rule) else 1
    if AT_CHANCE & set(symptoms) and observations.weights_creep:
        slows = "small updates" in rule.explains and rule.code not in NO_WEIGHT_MOVES | {NO_RATE}
        return 3 if rule.code == TOO_SMALL else 2 if slows else 1
    if AT_CHANCE & set(symptoms) and observations.above_chance:
        return 2 if "diverging loss" in rule.explains else 1
    if AT_CHANCE & set(symptoms):
        return 2 if rule.training_loss == "high" or rule.one_class else 1
    if not COLLAPSE & set(symptoms):
        return 1
    level = {"": 1, "usually": 2, "always": 3}[rule.one_class]
    # With more than two classes, a class without rows still leaves several classes to predict.
    if level == 3 and (not observations.same_class_for_all or (rule.code == "DAT001" and observations.n_classes > 2)):
        level = 2
    not_fitted = observations.loss_share is not None and observations.loss_share > NOT_FITTED
    if (rule.training_loss == "low" and not_fitted) or (rule.training_loss == "high" and fitted):
        return 0
    if rule.training_loss == "low" and fitted:
        return 3
    if rule.training_loss == "fell" and observations.loss_share is not None and observations.loss_share < LEARNED:
        return 3
    return level


def _keeps_weights(rule: Rule) -> bool:
    return rule.code in NO_WEIGHT_MOVES or bool({"no updates", "small updates"} & set(rule.explains))


def _is_descent(rule: Rule, observations: Observations) -> bool:
    """Whether the rate is that of gradient descent, for which the rates of Adam are far too small."""
    return rule.code == TOO_LARGE and observations.recorded_rate is not None and observations.is_descent


def _is_destructive(observations: Observations) -> bool:
    if observations.is_descent:
        return observations.recorded_rate is not None and observations.recorded_rate >= SGD_LARGE
    if observations.peak_rate is not None:
        return observations.peak_rate >= DESTRUCTIVE_RATE
    # A setting of 1e-3 is the default of Adam for models that are trained from scratch.
    return observations.recorded_rate is not None and observations.recorded_rate > DESTRUCTIVE_RATE


def _is_tiny(observations: Observations) -> bool:
    limit = SGD_SMALL if observations.is_descent else SMALL_RATE["encoder"]
    return observations.recorded_rate is not None and observations.recorded_rate < limit


def why_suspected(rule: Rule, symptoms: tuple[str, ...], observations: Observations) -> str:
    """How the cause fits the results, in one sentence; empty if nothing but its rule connects the two."""
    level = likelihood(rule, symptoms, observations)
    if rule.code == OTHER_ROWS and observations.spread:
        return "every class is predicted as often as it occurs, but its labels are met only by chance"
    if FAR_APART in symptoms and rule.code in OF_OTHER_ROWS and observations.test_at_chance:
        return f"labels of other rows are met only by chance: {observations.test_at_chance}"
    if rule.code == IMBALANCE and observations.majority:
        return f"every prediction is the most frequent class: {observations.majority}"
    if rule.code == TOO_LARGE and observations.recorded_rate is not None:
        return f"the recorded learning rate is up to {observations.recorded_rate:.2g}"
    if rule.code == TOO_SMALL and level == RECORDED:
        usual = SGD_SMALL if observations.is_descent else SMALL_RATE["head"]
        rate = f"the recorded learning rate is {observations.recorded_rate:.2g} at most, expected {usual:.0e} or more"
        return f"{rate}: the weights hardly change"
    if rule.code in NO_GRADIENT and observations.gradients_are_zero:
        return "the gradient norm is 0 in every record"
    if rule.code == OUTPUTS and observations.saturated:
        return (
            "the loss is constant and several times that of equal probabilities, as of a softmax over a single output"
        )
    if UNCHANGED in symptoms and rule.code == OUTPUTS and _learns(observations):
        return "the loss falls, but no prediction changes: a softmax over a single output is 1 for every row"
    if BELOW_CHANCE in symptoms and rule.code == OTHER_NUMBERS and not observations.may_lack_a_class:
        return "the validation rows are nearly always taken for another class: their classes are numbered differently"
    if BELOW_CHANCE in symptoms and rule.code in OF_ONE_CLASS and observations.may_lack_a_class:
        return (
            "the last part of rows that are sorted by label, as Keras' validation_split holds it out, is of one class"
        )
    if AT_CHANCE & set(symptoms) and observations.weights_kept and level == 3:
        return "the validation loss is the same in all validations: the weights hardly change, or not at all"
    if AT_CHANCE & set(symptoms) and observations.weights_creep and level == 3:
        return "the losses change by next to nothing in all records: the weights hardly change"
    if not (COLLAPSE | AT_CHANCE) & set(symptoms):
        return ""
    text = [
        "would explain it, but the training loss contradicts it",
        "can cause this result",
        "usually causes this result",
        "always causes this result",
    ][level]
    if level == 3 and observations.same_class_for_all:
        text += ": the same class for every row"
    parts = [f"{text} ({observations.collapsed})" if observations.collapsed and level == 3 else text]
    if observations.last_loss is not None and (rule.training_loss == "low" or level == 0):
        parts.append(f"the last training losses are {observations.last_loss:.3g}")
    if observations.subset and rule.training_loss == "low":
        parts.append(f"the run was trained on a subset: {observations.subset}")
    return "; ".join(parts)


# Ties are broken in this order: data, loss and logits, optimizer and freezing, checkpoint choice, thresholds.
FAMILY_ORDER = {
    **dict.fromkeys(("DAT", "TOK"), 0),
    **dict.fromkeys(("LOS", "MOD"), 1),
    **dict.fromkeys(("OPT", "FRZ", "PRC"), 2),
    **dict.fromkeys(("CKP", "DST"), 3),
    "EVL": 4,
}


@dataclass(frozen=True)
class Cause:
    """A confirmed or suspected cause of the result."""

    code: str
    title: str
    status: Literal["confirmed", "suspected"]
    evidence: str
    """What confirms it, or why it is suspected."""
    fix: str
    settled_by: str
    """What would confirm it or rule it out; empty if it is confirmed."""
    symptoms: tuple[str, ...]
    """Codes of the findings that it explains."""
    allowed: str = ""
    """The reason given in the run for allowing its finding; empty if it was not allowed."""


def is_symptom(finding: Finding, rules: Rules = BY_CODE) -> bool:
    """Whether a finding reports that something went wrong without naming why."""
    return finding.code in rules and not rules[finding.code].says_why


def roots_of(finding: Finding, by_code: Mapping[str, Finding]) -> set[str]:
    """The codes at the end of its chain of causes; its own code if nothing explains it."""
    seen, pending, ends = set(), [finding.code], set()
    while pending:
        code = pending.pop()
        if code in seen:
            continue
        seen.add(code)
        causes = [cause for cause in by_code[code].caused_by if cause in by_code]
        pending += causes
        if not causes:
            ends.add(code)
    return ends


def ranked_causes(
    findings: Sequence[Finding], skipped: Sequence[str], observations: Observations, rules: Rules = BY_CODE
) -> tuple[Cause, ...]:
    """Confirmed causes first, those with symptoms before others; then suspected ones, the likeliest first.

    What the run's own settings show comes before a confirmed finding that it explains, such as the NaN of a rate of 30.
    A short training and imbalanced classes are facts, but only heuristic explanations: they are suspected, and come
    after those. Where an error is left unexplained, its likely suspects come before a confirmed note, and before a
    warning that explains nothing.
    """
    by_code = {finding.code: finding for finding in findings}
    confirmed = _confirmed(by_code, set(skipped), rules)
    certain = [cause for cause in confirmed if cause.code not in HEURISTICS]
    explained = {code for cause in certain for code in cause.symptoms}
    heuristic = [
        replace(cause, status="suspected")
        for cause in confirmed
        if cause.code in HEURISTICS and not set(cause.symptoms) <= explained
    ]
    suspected = _suspected(by_code, set(skipped), observations, rules)
    recorded = [one for one in suspected if likelihood(rules[one.code], one.symptoms, observations) == RECORDED]
    known = {code for cause in certain for code in (cause.code, *cause.symptoms)}
    has_open_error = any(one.severity == "error" and one.code not in known for one in findings)
    notes = [cause for cause in certain if has_open_error and by_code[cause.code].severity == "note"]
    behind = [cause for cause in certain if has_open_error and _is_warning_alone(cause, by_code)]
    certain = [cause for cause in certain if cause not in (*behind, *notes)]
    first = [one for one in recorded if set(one.symptoms) & {cause.code for cause in certain}]
    likely = [one for one in suspected if one not in recorded and _is_always_so(one, observations, rules)]
    rest = [one for one in suspected if one not in recorded and one not in likely]
    after = [one for one in recorded if one not in first]
    return (*first, *certain, *after, *heuristic, *likely, *behind, *rest, *notes)


def _is_warning_alone(cause: Cause, by_code: Mapping[str, Finding]) -> bool:
    return by_code[cause.code].severity == "warning" and not cause.symptoms


def _is_always_so(cause: Cause, observations: Observations, rules: Rules) -> bool:
    return likelihood(rules[cause.code], cause.symptoms, observations) >= ALWAYS


def _confirmed(by_code: Mapping[str, Finding], skipped: set[str], rules: Rules) -> list[Cause]:
    explains: dict[str, list[str]] = {code: [] for code in by_code}
    for code, finding in by_code.items():
        for root in roots_of(finding, by_code) - {code}:
            explains[root].append(code)
    weight = {"error": 0, "warning": 1, "note": 2}
    confirmed = [
        f
        for f in by_code.values()
        if not f.caused_by and (not is_symptom(f, rules) or _has_no_other_cause(f, skipped, rules))
    ]
    # A note is a heuristic: it is a cause only if it explains something, and comes after errors and warnings.
    confirmed = [f for f in confirmed if f.severity != "note" or explains[f.code]]
    exact = {f.code for f in confirmed if f.code in rules and rules[f.code].is_exact}
    confirmed.sort(
        key=lambda f: (
            f.severity == "note",
            not explains[f.code],
            weight[f.severity],
            f.code not in exact,
            _order(f.code),
        )
    )
    return [
        Cause(
            f.code,
            f.title,
            "confirmed",
            f"{f.observed}; expected {f.expected}",
            f.fix,
            "",
            tuple(explains[f.code]),
            f.allowed,
        )
        for f in confirmed
    ]


def _has_no_other_cause(finding: Finding, skipped: set[str], rules: Rules) -> bool:
    """Whether the finding is an error and every rule that could explain it was checked."""
    return finding.severity == "error" and not skipped.intersection(causes_of(rules[finding.code], rules.values()))


def _suspected(
    by_code: Mapping[str, Finding], skipped: set[str], observations: Observations, rules: Rules
) -> list[Cause]:
    """For every finding without a known cause: its possible causes whose rules were not checked."""
    explains: dict[str, list[str]] = {}
    for finding in by_code.values():
        rule = rules.get(finding.code)
        roots = [by_code[root] for root in roots_of(finding, by_code)]
        if finding.caused_by and not all(is_symptom(one, rules) or one.code in HEURISTICS for one in roots):
            continue
        if rule is None or (finding.severity == "note" and not finding.caused_by):
            continue
        for code in _causes_of_roots(finding, by_code, rules):
            harmless = rules[code].only_through in rules.keys() - skipped - by_code.keys()
            if code in skipped and rules[code].says_why and not harmless:
                explains.setdefault(code, []).append(finding.code)
    causes = [
        (code, tuple(symptoms))
        for code, symptoms in explains.items()
        if not is_excluded(rules[code], tuple(symptoms), observations)
    ]
    causes.sort(
        key=lambda cause: (-likelihood(rules[cause[0]], cause[1], observations), _order(cause[0]), -len(cause[1]))
    )
    return [_suspect(rules[code], symptoms, observations) for code, symptoms in causes]


def _causes_of_roots(finding: Finding, by_code: Mapping[str, Finding], rules: Rules) -> tuple[str, ...]:
    """Codes of the possible causes of a finding, or of the findings that explain it.

    Swapped labels explain a low accuracy: what else lowers an accuracy is no suspect then.
    """
    roots = [code for code in roots_of(finding, by_code) if code in rules] if finding.caused_by else []
    roots = [code for code in roots if code not in HEURISTICS]
    found = {code for root in roots or [finding.code] for code in causes_of(rules[root], rules.values())}
    return tuple(code for code in rules if code in found)


def _suspect(rule: Rule, symptoms: tuple[str, ...], observations: Observations) -> Cause:
    return Cause(
        code=rule.code,
        title=rule.title,
        status="suspected",
        evidence=why_suspected(rule, symptoms, observations),
        fix=DESCENT_FIX
        if _is_descent(rule, observations)
        else OUTPUTS_FIX
        if rule.code == OUTPUTS and (UNCHANGED in symptoms or observations.saturated)
        else rule.fix,
        settled_by="the same run with a rate from the fix"
        if rule.code in (TOO_LARGE, TOO_SMALL) and observations.recorded_rate is not None
        else rule.settled_by or " and ".join(kind.description for kind in rule.needs),
        symptoms=symptoms,
    )


def _order(code: str) -> tuple[int, str]:
    return FAMILY_ORDER.get(code[:3], len(FAMILY_ORDER)), code
