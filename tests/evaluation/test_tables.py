"""Tables fit 80 columns, contain no control sequences outside a terminal, and print names unchanged."""

import numpy as np
import pytest
from rich.console import Console, RenderableType

from tenor.console.numbers import ResultRow, confusion_table, per_class_table, results_table
from tenor.measures.intervals import wilson_interval
from tenor.measures.metrics import measure


def printed(renderable: RenderableType) -> str:
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def row(name: str, split: str, correct: int, n: int, note: str = "", loss: float | None = 0.2034) -> ResultRow:
    return ResultRow(name, split, n, correct / n, wilson_interval(correct, n), correct / n, loss, note)


def test_results_stand_side_by_side_under_their_split() -> None:
    rows = [
        row("model", "test", 23152, 25000),
        row("text baseline", "test", 22797, 25000, note="trained on [2,000] rows"),
        row("majority class", "test", 12500, 25000, loss=None),
        row("model", "validation", 2306, 2500),
    ]
    text = printed(results_table(rows))
    lines = text.splitlines()
    assert [word in text for word in ("test, n = 25,000", "validation, n = 2,500", "95% CI")] == [True] * 3
    model = next(line for line in lines if "model" in line and "%" in line and "split" not in line)
    assert model.split() == ["model", "92.61%", "92.28–92.93", "0.9261", "0.2034"]
    assert any("text baseline [1]" in line and "91.19%" in line for line in lines)
    assert "[1] trained on [2,000] rows" in text
    assert "None" not in text


@pytest.mark.parametrize("k", [2, 3, 6, 20])
def test_every_table_fits_80_columns_and_is_plain(k: int) -> None:
    rng = np.random.default_rng(k)
    names = [f"[bold]class[/bold] with a long name {j}" for j in range(k)]
    metrics = measure(rng.integers(0, k, 30_000), rng.dirichlet(np.ones(k), 30_000), names)
    tables = [
        results_table([row(names[0] * 3, "a split with a long name", 1, 10**6, note="long " * 40)]),
        confusion_table(metrics.confusion, names),
        per_class_table(metrics),
    ]
    for table in tables:
        text = printed(table)
        assert "\x1b" not in text
        assert "[bold]" in text
        assert max(map(len, text.splitlines())) <= 80


def test_confusion_table_shows_every_count_where_it_fits() -> None:
    text = printed(confusion_table([[1298, 2], [1202, 31]], ["neg", "pos"]))
    rows = [line.split() for line in text.splitlines() if line.strip()[:1].isdigit()]
    assert rows == [["0", "neg", "1,298", "2"], ["1", "pos", "1,202", "31"]]


def test_a_wide_confusion_table_names_the_commonest_mistake() -> None:
    confusion = np.diag(np.full(20, 10_000))
    confusion[3, 7], confusion[3, 8] = 1234, 5
    text = printed(confusion_table(confusion, [f"topic{j}" for j in range(20)]))
    line = next(line for line in text.splitlines() if line.split()[:2] == ["3", "topic3"])
    assert line.split() == ["3", "topic3", "11,239", "10,000", "7", "topic7", "1,234"]


def test_per_class_table_holds_the_means() -> None:
    metrics = measure(np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]]), ["neg", "pos"])
    lines = [line.split() for line in printed(per_class_table(metrics)).splitlines()]
    assert ["0", "neg", "1.0000", "0.5000", "0.6667", "2"] in lines
    assert ["macro", "mean", "0.7500", "0.7500", "0.6667", "3"] in lines


def test_refuses_a_matrix_that_does_not_fit_the_names() -> None:
    with pytest.raises(ValueError, match="3 classes"):
        confusion_table([[1, 0], [0, 1]], ["a", "b", "c"])
