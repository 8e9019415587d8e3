"""Labels and predictions in different row orders: by any shift, in a known order, or in an unknown one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenor.checks.diagnosis import diagnose
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit
from tenor.checks.finding import CannotTell
from tenor.checks.rules.evl_order import (
    labels_and_predictions_shifted,
    right_in_another_order,
    rows_do_not_belong_together,
)
from tenor.checks.rules.row_orders import length_grouped, matches_by_shift
from tenor.runs.findings import Finding

GOOD = ("superb", "moving", "funny", "clever")
BAD = ("dull", "clumsy", "boring", "flat")
COMMON = ("film", "scene", "actor", "the", "a", "plot", "and", "of")


def rows(n: int = 400, k: int = 2, accuracy: float = 0.92, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and predictions that are mostly right."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, k, n)
    wrong = (labels + random.integers(1, k, n)) % k
    return labels, np.where(random.random(n) < accuracy, labels, wrong)


def sure(predicted: np.ndarray, k: int = 2, p: float = 0.95) -> np.ndarray:
    values = np.full((len(predicted), k), (1 - p) / (k - 1))
    values[np.arange(len(predicted)), predicted] = p
    return values


def texts_of(labels: np.ndarray, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    words = [
        [*random.choice(GOOD if label else BAD, 2), *random.choice(COMMON, random.integers(3, 40))] for label in labels
    ]
    return [" ".join(random.permutation(one)) for one in words]


def evidence(labels: np.ndarray, predicted: np.ndarray, k: int = 2, **more: Any) -> EvaluationEvidence:
    return EvaluationEvidence({"test": ReportedSplit(len(labels), labels=labels, predicted=predicted, **more)}, k)


@pytest.mark.parametrize("by", [-150, -8, 8, 32, 100])
@pytest.mark.parametrize("k", [2, 5])
def test_a_shift_by_any_number_of_rows_is_reported(by: int, k: int) -> None:
    labels, predicted = rows(600, k)
    found = labels_and_predictions_shifted(evidence(labels, np.roll(predicted, by), k))
    assert found is not None
    assert f"shifted by {abs(by)} rows" in found.expected
    assert found.fix.endswith(f"the predictions {'up' if by > 0 else 'down'} by {abs(by)} rows")


@pytest.mark.parametrize("seed", range(20))
def test_no_order_is_found_where_the_model_is_at_chance_or_right(seed: int) -> None:
    for accuracy in (0.5, 0.7, 0.95):
        labels, predicted = rows(300, 2, accuracy, seed)
        ids = [str(row) for row in range(300)]
        case = evidence(labels, predicted, texts=texts_of(labels, seed), ids=ids)
        assert labels_and_predictions_shifted(case) is None
        assert right_in_another_order(case) is None
        assert rows_do_not_belong_together(case) is None


def test_the_shares_of_all_shifts_are_those_of_a_loop() -> None:
    labels, predicted = rows(57, 3, 0.5)
    shifts, shares = matches_by_shift(labels, predicted, 28)
    for by, share in zip(shifts.tolist(), shares.tolist(), strict=True):
        one, other = (labels[: 57 - by], predicted[by:]) if by > 0 else (labels[-by:], predicted[:by])
        assert share == pytest.approx((one == other).mean())


def reordered(name: str, labels: np.ndarray, texts: list[str]) -> np.ndarray:
    n = len(labels)
    lengths = np.array([len(text) for text in texts])
    words = [len(text.split()) for text in texts]
    return {
        "in reverse": lambda: np.arange(n)[::-1],
        "sorted by number of characters": lambda: np.argsort(lengths, kind="stable"),
        "sorted by number of characters, the largest first": lambda: np.argsort(-lengths, kind="stable"),
        "sorted by text": lambda: np.array(sorted(range(n), key=lambda row: texts[row])),
        "sorted by id as text": lambda: np.array(sorted(range(n), key=str)),
        "sorted by class": lambda: np.argsort(labels, kind="stable"),
        "gathered from 4 processes with batches of 8": lambda: np.argsort(np.arange(n) // 8 % 4, kind="stable"),
        "gathered from 2 processes with batches of 1": lambda: np.r_[np.arange(0, n, 2), np.arange(1, n, 2)],
        "groups by length (number of words": lambda: length_grouped(words, 16),
    }[name]()


@pytest.mark.parametrize("of_labels", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "in reverse",
        "sorted by number of characters",
        "sorted by number of characters, the largest first",
        "sorted by text",
        "sorted by id as text",
        "sorted by class",
        "gathered from 4 processes with batches of 8",
        "gathered from 2 processes with batches of 1",
        "groups by length (number of words",
    ],
)
def test_a_known_order_is_named(name: str, of_labels: bool) -> None:
    labels, predicted = rows()
    texts = texts_of(labels)
    order = reordered(name, labels if not of_labels else predicted, texts)
    case = (labels[order], predicted) if of_labels else (labels, predicted[order])
    ids = [str(row) for row in range(len(labels))]
    found = right_in_another_order(evidence(*case, texts=texts, ids=ids))
    assert found is not None
    assert name in found.expected
    assert found.severity != "note"


def test_rows_sorted_by_class_as_given_pass() -> None:
    labels = np.repeat([0, 1], 200)
    assert right_in_another_order(evidence(labels, labels)) is None


@pytest.mark.parametrize("with_texts", [False, True])
@pytest.mark.parametrize("accuracy", [0.5, 0.56, 0.62])
def test_a_weak_model_on_rows_sorted_by_class_is_not_blamed_on_the_order(accuracy: float, with_texts: bool) -> None:
    """A short training gave 62% on 200 validation rows that a sorted source left sorted."""
    for seed in range(20):
        labels, predicted = rows(400, accuracy=accuracy, seed=seed)
        order = np.argsort(labels, kind="stable")
        labels, predicted = labels[order], predicted[order]
        texts = texts_of(labels, seed) if with_texts else None
        assert (
            right_in_another_order(evidence(labels, predicted, texts=texts, probabilities=sure(predicted, p=0.6)))
            is None
        )
        assert right_in_another_order(evidence(labels, predicted, texts=texts)) is None


def test_a_sure_model_shows_that_one_list_was_sorted() -> None:
    labels, predicted = rows()
    found = right_in_another_order(evidence(np.sort(labels), predicted, probabilities=sure(predicted)))
    assert found is not None
    assert "the labels sorted by class" in found.expected


def test_few_rows_are_not_judged() -> None:
    labels, predicted = rows(40)
    with pytest.raises(CannotTell):
        right_in_another_order(evidence(labels, predicted[::-1]))


# An unknown order.


def shuffled(**more: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels, predicted = rows(600, **more)
    return labels, predicted, np.random.default_rng(5).permutation(600)


def judged(case: EvaluationEvidence) -> tuple[str, Finding] | None:
    found = rows_do_not_belong_together(case)
    return None if found is None else (str(found.severity), found)


def test_a_sure_model_at_chance_is_a_warning() -> None:
    labels, predicted, order = shuffled()
    probabilities = sure(predicted)
    found = rows_do_not_belong_together(evidence(labels, predicted[order], probabilities=probabilities[order]))
    assert found is not None
    assert "mean probability of 0.95" in found.observed
    assert rows_do_not_belong_together(evidence(labels, predicted, probabilities=probabilities)) is None


def test_an_unsure_model_at_chance_is_not_blamed_on_the_order() -> None:
    labels, predicted = rows(600, accuracy=0.5)
    assert rows_do_not_belong_together(evidence(labels, predicted, probabilities=sure(predicted, p=0.55))) is None


def test_texts_show_which_list_is_in_another_order() -> None:
    labels, predicted, order = shuffled()
    texts, probabilities = texts_of(labels), sure(predicted)
    of_predictions = judged(evidence(labels, predicted[order], texts=texts, probabilities=probabilities[order]))
    assert of_predictions is not None
    assert of_predictions[0] == "error"
    assert "the predictions are in another order than the texts" in of_predictions[1].cause
    of_labels = judged(evidence(labels[order], predicted, texts=texts))
    assert of_labels is not None
    assert "the labels are in another order than the texts" in of_labels[1].cause


def test_a_model_that_ignores_the_texts_is_not_blamed_on_the_order() -> None:
    """Words predict the labels, but not the predictions, of which the model is not sure."""
    labels, predicted = rows(600, accuracy=0.5)
    case = evidence(labels, predicted, texts=texts_of(labels), probabilities=sure(predicted, p=0.55))
    assert rows_do_not_belong_together(case) is None


def test_a_saved_result_that_other_pairs_of_the_same_rows_give_is_an_error() -> None:
    labels, predicted, order = shuffled()
    counts = np.bincount(2 * labels + predicted, minlength=4).reshape(2, 2)
    by_matrix = judged(evidence(labels, predicted[order], confusion=counts))
    by_accuracy = judged(evidence(labels, predicted[order], accuracy=float((labels == predicted).mean())))
    assert by_matrix is not None
    assert by_accuracy is not None
    assert by_matrix[0] == by_accuracy[0] == "error"
    assert rows_do_not_belong_together(evidence(labels, predicted, confusion=counts)) is None
    assert rows_do_not_belong_together(evidence(labels, predicted, confusion=counts, accuracy=0.92)) is None


def test_without_any_of_these_the_order_is_the_first_suspect(tmp_path: Path) -> None:
    labels, predicted, order = shuffled(k=5)
    lines = ["label,prediction", *(f"{a},{b}" for a, b in zip(labels, predicted[order], strict=True))]
    (tmp_path / "any.csv").write_text("\n".join(lines))
    diagnosis = diagnose(tmp_path / "any.csv")
    assert [finding.code for finding in diagnosis.findings] == ["EVL005"]
    first = diagnosis.causes[0]
    assert (first.code, first.status) == ("EVL026", "suspected")
    assert not {"DAT001", "DAT002", "FRZ003", "OPT005"} & {cause.code for cause in diagnosis.causes}


def test_a_file_with_texts_names_the_order(tmp_path: Path) -> None:
    labels, predicted = rows()
    texts = texts_of(labels)
    order = np.argsort([len(text) for text in texts], kind="stable")
    table = zip(texts, labels, predicted[order], strict=True)
    (tmp_path / "any.csv").write_text("\n".join(["text,label,prediction", *(",".join(map(str, row)) for row in table)]))
    first = diagnose(tmp_path / "any.csv").causes[0]
    assert (first.code, first.status) == ("EVL025", "confirmed")
    assert "number of characters" in first.evidence


@pytest.mark.slow
def test_the_order_of_a_trainer_that_groups_by_length_is_reproduced(small_model: Path, tmp_path: Path) -> None:
    """As transformers itself evaluates, and as it returns the labels."""
    from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments

    random = np.random.default_rng(0)
    data = [
        {"input_ids": [1, *random.integers(5, 30, random.integers(1, 30)).tolist()], "labels": row % 2}
        for row in range(200)
    ]
    for item in data:
        item["attention_mask"] = [1] * len(item["input_ids"])  # type: ignore[arg-type]
    model = AutoModelForSequenceClassification.from_pretrained(small_model, num_labels=2)
    arguments = TrainingArguments(
        str(tmp_path), train_sampling_strategy="group_by_length", report_to=[], use_cpu=True, disable_tqdm=True
    )
    returned = Trainer(model, arguments, data_collator=_padded).predict(data)  # type: ignore[arg-type]
    order = length_grouped([len(item["input_ids"]) for item in data], 8)  # type: ignore[arg-type]
    assert np.asarray(returned.label_ids).tolist() == [data[row]["labels"] for row in order]
    assert order.tolist() != list(range(200))


def _padded(items: list[dict[str, Any]]) -> dict[str, Any]:
    import torch

    width = max(len(item["input_ids"]) for item in items)
    columns = {
        name: [item[name] + [0] * (width - len(item[name])) for item in items] for name in items[0] if name != "labels"
    }
    return {
        **{name: torch.tensor(one) for name, one in columns.items()},
        "labels": torch.tensor([item["labels"] for item in items]),
    }


def test_a_folder_with_a_better_result_names_the_order_before_the_contradiction(tmp_path: Path) -> None:
    labels, predicted, order = shuffled()
    rows_ = "\n".join(f"{a},{b}" for a, b in zip(labels, predicted[order], strict=True))
    (tmp_path / "predictions.csv").write_text(f"label,prediction\n{rows_}")
    (tmp_path / "metrics.json").write_text(f'{{"accuracy": {float((labels == predicted).mean())!r}, "n": 600}}')
    diagnosis = diagnose(tmp_path)
    assert {"EVL011", "EVL026"} <= {finding.code for finding in diagnosis.findings}
    assert [cause.code for cause in diagnosis.causes] == ["EVL026"]
    assert "EVL011" in diagnosis.causes[0].symptoms


def test_evidence_of_another_length_is_not_used() -> None:
    labels, predicted = rows()
    case = evidence(labels, predicted[::-1], texts=["one"], ids=["1"], lengths=np.arange(3))
    found = right_in_another_order(case)
    assert found is not None
    assert "in reverse" in found.expected
