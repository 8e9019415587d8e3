"""Figures for the report, built without pyplot and its global state; `figure.savefig(path)` writes one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Two colours of Okabe and Ito (2008), apart in hue and in lightness for every kind of colour vision.
_TRAIN_COLOUR = "#999999"
_VALIDATION_COLOUR = "#0072B2"
_BEST_COLOUR = "#D55E00"


def confusion_figure(
    confusion: Sequence[Sequence[int]] | np.ndarray, class_names: Sequence[str], title: str
) -> "Figure":
    """Counts and shares of each true class; `confusion` is (K, K), rows true, columns predicted, K up to about 20.

    The colour is the share of the row, so that a rare class is as plain to see as a common one.
    Raises ValueError for a matrix that does not fit the names.
    """
    counts = np.asarray(confusion, dtype=np.int64)
    k = len(class_names)
    if counts.shape != (k, k) or k == 0:
        raise ValueError(f"expected a confusion matrix of shape ({k}, {k}), found {counts.shape}")
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    side = max(4.4, 0.62 * k + 2.4)
    figure = _figure(side + 0.8, side)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    _write_cells(axes, counts, shares, image.to_rgba(shares)[..., :3])
    labels = [_shortened(name) for name in class_names]
    turned = k > 4 or max(map(len, labels)) > 12
    axes.set_xticks(range(k), labels, rotation=45 if turned else 0, ha="right" if turned else "center")
    axes.set_yticks(range(k), [f"{name}\nn = {total:,}" for name, total in zip(labels, totals[:, 0], strict=True)])
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(title, wrap=True)
    _separate_cells(axes, k)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, aspect=30, ticks=[0, 0.5, 1], label="share of the true class")
    bar.ax.set_yticklabels(["0%", "50%", "100%"])
    bar.ax.spines[:].set_visible(False)
    return figure


def curves_figure(
    train_steps: Sequence[int],
    train_loss: Sequence[float],
    val_steps: Sequence[int],
    val_loss: Sequence[float],
    val_accuracy: Sequence[float],
) -> "Figure":
    """Loss in nats and validation accuracy (0 … 1, drawn in percent) over optimizer steps.

    Raises ValueError where values and steps differ in number.
    """
    if len(train_steps) != len(train_loss) or not len(val_steps) == len(val_loss) == len(val_accuracy):
        raise ValueError("expected a training loss per training step, and a loss and an accuracy per validation step")
    figure = _figure(9.0, 3.8)
    left, right = figure.subplots(1, 2, sharex=True)
    left.plot(train_steps, train_loss, color=_TRAIN_COLOUR, linewidth=1.2, label="training batches")
    left.plot(val_steps, val_loss, color=_VALIDATION_COLOUR, marker="o", label="validation")
    left.set(title="Loss", xlabel="optimizer step", ylabel="mean negative log-likelihood (nats)")
    percent = [100 * value for value in val_accuracy]
    right.plot(val_steps, percent, color=_VALIDATION_COLOUR, marker="o", label="validation")
    right.set(title="Validation accuracy", xlabel="optimizer step", ylabel="accuracy (%)")
    if percent:
        _mark_best(right, val_steps, percent)
    for axes in (left, right):
        _tidy(axes, has_data=bool(len(train_steps) or len(val_steps)) if axes is left else bool(percent))
    if len(train_steps) or len(val_steps):
        left.set_ylim(bottom=0)
        left.legend(frameon=False)
    return figure


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # Inches: the default 0.04 lets turned labels cross the edge.
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12), dpi=120)


def _write_cells(axes: Any, counts: np.ndarray, shares: np.ndarray, colours: np.ndarray) -> None:
    k = len(counts)
    size = 13 if k <= 4 else 9 if k <= 10 else 7
    for row in range(k):
        for column in range(k):
            bare = k > 10 and counts[row, column] == 0
            text = "0" if bare else f"{counts[row, column]:,}\n{_percent(shares[row, column])}"
            colour = _text_colour(colours[row, column])
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)


def _text_colour(background: np.ndarray) -> str:
    """Black or white, whichever contrasts more by WCAG 2.2: at least 4.5:1 on any sRGB `background`, (3,) in 0 … 1."""
    linear = np.where(background <= 0.04045, background / 12.92, ((background + 0.055) / 1.055) ** 2.4)
    return "black" if linear @ (0.2126, 0.7152, 0.0722) > 0.179 else "white"


def _separate_cells(axes: Any, k: int) -> None:
    axes.set_xticks(np.arange(k + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(k + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#d0d0d0", linewidth=1)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


def _mark_best(axes: Any, steps: Sequence[int], percent: Sequence[float]) -> None:
    best = int(np.nanargmax(percent)) if not np.isnan(percent).all() else 0
    axes.plot(steps[best], percent[best], "o", color=_BEST_COLOUR, markersize=9, zorder=3)
    axes.annotate(
        f"best: {percent[best]:.2f}% at step {steps[best]:,}",
        (steps[best], percent[best]),
        xytext=(0.97, 0.05),
        textcoords="axes fraction",
        ha="right",
        color=_BEST_COLOUR,
    )


def _tidy(axes: Any, has_data: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.margins(y=0.15)
    if not has_data:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "nothing recorded", ha="center", transform=axes.transAxes, color="#666666")


def _percent(share: float) -> str:
    if 0 < share < 0.0005:
        return "<0.1%"
    if 0.9995 <= share < 1:
        return ">99.9%"
    return f"{100 * share:.1f}%" if 0 < share < 1 else f"{100 * share:.0f}%"


def _shortened(name: str, limit: int = 24) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"
