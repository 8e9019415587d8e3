"""The confusion matrix for trackers, in the report's colours; built without pyplot and its global state."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Two colours of Okabe and Ito (2008), apart in hue and in lightness for every kind of colour vision; as in report.css.
RIGHT, WRONG = "#0072b2", "#d55e00"
TINTS = {RIGHT: (0.06, 0.34), WRONG: (0.05, 0.5)}
"""How strong a cell's colour is on white: at a share of 0, and how much more at a share of 1."""
INK = "#16191d"


def confusion_figure(
    confusion: Sequence[Sequence[int]] | np.ndarray, class_names: Sequence[str], title: str
) -> "Figure":
    """Counts and shares of each true class; `confusion` is (K, K), rows true, columns predicted, K up to about 20.

    The strength of the colour is the share of the row, so that a rare class is as plain to see as a common one.
    Raises ValueError for a matrix that does not fit the names.
    """
    counts = np.asarray(confusion, dtype=np.int64)
    k = len(class_names)
    if counts.shape != (k, k) or k == 0:
        raise ValueError(f"expected a confusion matrix of shape ({k}, {k}), observed {counts.shape}")
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    side = max(4.4, 0.62 * k + 2.4)
    figure = _figure(side + 0.4, side)
    axes = figure.add_subplot()
    axes.imshow(cell_colours(shares))
    _write_cells(axes, counts, shares)
    labels = [_shortened(name) for name in class_names]
    turned = k > 4 or max(map(len, labels)) > 12
    axes.set_xticks(range(k), labels, rotation=45 if turned else 0, ha="right" if turned else "center")
    axes.set_yticks(range(k), [f"{name}\nn = {total:,}" for name, total in zip(labels, totals[:, 0], strict=True)])
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(title, wrap=True, color=INK)
    _separate_cells(axes, k)
    return figure


def cell_colours(shares: np.ndarray) -> np.ndarray:
    """sRGB in 0 … 1, shape (K, K, 3): blue on the diagonal, orange off it, stronger with the share of the row."""
    from matplotlib.colors import to_rgb

    right = np.eye(len(shares), dtype=bool)[..., None]
    tinted = {}
    for colour, (least, more) in TINTS.items():
        part = (least + more * shares)[..., None]
        tinted[colour] = part * np.array(to_rgb(colour)) + (1 - part)
    return np.where(right, tinted[RIGHT], tinted[WRONG])


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # Inches: the default 0.04 lets turned labels cross the edge.
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12), dpi=120)


def _write_cells(axes: Any, counts: np.ndarray, shares: np.ndarray) -> None:
    k = len(counts)
    size = 13 if k <= 4 else 9 if k <= 10 else 7
    for row in range(k):
        for column in range(k):
            bare = k > 10 and counts[row, column] == 0
            text = "0" if bare else f"{counts[row, column]:,}\n{_percent(shares[row, column])}"
            axes.text(column, row, text, ha="center", va="center", color=INK, fontsize=size)


def _separate_cells(axes: Any, k: int) -> None:
    axes.set_xticks(np.arange(k + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(k + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=4 if k <= 10 else 2)
    axes.tick_params(which="both", length=0, colors=INK)
    axes.spines[:].set_visible(False)


def _percent(share: float) -> str:
    if 0 < share < 0.0005:
        return "<0.1%"
    if 0.9995 <= share < 1:
        return ">99.9%"
    return f"{100 * share:.1f}%" if 0 < share < 1 else f"{100 * share:.0f}%"


def _shortened(name: str, limit: int = 24) -> str:
    shown = name if len(name) <= limit else name[: limit - 1] + "…"
    return shown.replace("$", r"\$")  # Between two dollars Matplotlib would read TeX.
