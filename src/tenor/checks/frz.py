"""Freezing: whether exactly the declared parameters learn."""

from tenor.checks.evidence import ModelEvidence
from tenor.checks.finding import CannotTell, Observation
from tenor.checks.rule import rule

SHOWN_NAMES = 4


def exempted(model: ModelEvidence) -> tuple[str, ...]:
    """Names that the declaration covers and that learn all the same."""
    if model.declared_frozen is None:
        raise CannotTell("it is not declared what should be frozen")
    return tuple(p.name for p in model.parameters if p.learns and p.name in model.declared_frozen)


@rule("FRZ001", "error")
def more_learns_than_declared(model: ModelEvidence) -> Observation | None:
    """Parameters learn that should be frozen

    Measures: the parameters with `requires_grad` among those that the declaration (`freeze: base`, or N layers) covers.

    Threshold: none may learn; an exact invariant. Names that `keep_trainable` exempts count too, unless all of them are
    biases or norms.

    Why: a name fragment meant for the head often fits the encoder. In DistilBERT `lin` is part of `q_lin`, `k_lin`,
    `v_lin`, `out_lin`, `lin1` and `lin2`: nearly the whole encoder then learns, and the ablation compares nothing.

    Look-alikes: BitFit (only biases learn) and training of norms are legitimate and pass; adapters are parameters of
    their own, outside the encoder's.

    Mend: freeze by module, not by fragments of names: `model.base_model.requires_grad_(False)`; in Tenor
    `model.freeze=base` without `keep_trainable`.

    Reference: Ben Zaken et al. 2022, BitFit.
    """
    names = set(exempted(model))
    matrices = [p for p in model.parameters if p.name in names and len(p.shape) > 1]
    if not names or (model.keep_trainable and not matrices):
        return None
    weights = sum(p.size for p in model.parameters if p.name in names)
    covered = sum(p.size for p in model.parameters if p.name in (model.declared_frozen or ()))
    fragments = [f for f in model.keep_trainable if any(f in p.name for p in matrices)]
    why = (
        f"the fragments {fragments} fit names inside the encoder" if fragments else "they were never frozen, or thawed"
    )
    return Observation(
        observed=f"{weights:,} of {covered:,} weights learn, such as {', '.join(sorted(names)[:SHOWN_NAMES])}",
        expected="none of the weights that are declared frozen learns",
        n=len(names),
        cause=f"more learns than declared: {why}",
        fix="freeze by module: drop keep_trainable, or give whole names of the head",
    )
