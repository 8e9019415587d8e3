"""Figures show every number in distinguishable colours, and change no global state."""

import io
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from tenor.evaluation.confusion_picture import INK, RIGHT, TINTS, WRONG, cell_colours, confusion_figure
from tenor.evaluation.report.page import source


def luminance(rgb: np.ndarray) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def drawn(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=40)
    return buffer.getvalue()


@pytest.mark.parametrize("k", [2, 5, 20])
def test_every_cell_shows_its_count_within_the_picture(k: int) -> None:
    confusion = np.arange(k * k).reshape(k, k) * 37
    names = [f"a class with a rather long name {j}" for j in range(k)]
    figure = confusion_figure(confusion, names, "Test")
    assert drawn(figure).startswith(b"\x89PNG")
    axes = figure.axes[0]
    assert [text.get_text().split("\n")[0] for text in axes.texts] == [f"{count:,}" for count in confusion.ravel()]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    box = figure.get_tightbbox()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= figure.get_figwidth()
    assert box.y1 <= figure.get_figheight()


def test_text_contrasts_with_every_colour_of_a_cell() -> None:
    for share in np.linspace(0, 1, 101):
        for background in cell_colours(np.full((2, 2), share)).reshape(-1, 3):
            light, dark = sorted((luminance(background), luminance(to_rgb(INK))), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.2, level AA


def test_trackers_and_report_show_the_same_colours() -> None:
    css = source("report.css")
    assert f"--main: {RIGHT};" in css
    assert f"--second: {WRONG};" in css
    for name, kind, colour in (("right", "main", RIGHT), ("wrong", "second", WRONG)):
        least, more = TINTS[colour]
        assert (
            f".matrix .{name} {{ background: rgb(var(--{kind}-rgb) / calc({least} + {more} * var(--share))); }}" in css
        )


def test_shares_are_of_the_row_and_an_empty_row_has_no_shares() -> None:
    figure = confusion_figure([[3, 1], [0, 0]], ["a", "b"], "Test")
    assert [text.get_text() for text in figure.axes[0].texts] == ["3\n75.0%", "1\n25.0%", "0\n0%", "0\n0%"]
    figure = confusion_figure([[99_999, 1], [0, 4]], ["a", "b"], "Test")
    assert [text.get_text() for text in figure.axes[0].texts][:2] == ["99,999\n>99.9%", "1\n<0.1%"]


def test_refuses_numbers_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        confusion_figure([[1, 2]], ["a", "b"], "Test")


def test_pyplot_is_never_imported() -> None:
    code = (
        "import sys; from tenor.evaluation.confusion_picture import confusion_figure\n"
        "assert 'matplotlib' not in sys.modules\n"
        "confusion_figure([[1, 0], [0, 1]], ['a', 'b'], 't')\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
