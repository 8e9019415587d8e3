"""The sweep's charts show every completed trial at its value, and no absolute paths."""

import re
from dataclasses import replace
from itertools import pairwise

import pytest

from tenor.config.sweep import Dimension
from tenor.workflows.sweep.study import SweepTrial
from tenor.workflows.sweep.sweep_page import history_chart, importance_chart, parallel_chart

TRIAL = SweepTrial("a", 0, "completed", {}, 0.5, None, "", 1.0, 1, False)
SPACE = {
    "training.learning_rate": Dimension(low=1e-4, high=1e-1, log=True),
    "model.freeze": Dimension(choices=("none", "base")),
}


def trials(values: list[float]) -> list[SweepTrial]:
    settings = [(1e-4, "none"), (1e-3, "base"), (1e-1, "none"), (1e-2, "base")]
    return [
        replace(
            TRIAL,
            number=number,
            value=value,
            tried=dict(zip(SPACE, settings[number % len(settings)], strict=True)),
        )
        for number, value in enumerate(values)
    ]


@pytest.mark.parametrize("minimize", [False, True])
def test_the_best_so_far_never_gets_worse(minimize: bool) -> None:
    values = [0.5, 0.7, 0.6, 0.9]
    picture = str(history_chart(trials(values), minimize, "accuracy"))
    assert len(re.findall("<circle", picture)) == len(values)
    path = re.search(r'<path d="([^"]+)"', picture)
    assert path is not None
    heights = [float(point.split(",")[1]) for point in re.split("[ML]", path[1])[1:]]
    # The vertical axis points down: a higher value has a smaller y.
    assert heights == sorted(heights, reverse=not minimize)


def test_a_line_for_each_trial_and_the_best_one_last() -> None:
    found = trials([0.5, 0.7, 0.6])
    picture = str(parallel_chart(found, SPACE, "accuracy", found[1]))
    kinds = re.findall(r'class="curve (\w+)"', picture)
    assert kinds == ["quiet", "quiet", "main"]
    assert picture.index("trial 1:") > picture.index("trial 2:")


def test_numbers_are_placed_by_order_of_magnitude_where_the_space_is_logarithmic() -> None:
    found = trials([0.5, 0.6, 0.7, 0.8])
    picture = str(parallel_chart(found, SPACE, "accuracy", found[3]))
    places = [
        [tuple(map(float, point.split(","))) for point in re.split("[ML]", path)[1:]]
        for path in re.findall(r'd="(M[^"]+)"', picture)
    ]
    rates = sorted(points[1][1] for points in places)
    steps = [after - before for before, after in pairwise(rates)]
    assert steps == pytest.approx([steps[0]] * 3, abs=0.2), "1e-4, 1e-3, 1e-2, 1e-1 are evenly spaced"


def test_the_most_important_setting_comes_first() -> None:
    picture = str(importance_chart({"training.warmup": 0.1, "training.learning_rate": 0.9}))
    assert picture.index("learning_rate") < picture.index("warmup")
    assert "90%" in picture
