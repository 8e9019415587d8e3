"""The output of a sweep in the terminal."""

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from tenor.config.sweep import SweepPlan
from tenor.console.trials import LiveTable, sweep_view, trial_line
from tenor.workflows.sweep.study import SweepTrial, best_of

RATE = "training.learning_rate"


def trial(number: int, status: str = "completed", value: float | None = 0.5, reason: str = "") -> SweepTrial:
    return SweepTrial("a", number, status, {RATE: 0.00123456}, value, f"search/{number}", reason, 61.0, 1, False)  # type: ignore[arg-type]


def shown(plan: SweepPlan, trials: list[SweepTrial], height: int = 10**6, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(sweep_view(plan, trials, best_of(plan, trials), height))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_the_best_is_marked_and_reasons_are_whole(planned: Callable[..., SweepPlan]) -> None:
    reason = "EVL001 All predictions are one class: validation: 250 of 250 predicted as [class] 1"
    text = shown(planned("phases.a.trials=9"), [trial(0), trial(1, value=0.75), trial(2, "refused", None, reason)])
    assert "3 of 9 trials, 3.0 min" in text
    (best,) = [line for line in text.splitlines() if "best" in line]
    assert "75.00%" in best
    assert "0.00123" in best
    assert reason in " ".join(text.split())


def test_the_newest_trials_fit_the_window(planned: Callable[..., SweepPlan]) -> None:
    text = shown(planned("phases.a.trials=100"), [trial(number) for number in range(100)], height=24)
    assert len(text.splitlines()) <= 24
    assert "99" in text
    assert "100 of 100 trials" in text


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_trial_is_printed_once(is_terminal: bool, planned: Callable[..., SweepPlan]) -> None:
    trials = [trial(0)]
    console = Console(file=io.StringIO(), width=100, force_terminal=is_terminal)
    with LiveTable(planned(), lambda: (trials, None), console) as table:
        trials.append(trial(1, "pruned", 0.25, "worse than the median at epoch 1"))
        table.refresh()
        table.refresh()
    message = console.file.getvalue()  # type: ignore[attr-defined]
    if is_terminal:
        assert "2 of 3 trials" in message
    else:
        assert message.splitlines() == [trial_line(trials[1], planned())]
        assert "a/1 pruned accuracy 25.00%" in message
        assert "(worse than the median at epoch 1)" in message
