"""Whether a model's explanations are shown: only if its own test says that they are better than random words."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from tenor.errors import UserError
from tenor.runs.directory import RunDirectory, find_run
from tenor.runs.explanations import EXPLANATIONS, StoredDeletion, StoredExplanations, read_explanations
from tenor.runs.files import cache_folder

SMALLEST_DIFFERENCE = 0.01
"""Of a probability: where the words that are called important move it by less, there is nothing to explain."""


@dataclass(frozen=True)
class Verdict:
    """Whether explanations are shown, and why."""

    shown: bool
    why: str


def verdict_of(record: StoredExplanations) -> Verdict:
    """The verdict of a finished test."""
    deletion = record.deletion
    if not isinstance(deletion, StoredDeletion):
        return Verdict(False, f"the explanations of this model are not tested: {deletion['missing']}")
    moved = (
        f"deleting the words that the explanation calls important lowers the probability of the predicted class by "
        f"{deletion.important:.3f}, as many random words by {deletion.random:.3f} ({deletion.rows:,} {record.split} "
        f"rows; {100 * deletion.confidence:g}% CI of the difference {deletion.low:+.3f} to {deletion.high:+.3f})"
    )
    if deletion.low <= 0:
        return Verdict(False, f"no better than random words on this model: {moved}")
    if deletion.difference < SMALLEST_DIFFERENCE:
        least = f"a difference below {SMALLEST_DIFFERENCE:g} explains nothing"
        return Verdict(False, f"the words hardly move this model's predictions ({least}): {moved}")
    return Verdict(True, moved)


def explanations_place(reference: str | Path, root: str | Path, digest: str) -> Path:
    """Where a model's `explanations.json` is: in its run's folder, or in the cache if it belongs to no run.

    `reference` is what `Predictor.load` takes, and `digest` that of its source.
    """
    run = run_of_model(reference, root)
    return cache_folder("explanations") / f"{digest}.json" if run is None else run.path / EXPLANATIONS


def run_of_model(reference: str | Path, root: str | Path) -> RunDirectory | None:
    """The run that a model belongs to: the reference itself, or the parent of a model folder; None for other models."""
    folder = Path(reference)
    if str(reference) and folder.is_dir() and folder.name == "model" and (folder.parent / "manifest.json").is_file():
        return RunDirectory(folder.parent.resolve())
    if str(reference) and folder.is_dir() and not (folder / "manifest.json").is_file():
        return None
    try:
        return find_run(Path(root), str(reference))
    except UserError:
        return None


def read_verdict(reference: str | Path, root: str | Path, digest: str) -> Verdict:
    """The verdict on the model `reference`, whose digest is `digest` (`Predictor.source.digest`).

    Explanations are not shown if the test was not made, was made for other weights, or cannot be read.
    """
    place = explanations_place(reference, root, digest)
    command = f"tenor explain {shlex.quote(str(reference))}"
    if not place.is_file():
        return Verdict(False, f"the explanations of this model are not tested yet. Test them: {command}")
    try:
        record = read_explanations(place)
    except UserError as error:
        return Verdict(False, f"{error}")
    if record.digest != digest:
        return Verdict(False, f"{place} is the test of other weights than this model's. Make it again: {command}")
    return verdict_of(record)
