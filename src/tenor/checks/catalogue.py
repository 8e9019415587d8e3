"""Every rule there is, in the order in which causes are ranked: data first, results last."""

from types import ModuleType

from tenor.checks.rule import Rule
from tenor.checks.rules import (
    ckp,
    dat_batches,
    dat_labels,
    dat_signal,
    dat_splits,
    dat_texts,
    dst,
    evl_alignment,
    evl_claims,
    evl_collapse,
    evl_overlap,
    evl_ranking,
    frz,
    los_experiments,
    los_function,
    los_training,
    mod,
    opt_groups,
    opt_range,
    opt_schedule,
    opt_steps,
    prc,
    tok,
    tok_padding,
)

FAMILIES: tuple[ModuleType, ...] = (
    *(dat_labels, dat_splits, dat_batches, dat_signal, dat_texts, tok, tok_padding),
    *(mod, los_function, los_experiments, los_training, opt_groups, opt_range, opt_schedule, opt_steps, frz, prc),
    *(ckp, dst, evl_alignment, evl_overlap, evl_collapse, evl_ranking, evl_claims),
)

RULES: tuple[Rule, ...] = tuple(
    value for family in FAMILIES for value in vars(family).values() if isinstance(value, Rule)
)

BY_CODE: dict[str, Rule] = {rule.code: rule for rule in RULES}
