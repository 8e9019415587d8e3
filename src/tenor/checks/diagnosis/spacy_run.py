"""Text classifiers of spaCy: the table that `spacy train` prints, and the scores in a pipeline's `meta.json`."""

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from tenor.checks.diagnosis.artifacts import Artifacts, evaluation_evidence, number, read_any_json
from tenor.checks.diagnosis.history import logged_number
from tenor.checks.diagnosis.progress_bars import without_colours
from tenor.checks.diagnosis.results_json import claims_of
from tenor.checks.evidence.checkpoint_evidence import CheckpointEvidence
from tenor.checks.evidence.evaluation_evidence import ReportedSplit, ValidationCourse
from tenor.checks.evidence.training_evidence import ValidationPoint
from tenor.errors import UserError

META = "meta.json"
PLACES = ("model-best", "model-last")
"""What `spacy train --output` writes; the first one has the best score."""
LOGS = (".log", ".txt", ".out")
HEADER = re.compile(r"^E {1,9}# .*\bSCORE *$", re.MULTILINE)
RULER = re.compile(r"-+(?: +-+)+ *")
SCORE, CATEGORIES = "SCORE", "CATS_SCORE"
KIND = "a run of spaCy"
MAX_BYTES, MAX_FILES = 2**22, 1_000
LOSS_NOTE = "the losses in the table are sums since the last evaluation, not means per row, and are not judged"


def is_spacy_folder(path: Path) -> bool:
    return bool(_metas(path)) or _log(path) is not None


def is_spacy_log(path: Path) -> bool:
    """Whether a text file contains the table of `spacy train`."""
    if path.suffix.lower() not in LOGS or not path.is_file() or path.stat().st_size > MAX_BYTES:
        return False
    return HEADER.search(_text(path)) is not None


def is_spacy_meta(value: Any) -> bool:
    """Whether a JSON value is the `meta.json` of a pipeline with the scores of a text classifier."""
    performance = value.get("performance") if isinstance(value, Mapping) else None
    return (
        isinstance(performance, Mapping)
        and "spacy_version" in value
        and any(str(name).startswith("cats_") for name in performance)
    )


def read_spacy_folder(path: Path) -> list[Artifacts]:
    """Evidence from the table and the scores of the best pipeline. Raises UserError if neither can be read."""
    metas, log = _metas(path), _log(path)
    return [_artifacts(log, metas[0] if metas else None, (*metas[1:],))]


def read_spacy_file(path: Path) -> list[Artifacts]:
    """Evidence from a log, or from a `meta.json`. Raises UserError if it contains no score of a text classifier."""
    return [_artifacts(None, path, ()) if path.suffix.lower() == ".json" else _artifacts(path, None, ())]


def _artifacts(log: Path | None, meta: Path | None, others: Iterable[Path]) -> Artifacts:
    scores = () if log is None else _scores(log)
    claims, n_classes = (None, None) if meta is None else _claims(read_any_json(meta), str(meta))
    course = ValidationCourse(n_classes=n_classes, score=scores, score_name=CATEGORIES)
    evidence: list[Any] = []
    if scores:
        evidence.append(CheckpointEvidence(validations=scores, metric=CATEGORIES.lower(), larger_is_better=True))
    if claims is not None or scores:
        evidence.append(evaluation_evidence({"validation": claims} if claims else {}, n_classes, course=course))
    if not evidence:
        raise UserError(f"{log or meta}: contains no score of a text classifier of spaCy. Evaluate the pipeline again.")
    notes = [LOSS_NOTE] if log is not None else []
    notes += [f"validation: the scores of {meta.parent.name} ({META})"] if meta is not None else []
    files = [file for file in (log, meta, *others) if file is not None]
    return Artifacts(KIND, tuple(evidence), files=tuple(files), notes=tuple(notes))


def _metas(path: Path) -> list[Path]:
    """The `meta.json` of the pipelines in a folder, in one in it or in the folder itself, the best one first."""
    folders = (
        [path / place for place in PLACES] + [path] + [folder / p for p in PLACES for folder in sorted(path.glob("*"))]
    )
    found = []
    for folder in folders:
        try:
            found += (
                [folder / META] if (folder / META).is_file() and is_spacy_meta(read_any_json(folder / META)) else []
            )
        except UserError:
            continue  # Named among the files that were not read.
    return found


def _log(path: Path) -> Path | None:
    return next((file for file in sorted(islice(path.iterdir(), MAX_FILES)) if is_spacy_log(file)), None)


def _text(path: Path) -> str:
    return without_colours(path.read_bytes()[:MAX_BYTES].decode("utf-8", "replace"))


def _scores(log: Path) -> tuple[ValidationPoint, ...]:
    """The score of the text classifier at each step, as a share: of several tables in a log, that of the last."""
    text = _text(log)
    last = list(HEADER.finditer(text))[-1]
    header, ruler, *lines = text[last.start() :].splitlines()
    columns = [(match.start(), match.end()) for match in re.finditer(r"-+", ruler)] if RULER.fullmatch(ruler) else []
    names = [header[start:end].strip() for start, end in columns]
    name = next((one for one in names if one == CATEGORIES), None)
    points: list[ValidationPoint] = []
    for line in lines if name is not None and "#" in names else ():
        cells = dict(zip(names, (line[start:end] for start, end in columns), strict=True))
        step, score = (logged_number(cells[one]) for one in ("#", str(name)))
        if step is None or score is None:
            break
        points.append(ValidationPoint(int(step), score / 100))
    return tuple(points)


def _claims(meta: Any, where: str) -> tuple[ReportedSplit | None, int | None]:
    """The scores of a pipeline, and its number of classes."""
    performance = meta["performance"]
    by_type = performance.get("cats_f_per_type")
    classes = by_type if isinstance(by_type, Mapping) else {}
    recalls = {str(name): one.get("r") for name, one in classes.items() if isinstance(one, Mapping)}
    micro = [number(performance.get(f"cats_micro_{one}")) for one in "prf"]
    record: dict[str, Any] = {"macro_f1": performance.get("cats_macro_f")}
    if recalls and all(number(value) is not None for value in recalls.values()):
        record["recalls"] = recalls
    # With one label per row, precision, recall and F1 over all rows are the accuracy.
    if "textcat_multilabel" not in (meta.get("pipeline") or ()) and micro[0] is not None and len(set(micro)) == 1:
        record["accuracy"] = micro[0]
    return claims_of(record, where), len(classes) if len(classes) > 1 else None
