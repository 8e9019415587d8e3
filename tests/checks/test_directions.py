"""Directions: a metric's name says whether more of it is better, or nothing is said."""

import pytest

from tenor.checks.rules.ckp import larger_is_better

LARGER = """
    accuracy eval_accuracy acc val_acc val/acc valid-accuracy top_5_accuracy balanced_accuracy f1 eval_f1
    macro_f1 f1_macro f1_weighted f1_negative f1_class_0 eval_f1-score recall_pos matthews_correlation mcc
    roc_auc auroc average_precision cohen_kappa log_likelihood r2 eval_exact_match true_positive_rate
    specificity accuracy_score
"""
SMALLER = """
    loss eval_loss val_loss Validation~Loss valid/loss test_loss focal_loss brier eval_brier brier_score ece
    expected_calibration_error mae eval_mse rmse error error_rate eval_perplexity ppl log_loss hamming
    hamming_loss mean_absolute_error nll negative_log_likelihood cross_entropy false_positive_rate loss_macro
    wer
"""
UNKNOWN = """
    my_metric score eval_cost neg_log_loss neg_mean_squared_error accuracy_drop loss_gain brier_skill_score
    error_free_accuracy 1_minus_accuracy hamming_score entropy positive_rate eval_runtime accuracy_std
    sst2_accuracy eval_samples_per_second
"""


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        *((n, True) for n in LARGER.split()),
        *((n, False) for n in SMALLER.split()),
        *((n, None) for n in UNKNOWN.split()),
    ],
)
def test_a_name_says_the_direction_or_nothing(name: str, direction: bool | None) -> None:
    assert larger_is_better(name.replace("~", " ")) is direction


def test_no_name_says_nothing() -> None:
    assert larger_is_better("") is None
