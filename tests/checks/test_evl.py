"""Results: each contradiction and collapse is reported; skewed, tiny and many-class results pass."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import classification_report, roc_auc_score

from tenor.checks.catalogue import run_rules
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit
from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import Rule
from tenor.checks.rules import evl_chance as chance_rules
from tenor.checks.rules import evl_claims as claims_rules
from tenor.checks.rules import evl_collapse as collapse_rules
from tenor.checks.rules import evl_ranking as worth_rules
from tenor.checks.rules import evl_rows
from tenor.checks.rules.evl_measures import best_relabelling, ranking
from tenor.inference.predictor import decide_labels
from tenor.runs.findings import Finding

RULES = tuple(
    value
    for module in (evl_rows, collapse_rules, worth_rules, chance_rules, claims_rules)
    for value in vars(module).values()
    if isinstance(value, Rule)
)
CASE = {"validation": [[1298, 0], [1202, 0]], "test": [[12500, 0], [12500, 0]]}


def of_confusion(counts: Sequence[Sequence[int]], **more: object) -> EvaluationEvidence:
    matrix = np.array(counts)
    return EvaluationEvidence({"test": ReportedSplit(int(matrix.sum()), confusion=matrix, **more)}, len(matrix))


def of_rows(labels: Sequence[int], scores: np.ndarray, predicted: np.ndarray | None = None) -> EvaluationEvidence:
    predictions = scores.argmax(axis=1) if predicted is None else predicted
    rows = ReportedSplit(len(scores), labels=np.array(labels), predicted=predictions, probabilities=scores)
    return EvaluationEvidence({"test": rows}, scores.shape[1])


def binary_scores(positive: np.ndarray) -> np.ndarray:
    return np.stack([1 - positive, positive], axis=1)


def found_by(code: str, evaluation: EvaluationEvidence) -> Finding | None:
    return next(rule for rule in RULES if rule.code == code)(evaluation)


def severities(evaluation: EvaluationEvidence) -> dict[str, str]:
    return {f.code: f.severity for f in run_rules([evaluation], "evaluation", rules=RULES).findings}


def healthy(n: int, k: int, accuracy: float, weights: Sequence[float] | None = None) -> EvaluationEvidence:
    random = np.random.default_rng(n + k)
    labels = random.choice(k, n, p=weights)
    logits = random.normal(size=(n, k))
    logits[np.arange(n), labels] += 12 * (random.random(n) < accuracy)
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return of_rows(labels.tolist(), scores)


@pytest.mark.parametrize(
    "evaluation",
    [
        healthy(1000, 2, 0.9),
        healthy(30, 2, 0.7),
        healthy(20, 2, 0.6),
        healthy(400, 2, 0.9, [0.95, 0.05]),
        healthy(1000, 20, 0.6),
        healthy(50, 20, 0.5),
        of_confusion([[19, 0], [1, 0]]),
        of_confusion([[190, 0], [5, 5]]),
        of_confusion([[8, 12], [12, 8]]),
    ],
)
def test_unusual_but_healthy_results_have_neither_error_nor_warning(evaluation: EvaluationEvidence) -> None:
    assert set(severities(evaluation).values()) <= {"note"}


def test_the_case_is_a_collapse_with_low_accuracy_as_its_symptom() -> None:
    splits = {name: ReportedSplit(n=int(np.sum(c)), confusion=np.array(c)) for name, c in CASE.items()}
    report = run_rules([EvaluationEvidence(splits, 2)], "diagnosis", rules=RULES)
    found = {finding.code: finding for finding in report.findings}
    assert found["EVL001"].severity == "error"
    assert found["EVL001"].n == 27_500
    assert found["EVL005"].caused_by == ("EVL001",)


@pytest.mark.parametrize(
    ("counts", "severity"),
    [
        ([[50, 0], [50, 0]], None),
        ([[0, 95], [0, 5]], None),
        ([[0, 900], [0, 100]], None),
        ([[950, 0], [50, 0]], "warning"),
        ([[300, 0, 0], [300, 0, 0], [299, 1, 0]], None),
    ],
)
def test_one_class_predicted_is_reported_at_any_skew(counts: list[list[int]], severity: str | None) -> None:
    found = found_by("EVL001", of_confusion(counts))
    assert found is not None
    assert found.severity == severity


def test_collapse_is_not_judged_if_all_labels_are_one_class() -> None:
    with pytest.raises(CannotTell):
        found_by("EVL001", of_confusion([[100, 0], [0, 0]]))


def test_collapse_is_divided_by_how_well_the_scores_rank() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 600)
    good = of_rows(labels.tolist(), binary_scores(0.1 + 0.2 * labels + 0.1 * random.random(600)))
    poor = of_rows(labels.tolist(), binary_scores(0.4 * random.random(600)))
    assert found_by("EVL002", good) is not None
    assert found_by("EVL003", good) is None
    assert found_by("EVL002", poor) is None
    assert found_by("EVL003", poor) is not None


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=4, max_size=40))
def test_auc_equals_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    labels, scores = np.array(pairs).T
    if len(set(labels.tolist())) < 2:
        return
    evaluation = of_rows(labels.tolist(), binary_scores(scores / 10))
    assert ranking(evaluation.splits["test"], 2).auc == pytest.approx(roc_auc_score(labels, scores))


def test_labels_other_than_the_argmax_are_an_error_and_a_threshold_is_a_note() -> None:
    random = np.random.default_rng(1)
    labels, positive = random.integers(0, 2, 200), random.random(200)
    wrong = of_rows(labels.tolist(), binary_scores(positive), (positive < 0.5).astype(int))
    threshold = of_rows(labels.tolist(), binary_scores(positive), (positive > 0.3).astype(int))
    assert found_by("EVL004", of_rows(labels.tolist(), binary_scores(positive))) is None
    found, noted = found_by("EVL004", wrong), found_by("EVL004", threshold)
    assert found is not None
    assert noted is not None
    assert (found.severity, noted.severity) == (None, "note")


@pytest.mark.parametrize(("threshold", "severity"), [(0.5, "warning"), (0.9, "note"), (-0.4, "note"), (0.0, None)])
def test_a_logit_that_is_compared_with_a_half_is_a_warning(threshold: float, severity: str | None) -> None:
    random = np.random.default_rng(1)
    labels, z = random.integers(0, 2, 400), random.normal(0, 2, 400)
    found = found_by(
        "EVL004", of_rows(labels.tolist(), binary_scores(1 / (1 + np.exp(-z))), (z > threshold).astype(int))
    )
    assert (None if found is None else found.severity) == severity


@given(st.integers(0, 10_000), st.integers(2, 5), st.floats(0.05, 0.95))
def test_a_threshold_on_one_of_several_classes_is_a_note(seed: int, n_classes: int, threshold: float) -> None:
    random = np.random.default_rng(seed)
    labels, values = random.integers(0, n_classes, 60), random.dirichlet(np.ones(n_classes), 60)
    member = int(random.integers(n_classes))
    predicted = decide_labels(values, member, threshold)
    found = found_by("EVL004", of_rows(labels.tolist(), values, predicted))
    named = ("note", "warning") if n_classes == 2 else ("note",)  # By chance that of a logit of 0.5.
    assert found is None or found.severity in named or len(np.unique(predicted == member)) == 1
    shuffled = found_by("EVL004", of_rows(labels.tolist(), values, random.permutation(values.argmax(axis=1))))
    assert shuffled is not None
    assert shuffled.severity is None


@pytest.mark.parametrize(
    ("counts", "severity"),
    [
        ([[50, 50], [50, 50]], None),
        ([[100, 400], [400, 100]], "error"),
        ([[800, 150], [5, 45]], "note"),  # accuracy traded for recall
    ],
)
def test_accuracy_must_exceed_the_majority(counts: list[list[int]], severity: str | None) -> None:
    found = found_by("EVL005", of_confusion(counts))
    assert found is not None
    assert found.severity == severity


@pytest.mark.parametrize(("baseline", "severity"), [(0.95, None), (0.905, "note")])
def test_accuracy_must_exceed_the_text_baseline(baseline: float, severity: str | None) -> None:
    found = found_by("EVL006", of_confusion([[450, 50], [50, 450]], text_baseline_accuracy=baseline))
    assert found is not None
    assert found.severity == severity
    assert found_by("EVL006", of_confusion([[450, 50], [50, 450]], text_baseline_accuracy=0.8)) is None


@pytest.mark.parametrize(
    ("counts", "swapped"),
    [
        ([[10, 90], [90, 10]], True),
        ([[90, 10], [10, 90]], False),
        ([[0, 80, 20], [20, 0, 80], [80, 20, 0]], True),
        ([[2, 8], [8, 2]], False),  # too few rows
        ([[50, 50], [52, 48]], False),
        ([[0, 500], [0, 500]], False),
    ],
)
def test_swapped_labels_are_reported(counts: list[list[int]], swapped: bool) -> None:
    assert (found_by("EVL007", of_confusion(counts)) is not None) == swapped


def test_two_of_twenty_swapped_classes_are_reported_and_chance_is_not() -> None:
    counts = np.diag([100] * 20)
    counts[[3, 4]] = counts[[4, 3]]
    found = found_by("EVL007", of_confusion(counts.tolist()))
    assert found is not None
    assert "3 read as 4, 4 read as 3" in found.observed
    chance = np.random.default_rng(0).multinomial(1000, np.full(400, 1 / 400)).reshape(20, 20)
    assert found_by("EVL007", of_confusion(chance.tolist())) is None


@given(st.permutations(range(5)))
def test_any_permutation_is_undone(order: list[int]) -> None:
    counts = np.zeros((5, 5), dtype=int)
    counts[order, np.arange(5)] = 10
    assert best_relabelling(counts).tolist() == order


@pytest.mark.parametrize(
    ("ids", "expected_n", "found"),
    [(["a", "b"], 2, False), (["a", "a"], 2, True), (["a", "b"], 3, True), (None, 2, False)],
)
def test_missing_and_repeated_rows_are_reported(ids: list[str] | None, expected_n: int, found: bool) -> None:
    evaluation = EvaluationEvidence({"test": ReportedSplit(2, ids=ids, expected_n=expected_n)}, 2)
    assert (found_by("EVL008", evaluation) is not None) == found


@pytest.mark.parametrize(
    ("accuracy", "n", "found"),
    [
        (0.9, 100, False),
        (0.9047619047619048, 21, False),
        (0.9300000071525574, 25_000, False),  # float32
        (0.333, 150, False),  # rounded
        (0.905, 100, True),
        (93.0, 100, True),
        (float("nan"), 100, True),
    ],
)
def test_accuracy_must_be_a_fraction_of_the_rows(accuracy: float, n: int, found: bool) -> None:
    evaluation = EvaluationEvidence({"test": ReportedSplit(n, accuracy=accuracy)}, 2)
    assert (found_by("EVL009", evaluation) is not None) == found


def test_report_and_confusion_must_agree_even_when_rounded() -> None:
    random = np.random.default_rng(2)
    labels, predicted = random.integers(0, 3, 300), random.integers(0, 3, 300)
    counts = np.bincount(labels * 3 + predicted, minlength=9).reshape(3, 3)
    report = classification_report(labels, predicted, output_dict=True)
    rounded = {
        key: {name: round(value, 3) for name, value in entry.items()} if isinstance(entry, dict) else round(entry, 3)
        for key, entry in report.items()
    }
    assert found_by("EVL010", of_confusion(counts.tolist(), report=report)) is None
    assert found_by("EVL010", of_confusion(counts.tolist(), report=rounded)) is None
    assert found_by("EVL010", of_confusion(counts.T.tolist(), report=report)) is not None
    assert found_by("EVL010", of_confusion(counts.tolist(), accuracy=0.99)) is not None


def test_predictions_must_agree_with_the_metrics() -> None:
    labels, predicted = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    for confusion, found in (([[1, 1], [0, 2]], False), ([[2, 0], [0, 2]], True)):
        claims = ReportedSplit(4, confusion=np.array(confusion), labels=labels, predicted=predicted)
        assert (found_by("EVL011", EvaluationEvidence({"test": claims}, 2)) is not None) == found
    claims = ReportedSplit(4, accuracy=0.5, labels=labels, predicted=predicted)
    assert found_by("EVL011", EvaluationEvidence({"test": claims}, 2)) is not None


@pytest.mark.parametrize(("mode", "found"), [(True, True), (False, False)])
def test_evaluation_in_training_mode_is_reported(mode: bool, found: bool) -> None:
    steps = StepEvidence(np.array([1]), np.array([0.5]), evaluated_in_training_mode=mode)
    assert (claims_rules.evaluated_in_training_mode(steps) is not None) == found


@pytest.mark.parametrize(("support", "found"), [(50, True), (10, False)])
def test_a_class_never_predicted_is_reported(support: int, found: bool) -> None:
    counts = [[90, 10, 0], [10, 90, 0], [support // 2, support // 2, 0]]
    assert (found_by("EVL013", of_confusion(counts)) is not None) == found


@pytest.mark.parametrize("spoil", ["nan", "negative", "sum", "constant"])
def test_invalid_probabilities_are_reported(spoil: str) -> None:
    scores = binary_scores(np.linspace(0.1, 0.9, 40))
    assert found_by("EVL014", of_rows([0, 1] * 20, scores)) is None
    broken = {"nan": scores * [[np.nan, 1]], "negative": scores - [[0.5, -0.5]], "sum": scores * 3}
    spoiled = broken.get(spoil, np.full((40, 2), 0.5))
    assert found_by("EVL014", of_rows([0, 1] * 20, spoiled, np.zeros(40, dtype=int))) is not None


def test_splits_far_apart_are_a_note() -> None:
    def at(share: float) -> ReportedSplit:
        return ReportedSplit(1000, accuracy=share)

    assert found_by("EVL015", EvaluationEvidence({"validation": at(0.95), "test": at(0.8)}, 2)) is not None
    assert found_by("EVL015", EvaluationEvidence({"validation": at(0.92), "test": at(0.9)}, 2)) is None


@pytest.mark.parametrize(
    ("test", "rows", "severity"),
    [
        (0.11, 0, "warning"),
        (0.11, 160, "warning"),
        (0.7, 0, None),
        (0.7, 160, "note"),
        (0.85, 0, None),
        (0.11, 20, None),
    ],
)
def test_splits_far_apart_are_found_without_their_numbers_of_rows(test: float, rows: int, severity: str | None) -> None:
    splits = {"validation": ReportedSplit(rows, accuracy=0.87), "test": ReportedSplit(rows, accuracy=test)}
    assert severities(EvaluationEvidence(splits, 2)).get("EVL015") == severity


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.code != "EVL012"], ids=lambda rule: rule.code)
@pytest.mark.parametrize(
    "claims",
    [
        ReportedSplit(0),
        ReportedSplit(0, confusion=np.zeros((2, 2))),
        ReportedSplit(2, labels=np.array(["a", None], dtype=object), predicted=np.array([0, 1])),
        ReportedSplit(2, labels=np.array([0, 7]), predicted=np.array([0, 1]), probabilities=np.array([["x", "y"]])),
        ReportedSplit(3, labels=np.array([0.5, 1, 0]), predicted=np.array([]), probabilities=np.zeros((0, 2))),
    ],
)
def test_odd_evidence_never_crashes(rule: Rule, claims: ReportedSplit) -> None:
    report = run_rules([EvaluationEvidence({"test": claims}, 2)], "evaluation", rules=[rule])
    assert len(report.checked) + len(report.not_applicable) == 1
    assert all(skipped.reason for skipped in report.not_applicable)
