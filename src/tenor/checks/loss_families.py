"""The factor before a loss of any usual kind: plain, class-weighted, focal or label-smoothed cross-entropy.

With `p` the softmax of the logits and `y` the label, the gradient at the logits of one row is

- `r h(p_y) (p - one-hot(y))` for cross-entropy (h = 1), class weights (r depends on y) and focal loss (Lin et al. 2017:
  h falls with p_y),
- `s p - t` for targets that are no one-hot vectors: label smoothing, with class weights too; s and t depend on y.

The simplest of these that fits the rows of several forward passes gives the factor, so the name of the loss does not
matter. Where two that fit give different factors, for example while all predictions are alike, none is given.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from tenor.checks.loss_gradients import UNSURE, ForwardPass

EXACT, ROUNDED = 1e-4, 6e-3
"""Relative errors of gradients in float32, and in 16 bits."""

LINEAR = 2e-5
"""Largest relative distance from a straight line, in float32: a curved loss is farther over the range `WIDE`."""

WIDE = 0.02
"""Standard deviation of the probabilities from which a straight line is told from a curve."""

UNSURE_EXACT = 0.005
"""The same as `UNSURE` for gradients in float32."""

STEP = 0.25
GAMMAS = np.arange(STEP, 5.01, STEP)
"""Exponents of focal loss that are tried first; 2 is usual."""

SAME_FACTOR = 1.2
"""Ratio of two factors that are too different to choose between them."""

ROWS_READ, CLASSES_READ, PASSES_READ = 24, 10, 16
"""Largest number of rows of a pass, of classes and of passes for which soft targets are determined."""

CONVENTION = 0.02
"""Relative difference within which weights count as scaled in a usual way, and factors of passes as equal."""


@dataclass(frozen=True)
class LossReading:
    """What the gradients of some forward passes show."""

    factors: np.ndarray
    """Of each pass: 1 for a mean, the number of rows for a sum; NaN where it cannot be determined; shape (passes,)."""
    rewarded: int | None = None
    """A class that is the likeliest target for the rows of several classes; -1: no such class; None: not known."""


@dataclass(frozen=True)
class _Rows:
    """The rows of all passes whose gradient is long enough to be read; arrays of shape (rows,), or (rows, K)."""

    p: np.ndarray
    gradient: np.ndarray
    label: np.ndarray
    number: np.ndarray
    """The pass that a row belongs to."""
    sizes: np.ndarray
    """Rows of each pass, shape (passes,)."""
    counts: np.ndarray
    """Rows of each pass and label, those with a short gradient too, shape (passes, K)."""
    tolerance: float

    @property
    def p_label(self) -> np.ndarray:
        return self.p[np.arange(len(self.p)), self.label]

    def ratios(self) -> np.ndarray | None:
        """Length of the gradient over that of `p - one-hot(label)`; None where their directions differ."""
        ideal = self.p - np.eye(self.p.shape[1])[self.label]
        length, along = np.linalg.norm(ideal, axis=1), (self.gradient * ideal).sum(axis=1)
        off = np.linalg.norm(self.gradient - (along / length**2)[:, None] * ideal, axis=1)
        if (along <= 0).any() or np.sqrt(np.mean((off / np.linalg.norm(self.gradient, axis=1)) ** 2)) > self.tolerance:
            return None
        return along / length**2


def read_losses(passes: Sequence[ForwardPass], parts: int = 1) -> LossReading:
    """The factor of each pass; `parts` is the number of passes in one optimizer step."""
    unknown = np.full(len(passes), np.nan)
    rows = _readable(passes)
    if rows is None:
        return LossReading(unknown)
    ratios = rows.ratios()
    if ratios is None:
        return _soft_targets(rows, unknown)
    for by_label in (False, True):
        family = _Focal(rows, ratios, by_label)
        if by_label and family.cells > len(ratios) / 2:
            break  # Fewer than two rows for each number that is fitted.
        for gamma in (0.0, family.best()):
            if family.fits(gamma):
                # While all predictions are alike, other exponents fit too: they must give the same factor.
                near = [other for other in (gamma - STEP, gamma + STEP) if other >= 0 and family.fits(other)]
                others = [other for other in GAMMAS if family.fits(other)] if near else []
                found = np.array([family.factors(one, parts) for one in {gamma, *near, *others}])
                different = found.max(axis=0) / found.min(axis=0) > SAME_FACTOR
                return LossReading(np.where(different, np.nan, family.factors(gamma, parts)), -1)
    return _soft_targets(rows, unknown)


def _readable(passes: Sequence[ForwardPass]) -> _Rows | None:
    """The rows with a finite gradient that is not short."""
    k = passes[0].logits.shape[1] if passes else 0
    is_exact = all(item.gradient.dtype in (torch.float32, torch.float64) for item in passes)
    kept = []
    for number, item in enumerate(passes):
        logits, gradient = item.logits.detach().cpu().double(), item.gradient.cpu().double()
        # A model may have several heads.
        if logits.shape[1] == k and bool(torch.isfinite(gradient).all()) and bool(torch.isfinite(logits).all()):
            label = item.classes.cpu()
            kept.append((logits.softmax(dim=1).numpy(), gradient.numpy(), label.numpy(), np.full(len(label), number)))
    if not kept:
        return None
    columns = [np.concatenate(parts) for parts in zip(*kept, strict=True)]
    labelled = (columns[2] >= 0) & (columns[2] < k) & (np.linalg.norm(columns[1], axis=1) > 0)
    p, slope, classes, numbers = (column[labelled] for column in columns)
    counts = np.bincount(numbers * k + classes, minlength=len(passes) * k).reshape(-1, k)
    long = np.linalg.norm(p - np.eye(k)[classes], axis=1) > (UNSURE_EXACT if is_exact else UNSURE)
    if not long.any():
        return None
    sizes = np.array([len(item.logits) for item in passes])
    return _Rows(p[long], slope[long], classes[long], numbers[long], sizes, counts, EXACT if is_exact else ROUNDED)


class _Focal:
    """Cross-entropy (γ = 0) and focal losses, with a weight for each pass, or for each label in each pass."""

    def __init__(self, rows: _Rows, ratios: np.ndarray, by_label: bool) -> None:
        self.rows, self.ratios, self.by_label = rows, ratios, by_label
        k = rows.p.shape[1]
        _, self._cell = np.unique(rows.number * k + (rows.label if by_label else 0), return_inverse=True)
        self._rows_in_cell = np.bincount(self._cell)
        self.cells = len(self._rows_in_cell)

    def error(self, gamma: float) -> float:
        """Root mean square of the logarithms of the rows' factors around the mean of their cell."""
        factor = np.log(self.ratios / focal_factor(self.rows.p_label, gamma))
        means = np.bincount(self._cell, factor) / self._rows_in_cell
        return float(np.sqrt(np.mean((factor - means[self._cell]) ** 2)))

    def fits(self, gamma: float) -> bool:
        return self.error(gamma) <= self.rows.tolerance

    def best(self) -> float:
        """The exponent above 0 with the smallest error, to four digits."""
        best, step = float(GAMMAS[np.argmin([self.error(gamma) for gamma in GAMMAS])]), STEP
        while step > 1e-4:
            step /= 2
            best = min((max(best - step, 1e-3), best, best + step), key=self.error)
        return best

    def factors(self, gamma: float, parts: int) -> np.ndarray:
        """The factor of each pass, shape (passes,)."""
        k, factor = self.rows.p.shape[1], self.ratios / focal_factor(self.rows.p_label, gamma)
        if not self.by_label:
            read = np.bincount(self.rows.number, minlength=len(self.rows.sizes))
            mean = np.bincount(self.rows.number, factor, len(self.rows.sizes)) / np.maximum(1, read)
            return np.where(read > 0, mean * self.rows.sizes, np.nan)
        cell = self.rows.number * k + self.rows.label
        read = np.bincount(cell, minlength=self.rows.counts.size).reshape(-1, k)
        mean = np.bincount(cell, factor, self.rows.counts.size).reshape(-1, k) / np.maximum(1, read)
        return _factors_of_weighted(np.where(read > 0, mean, np.nan), self.rows, parts)


def focal_factor(p: np.ndarray, gamma: float) -> np.ndarray:
    """The factor h of a focal loss: (1-p)^γ - γ p (1-p)^(γ-1) ln p."""
    if gamma == 0:
        return np.ones_like(p)
    q, p = np.clip(1 - p, 1e-12, 1), np.clip(p, 1e-12, 1)
    return q**gamma - gamma * p * q ** (gamma - 1) * np.log(p)


def _factors_of_weighted(of_label: np.ndarray, rows: _Rows, parts: int) -> np.ndarray:
    """The factor of each pass from those of the rows of each label, shape (passes, K).

    PyTorch's mean divides by the sum of the rows' weights, so the factors of a pass add up to the same for any labels.
    A mean over the rows leaves the weights as they are.
    """
    is_complete = ((rows.counts == 0) | np.isfinite(of_label)).all(axis=1)
    summed = np.where(is_complete, np.nansum(of_label * rows.counts, axis=1), np.nan)
    weights = of_label * rows.sizes[:, None]
    tolerance = 10 * rows.tolerance
    changes = max(_deviation(column) for column in weights.T) > tolerance
    if _deviation(summed) <= tolerance and changes:
        return np.full(len(summed), np.nanmedian(summed)) if len(set(rows.sizes.tolist())) == 1 else summed
    if changes:
        return np.full(len(summed), np.nan)
    fixed = np.array([np.median(column[np.isfinite(column)]) for column in weights.T if np.isfinite(column).any()])
    # Weights on any other scale cannot be told from a division that is missing or made twice.
    divided, undivided = _is_usual(fixed * parts), _is_usual(fixed)
    if divided == undivided and parts > 1:
        return np.full(len(summed), np.nan)
    return np.full(len(summed), 1 / parts if divided else 1.0)


def _deviation(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.std() / values.mean()) if len(values) else 0.0


def _is_usual(weights: np.ndarray) -> bool:
    """Whether class weights are scaled as people scale them: the smallest, the largest, their sum or mean is 1, or that
    of their inverses (scikit-learn's `balanced`)."""
    inverse = float(np.sum(1 / weights))
    of_one = (weights.min(), weights.max(), weights.sum(), weights.mean(), inverse, inverse / len(weights))
    return bool(np.isfinite(weights).all()) and any(abs(value - 1) <= CONVENTION for value in of_one)


def _soft_targets(rows: _Rows, unknown: np.ndarray) -> LossReading:
    """The factors and targets of a cross-entropy whose targets are the same for all rows of a class."""
    if rows.p.shape[1] > CLASSES_READ or rows.tolerance > EXACT or len(rows.sizes) > PASSES_READ:
        return LossReading(unknown)
    factors, rewarded = unknown.copy(), []
    for number in range(len(rows.sizes)):
        own = np.flatnonzero(rows.number == number)[:ROWS_READ]
        targets = list(_targets(rows.p[own], rows.gradient[own]))
        if not targets or sum(len(which) for which, _, _ in targets) < 0.9 * len(own):
            continue
        factors[number] = _factor_of_targets(targets, int(rows.sizes[number]))
        if len(targets) > 1:
            rewarded.append(_rewarded_twice([t / t.sum() for _, _, t in targets]))
    if len(set(rows.sizes.tolist())) == 1 and _deviation(factors) <= CONVENTION:
        factors[:] = np.median(factors[np.isfinite(factors)]) if np.isfinite(factors).any() else np.nan
    sure = len(rewarded) >= MIN_PASSES and len(set(rewarded)) == 1
    return LossReading(factors, rewarded[0] if sure else None)


MIN_PASSES = 3
"""Passes that must agree on a class that is rewarded for several."""

Targets = tuple[np.ndarray, float, np.ndarray]
"""Positions of the rows of one class, s, and t of shape (K,)."""


def _targets(p: np.ndarray, gradient: np.ndarray) -> Iterator[Targets]:
    """The groups of rows whose gradient is `s p - t` with the same s and t, the largest first."""
    left = np.arange(len(p))
    smallest = 4 if p.shape[1] == 2 else 3  # Any two rows of two classes are on a line.
    scale = float(np.abs(gradient).max())
    while len(left) >= smallest:
        group = left[_largest_line(p[left], gradient[left], LINEAR * scale)]
        if len(group) < smallest or p[group].std(axis=0).max() < WIDE:
            return
        s, t = _line(p[group], gradient[group])
        yield group, s, t
        left = np.setdiff1d(left, group)


def _largest_line(p: np.ndarray, gradient: np.ndarray, tolerance: float) -> np.ndarray:
    """The positions of most rows that are on a line through two of them with s above 0 and no negative target."""
    one, other = np.triu_indices(len(p), k=1)
    dp, dg = p[one] - p[other], gradient[one] - gradient[other]
    s = (dp * dg).sum(axis=1) / np.maximum((dp * dp).sum(axis=1), 1e-30)
    t = s[:, None] * p[one] - gradient[one]
    away = np.abs(gradient[None] - s[:, None, None] * p[None] + t[:, None]).max(axis=2)
    near = (away <= tolerance) & ((s > 0) & (t.min(axis=1) >= -tolerance))[:, None]
    return np.flatnonzero(near[near.sum(axis=1).argmax()])


def _line(p: np.ndarray, gradient: np.ndarray) -> tuple[float, np.ndarray]:
    """Least squares for s and t."""
    dp, dg = p - p.mean(axis=0), gradient - gradient.mean(axis=0)
    s = float((dp * dg).sum() / max((dp * dp).sum(), 1e-30))
    return s, (s * p - gradient).mean(axis=0)


def _rewarded_twice(targets: Sequence[np.ndarray]) -> int:
    """A class that is the likeliest target of two groups with different targets; -1 if there is none."""
    for one, other in combinations(targets, 2):
        if one.argmax() == other.argmax() and np.abs(one - other).max() > WIDE:
            return int(one.argmax())
    return -1


def _factor_of_targets(targets: Sequence[Targets], size: int) -> float:
    """The factor of label smoothing ε; with class weights w, s = (1-ε) w_y + ε mean(w), divided by the sum of the rows'
    weights. NaN where neither explains the targets."""
    read = sum(len(which) for which, _, _ in targets)
    scales = np.array([s for _, s, _ in targets])
    if scales.std() <= EXACT * scales.mean():
        return float(scales.mean()) * size
    k = len(targets[0][2])
    # Group y is the one with the largest share of class y among its targets.
    shares = np.array([t / s for _, s, t in targets])
    order = shares.argmax(axis=0)
    if len(targets) != k or len(set(order.tolist())) != k:
        return float("nan")
    t = np.array([targets[group][2] for group in order])
    others = np.array([np.median(np.delete(t[:, y], y)) for y in range(k)])
    ratio = others / t.diagonal()
    if _deviation(ratio) > 0.05:
        return float("nan")
    smoothing = float(ratio.mean() / (1 / k + ratio.mean() * (1 - 1 / k)))
    weight = sum(len(targets[group][0]) * (t[y, y] - others[y]) for y, group in enumerate(order))
    return float(weight / (1 - smoothing)) * size / read if smoothing < 1 else float("nan")
