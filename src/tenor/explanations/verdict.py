"""stub"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Verdict:
    shown: bool
    why: str


def read_verdict(reference: str, root: Path, digest: str) -> Verdict:
    return Verdict(False, f"the explanations of this model were not tested: tenor explain {reference}")
