"""A state is the same after a round trip through JSON; it counts steps and remembers the best validation."""

import json
import math
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenor.measures.objective import Objective
from tenor.training.checkpoint import StepResult, TrainState, Validation, Window

numbers = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**53)
validations = st.builds(Validation, counts, numbers, st.dictionaries(st.text(), numbers, max_size=3))
states = st.builds(
    TrainState,
    counts,
    counts,
    counts,
    counts,
    counts,
    st.booleans(),
    st.lists(validations, max_size=3),
    st.none() | validations,
    st.builds(Window, numbers, numbers, numbers, counts, numbers, st.lists(counts), st.lists(counts)),
)


@given(states)
def test_a_state_survives_json_exactly(state: TrainState) -> None:
    assert TrainState.from_dict(json.loads(json.dumps(asdict(state)))) == state


def test_a_state_counts_batches_and_epochs() -> None:
    state = TrainState()
    seen = []
    for _ in range(7):
        state.add_step(StepResult(1.0, 8.0, 3.0, 100, 0.5, [5, 3], [4, 4]), batches_per_epoch=3)
        seen.append((state.step, state.epoch, state.position))
    assert seen == [(1, 0, 1), (2, 0, 2), (3, 1, 0), (4, 1, 1), (5, 1, 2), (6, 2, 0), (7, 2, 1)]
    assert state.tokens == state.window.tokens == 700


def _validation(accuracy: float, loss: float, macro_f1: float = 0.5) -> Validation:
    return Validation(1, 1.0, {"accuracy": accuracy, "macro_f1": macro_f1, "loss": loss})


def test_the_best_is_the_first_of_equals_and_ties_go_to_the_lower_loss() -> None:
    by_accuracy = Objective(("neg", "pos"), select_by="accuracy")
    state = TrainState()
    assert state.add_validation(_validation(0.8, 0.5), by_accuracy)
    assert not state.add_validation(_validation(0.8, 0.5), by_accuracy)
    assert state.add_validation(_validation(0.8, 0.4), by_accuracy)
    assert not state.add_validation(_validation(0.7, 0.1), by_accuracy)
    assert not state.add_validation(_validation(0.7, 0.1), by_accuracy)
    assert state.stale_validations == 2
    assert state.best == _validation(0.8, 0.4)
    assert state.add_validation(_validation(0.9, 9.0), by_accuracy)
    assert state.stale_validations == 0


def test_a_window_sums_its_steps_and_keeps_the_largest_norm() -> None:
    window = Window()
    window.add(StepResult(1.0, 8.0, 3.0, 100, 0.5, [5, 3], [4, 4]))
    window.add(StepResult(2.0, 4.0, 1.0, 50, 0.25, [0, 4], [1, 3]))
    assert window == Window(3.0, 12.0, 3.0, 150, 0.75, [5, 7], [5, 7])


@pytest.mark.parametrize("norm", [math.inf, math.nan])
def test_the_norm_of_a_step_that_the_loss_scaler_skipped_stays_out_of_the_records(norm: float) -> None:
    window = Window()
    window.add(StepResult(1.0, 8.0, norm, 100, 0.5, [5, 3], [4, 4]))
    assert window.grad_norm == 0.0
    window.add(StepResult(1.0, 8.0, 2.0, 100, 0.5, [5, 3], [4, 4]))
    json.dumps(asdict(window), allow_nan=False)
    assert window.grad_norm == 2.0
