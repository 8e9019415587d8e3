"""Integrated gradients (Sundararajan, Taly and Yan 2017) of a text classifier's score with respect to its tokens.

The path leads straight from the embeddings of an empty text, in which every token is the padding token, to those of the
text. Compared with a general library: no gradients of weights, no padding, the last layer for the first token only,
passes on several threads, and only as many nodes as a text needs.
"""

import threading
from collections.abc import Mapping
from contextlib import closing
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from tenor.model.speed import map_side_by_side

INTERVALS = 16
"""Between the nodes of the quadrature; twice as many where the gap is above `TOLERANCE` …"""
MOST_INTERVALS = 128
"""… up to this number."""
TOLERANCE = 0.02
"""Completeness gap that is small enough."""
SMALLEST = 0.01
"""Change of the score, in logits, below which a gap is not measured relative to it."""


@dataclass(frozen=True)
class Path:
    """The path of one row from its baseline, and the function that is integrated along it."""

    ids: torch.Tensor
    """int64, shape (1, length)."""
    others: Mapping[str, torch.Tensor]
    """Further inputs of the model, shape (1, length)."""
    start: torch.Tensor
    """Embeddings of the baseline, shape (length, width) …"""
    end: torch.Tensor
    """… and of the text."""
    weights: torch.Tensor
    """Of the logits in the score, shape (K,)."""


@dataclass(frozen=True)
class Attribution:
    """Attributions of a row's tokens, and how complete they are."""

    values: np.ndarray
    """float64, shape (length,)."""
    change: float
    """The score minus that of the baseline."""
    intervals: int
    """Of the quadrature."""

    @property
    def gap(self) -> float:
        return relative_gap(float(self.values.sum()), self.change)


def relative_gap(total: float, change: float) -> float:
    """The completeness gap: the difference of the sum of attributions from the change of the score, relative to it."""
    return abs(total - change) / max(abs(change), SMALLEST)


class GivenEmbeddings(nn.Module):
    """Replaces a model's token embeddings: returns what the calling thread set, whatever the ids."""

    def __init__(self) -> None:
        super().__init__()
        self.given = threading.local()

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.given.embeddings


@dataclass(frozen=True)
class EmbeddedModel:
    """A classifier as a function of its token embeddings. Calls of several threads do not affect one another."""

    model: Any
    """Shares the weights of the original, without gradients; its embeddings are `place`."""
    place: GivenEmbeddings
    embeddings: Any
    """The original module: ids → embeddings."""
    device: str

    @classmethod
    def of(cls, model: Any, embeddings: nn.Module, device: str) -> "EmbeddedModel":
        """`model` is in evaluation mode, on `device`, and is not changed."""
        place = GivenEmbeddings()
        return cls(_frozen_copy(model, embeddings, place), place, embeddings, device)

    def path(self, inputs: Mapping[str, np.ndarray], fixed: np.ndarray, pad_id: int, weights: np.ndarray) -> Path:
        """The path of one row; `fixed` tokens, bool of shape (length,), have the same embedding at its start."""
        tensors = {name: torch.from_numpy(array).to(self.device) for name, array in inputs.items()}
        ids = tensors.pop("input_ids")
        empty = torch.where(torch.from_numpy(fixed).to(self.device), ids[0], pad_id)
        with torch.no_grad():
            start, end = self.embeddings(torch.stack([empty, ids[0]])).float()
        score = torch.from_numpy(weights).to(self.device, torch.float32)
        return Path(ids, tensors, start, end, score)

    def scores(self, path: Path, embeddings: torch.Tensor) -> torch.Tensor:
        """Scores at points of the path, shape (points,), from embeddings (points, length, width)."""
        points = len(embeddings)
        self.place.given.embeddings = embeddings
        try:
            others = {name: tensor.expand(points, -1) for name, tensor in path.others.items()}
            return self.model(input_ids=path.ids.expand(points, -1), **others).logits.float() @ path.weights
        finally:
            del self.place.given.embeddings

    def gradients(self, path: Path, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """At positions 0 … 1 of the path, the score, float64, shape (points,), and its derivative along the path by
        token, shape (points, length)."""
        step = path.end - path.start
        positions = torch.from_numpy(at).to(self.device, torch.float32)
        with torch.enable_grad(), torch.autocast(self.device, enabled=False):
            embeddings = (path.start + positions[:, None, None] * step).requires_grad_(True)
            scores = self.scores(path, embeddings)
            (gradient,) = torch.autograd.grad(scores.sum(), embeddings)
            by_token = (gradient * step).sum(dim=-1)
            return scores.detach().double().cpu().numpy(), by_token.double().cpu().numpy()


def attribute(
    model: EmbeddedModel,
    path: Path,
    tokens_per_pass: int,
    side_by_side: int = 1,
    intervals: int = INTERVALS,
    most_intervals: int = MOST_INTERVALS,
) -> Attribution:
    """Attributions of the tokens of one row.

    The intervals are halved while the completeness gap is above `TOLERANCE` and there are fewer than `most_intervals`.
    Earlier nodes are among the later ones, so that nothing is computed twice.
    """
    at = positions(intervals)
    scores, derivatives = along(model, path, at, tokens_per_pass, side_by_side)
    while True:
        found = Attribution(quadrature_weights(intervals) @ derivatives, float(scores[-1] - scores[0]), intervals)
        if found.gap <= TOLERANCE or 2 * intervals > most_intervals:
            return found
        intervals *= 2
        between = positions(intervals)[1::2]
        more_scores, more_derivatives = along(model, path, between, tokens_per_pass, side_by_side)
        before = np.arange(1, intervals // 2 + 1)
        scores = np.insert(scores, before, more_scores)
        derivatives = np.insert(derivatives, before, more_derivatives, axis=0)


def along(
    model: EmbeddedModel, path: Path, at: np.ndarray, tokens_per_pass: int, side_by_side: int
) -> tuple[np.ndarray, np.ndarray]:
    """`EmbeddedModel.gradients` in passes of at most `tokens_per_pass` tokens, or of one point."""
    points = max(1, min(tokens_per_pass // path.ids.shape[1], -(-len(at) // side_by_side)))
    parts = [at[first : first + points] for first in range(0, len(at), points)]
    with closing(map_side_by_side(lambda part: model.gradients(path, part), parts, side_by_side)) as found:
        scores, derivatives = zip(*found, strict=True)
    return np.concatenate(scores), np.concatenate(derivatives)


def positions(intervals: int) -> np.ndarray:
    """The nodes of the Clenshaw-Curtis rule on 0 … 1, ascending, float64, shape (intervals + 1,)."""
    return (1 - np.cos(np.pi * np.arange(intervals + 1) / intervals)) / 2


def quadrature_weights(intervals: int) -> np.ndarray:
    """Their weights, shape (intervals + 1,), for an even number of intervals (Trefethen 2008).

    The gradient is an analytic function of the position, so the error falls exponentially with the nodes, as with
    Gauss-Legendre, whose nodes are different for every number of them.
    """
    half = np.arange(1, intervals // 2 + 1)
    shares = np.where(2 * half == intervals, 1.0, 2.0) / (4 * half**2 - 1)
    waves = np.cos(2 * np.pi * np.outer(np.arange(intervals + 1), half) / intervals)
    weights = (1 - waves @ shares) / intervals
    weights[[0, -1]] /= 2
    return weights


def _frozen_copy(module: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """A copy of all modules, with `new` in the places of `old`, that shares the weights without their gradients."""
    copies: dict[int, nn.Module] = {id(old): new}

    def copied(one: nn.Module) -> nn.Module:
        if id(one) not in copies:
            twin = copies[id(one)] = copy(one)
            twin._parameters = {
                name: None if weight is None else nn.Parameter(weight.detach(), requires_grad=False)
                for name, weight in one._parameters.items()
            }
            twin._modules = {name: None if child is None else copied(child) for name, child in one._modules.items()}
        return copies[id(one)]

    return copied(module)
