"""Experiments that only look: the loss on given logits, and the logits of given texts."""

from typing import Any

import torch

from tenor.checks.probes.subject import (
    MAX_TOKENS,
    Examples,
    Subject,
    blanked,
    can_be_padded,
    columns_of,
    padded_left,
    text_key,
    widened,
)

MAX_ROWS = 32
"""Examples for the first loss and the spread of the logits."""

COMPARED_ROWS = 8

ADDED_PADDING = 8

MARGIN = 10.0
"""By which given logits are right or wrong: e^-10 is next to no loss."""


def given_logits(subject: Subject) -> dict[str, Any]:
    """The loss function alone: on right, equal and wrong logits one by one; on one example twice; its gradient."""
    k, device = subject.n_classes, subject.device
    labels, one_hot = torch.arange(k, device=device), MARGIN * torch.eye(k, device=device)

    def mean_loss(logits: torch.Tensor) -> float:
        return float(
            torch.stack([subject.loss_fn(logits[c : c + 1], labels[c : c + 1]).mean() for c in range(k)]).mean()
        )

    equal = torch.zeros(k, k, device=device)
    once = float(subject.loss_fn(equal[:1], labels[:1]).mean())
    twice = float(subject.loss_fn(equal[:1].repeat(2, 1), labels[:1].repeat(2)).mean())
    with torch.enable_grad():
        leaf = equal.clone().requires_grad_()
        loss = subject.loss_fn(leaf, labels).mean()
        gradient = torch.autograd.grad(loss, leaf, allow_unused=True)[0] if loss.requires_grad else None
    return {
        "loss_when_right": mean_loss(one_hot),
        "loss_when_uniform": mean_loss(equal),
        "loss_when_inverted": mean_loss(-one_hot),
        "mean_of_loss": twice / once if once else None,
        "loss_gradient": 0.0 if gradient is None else float(gradient.norm()),
    }


@torch.no_grad()
def first_look(subject: Subject, examples: Examples) -> dict[str, Any]:
    """The first loss, the spread of the logits over texts, and whether they are a distribution already."""
    logits = subject.logits(examples.inputs)
    sums, rounding = logits.sum(dim=-1), _rounding(logits)
    tolerance = max(1e-4, 4 * rounding)
    distinct = len(torch.unique(examples.inputs[text_key(examples)], dim=0)) > 1
    return {
        "initial_loss": float(subject.loss_fn(logits, examples.labels).mean()),
        "n_examples": len(examples),
        "logit_spread": float(logits.std(dim=0).max()) if distinct else None,
        "rows_sum_to_one": bool(logits.shape[-1] > 1 and (logits >= 0).all() and ((sums - 1).abs() < tolerance).all()),
        "rounding": rounding,
    }


@torch.no_grad()
def blanking(subject: Subject, examples: Examples) -> dict[str, Any]:
    """How far the logits change when every token but the first is blanked."""
    some = examples.rows(slice(0, COMPARED_ROWS))
    blank = blanked(subject, some, alike=False)
    key = text_key(some)
    if torch.equal(blank[key], some.inputs[key]):
        raise ValueError("the texts have no token to blank")
    return {"logit_change_from_blanking": _change(subject.logits(some.inputs), subject.logits(blank))}


@torch.no_grad()
def padding(subject: Subject, examples: Examples) -> dict[str, Any]:
    """How far the logits change when columns of padding are added."""
    some = examples.rows(slice(0, COMPARED_ROWS))
    if "input_ids" not in some.inputs or not can_be_padded(subject, some):
        raise ValueError("inputs without token ids, or without a known padding id, can't be padded")
    # Within the 64 columns that any encoder has positions for.
    kept = MAX_TOKENS - ADDED_PADDING
    cut = columns_of(some, slice(-kept, None) if padded_left(some.inputs) else slice(0, kept))
    added = widened(subject, cut, cut.inputs["input_ids"].shape[1] + ADDED_PADDING)
    return {"logit_change_from_padding": _change(subject.logits(cut.inputs), subject.logits(added.inputs))}


@torch.no_grad()
def neighbours(subject: Subject, examples: Examples) -> dict[str, Any]:
    """How far a row's logits change among fewer others, or among the same in another order."""
    some = examples.rows(slice(0, COMPARED_ROWS))
    if len(some) < 3:
        raise ValueError(f"{len(some)} rows have no neighbours to leave out")
    together = subject.logits(some.inputs)
    order = torch.arange(len(some) - 1, -1, -1, device=subject.device)
    turned = subject.logits(some.rows(order).inputs)[order]
    # Pairs and not single rows: a normalisation over the batch refuses one row.
    fewer = torch.cat([subject.logits(some.rows(slice(i, i + 2)).inputs) for i in range(0, len(some) - 1, 2)])
    return {
        "logit_change_from_neighbours": max(_change(together, turned), _change(together[: len(fewer)], fewer)),
    }


def _change(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


def _rounding(logits: torch.Tensor) -> float:
    """Unit rounding of the narrowest type that holds the logits exactly: a cast at the end does not hide the type."""
    for kind, rounding in ((torch.bfloat16, 2.0**-8), (torch.float16, 2.0**-11)):
        if torch.equal(logits.to(kind).float(), logits) and logits.any():
            return rounding
    return 2.0**-24
