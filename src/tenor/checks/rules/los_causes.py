"""Where the loss stands before anything is learned, and the causes that keep it there."""

import math

STALLED = (
    "DAT008",
    "MOD003",
    "MOD005",
    "FRZ003",
    "FRZ005",
    "OPT001",
    "OPT002",
    "OPT004",
    "OPT005",
    "OPT006",
    "OPT007",
    "OPT008",
    "OPT010",
    "OPT012",
    "OPT014",
    "OPT020",
    "OPT021",
    "PRC002",
    "PRC003",
    "PRC004",
    "LOS002",
    "LOS003",
    "LOS004",
)
"""What keeps a loss from falling."""


def uninformed(n_classes: int) -> float:
    """Cross-entropy of equal probabilities: ln K nats."""
    return math.log(max(2, n_classes))
