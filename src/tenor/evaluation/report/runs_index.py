"""The index of all runs below a root, as a sortable table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from pydantic import TypeAdapter, ValidationError

from tenor.errors import UserError
from tenor.evaluation.formatting import duration, interval, moment, percent, points
from tenor.evaluation.report.charts import Estimate, Scale, scale, strip
from tenor.evaluation.report.page import render
from tenor.evaluation.report.training_sections import status_of
from tenor.measures.intervals import Interval
from tenor.runs.best_evaluation import Bounds
from tenor.runs.directory import RunDirectory
from tenor.runs.files import TEMPORARY_PREFIX
from tenor.runs.manifest import Manifest, read_manifest
from tenor.runs.missing import Missing
from tenor.runs.summary import SummaryRow, read_summary

STRIP = (6.0, 144.0)
MOST_WORDS = 140
"""Characters of changed settings and of errors; the run's own report contains the rest."""

NOT_IN_SUMMARY = "not in this folder's summary"


@dataclass(frozen=True)
class SplitSummary:
    """A split's numbers in the summary."""

    n: int
    accuracy: float
    accuracy_interval: Bounds
    macro_f1: float
    loss: float
    baselines: Mapping[str, float | Mapping[str, str]]


@dataclass(frozen=True)
class IndexRow:
    """A run. Columns are sorted by their `…_key`; empty ones come last."""

    name: str
    run_id: str
    link: str
    status: str
    message: str
    unknown: str
    """Why its numbers are not shown; empty if they are shown or still to come."""
    seed: str
    changed: str
    """Settings in which it differs from the first run of its configuration."""
    started: str
    started_key: str
    took: str
    took_key: str
    split: str
    validation: str
    validation_key: str
    test: str
    test_key: str
    interval: str
    strip: Markup
    against: str
    against_key: str
    loss: str
    loss_key: str
    findings: str
    findings_key: str


@dataclass(frozen=True)
class _Entry:
    run: RunDirectory
    manifest: Manifest | Missing
    summary: SummaryRow | None

    @property
    def splits(self) -> dict[str, SplitSummary]:
        given = {"validation": self.summary.val_metrics, "test": self.summary.test_metrics} if self.summary else {}
        parsed = {name: _parsed(metrics) for name, metrics in given.items()}
        return {name: one for name, one in parsed.items() if one is not None}

    @property
    def shown(self) -> tuple[str, SplitSummary] | None:
        """The test split, or validation if there is no test split."""
        return next(((name, self.splits[name]) for name in ("test", "validation") if name in self.splits), None)


def index_page(root: Path) -> str:
    """The index as HTML, newest run first; links are relative to `root`.

    Raises UserError if there is no run, or the summary cannot be read.
    """
    entries = _entries(root)
    if not entries:
        raise UserError(f"{root} contains no run; start one with `tenor train`, or name another folder")
    bounds = [b for e in entries if e.shown for b in _strip_values(e.shown[1])]
    shared = scale(bounds, *STRIP, 4)
    first: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        if entry.summary:
            first.setdefault(entry.run.config_name, _flat(entry.summary.config))
    rows = [_row(entry, shared, first.get(entry.run.config_name, {})) for entry in reversed(entries)]
    counts = [(status, sum(row.status == status for row in rows)) for status in dict.fromkeys(r.status for r in rows)]
    text = ", ".join(f"{n} {status}" for status, n in counts)
    return render("index.html", rows=rows, counts=text, low=percent(shared.low, 0), high=percent(shared.high, 0))


def _entries(root: Path) -> list[_Entry]:
    """Every folder with a manifest, oldest first. A manifest that cannot be read affects only its own row."""
    summaries = {(row.config_name, row.run_id): row for row in read_summary(root)}
    entries = []
    for path in sorted(root.glob("*/*/manifest.json"), key=lambda path: (path.parent.name, path.parent.parent.name)):
        run = RunDirectory(path.parent)
        if run.run_id.startswith(TEMPORARY_PREFIX):
            continue
        try:
            manifest: Manifest | Missing = read_manifest(run)
        except UserError as error:
            manifest = Missing(str(error))
        entries.append(_Entry(run, manifest, summaries.get((run.config_name, run.run_id))))
    return entries


def _row(entry: _Entry, shared: Scale, first: Mapping[str, Any]) -> IndexRow:
    manifest, run, splits, shown = entry.manifest, entry.run, entry.splits, entry.shown
    status, message = status_of(manifest)
    started, seed, seconds = "", "", None
    if isinstance(manifest, Manifest):
        started, seed = manifest.started, str(manifest.seed)
        seconds = manifest.duration_sec if isinstance(manifest.duration_sec, float | int) else None
    text = _text_baseline(shown[1]) if shown else None
    against = shown[1].accuracy - text if shown and text is not None else None
    severities = [str(one.get("severity")) for one in entry.summary.findings] if entry.summary else []
    counts = {name: severities.count(name) for name in ("error", "warning", "note")}
    settings = _flat(entry.summary.config) if entry.summary else {}
    changed = [f"{name}={value}" for name, value in settings.items() if name != "seed" and first.get(name) != value]
    accuracy = {name: percent(split.accuracy) for name, split in splits.items()}
    return IndexRow(
        name=run.config_name,
        run_id=run.run_id,
        link=f"{run.reference}/{run.report.name}" if run.report.is_file() else "",
        status=status,
        message=_start(message),
        unknown="" if entry.summary or status in ("running", "killed") else NOT_IN_SUMMARY,
        seed=seed,
        changed=_start(", ".join(changed)),
        started=moment(started).removesuffix(" UTC") if started else "",
        started_key=started,
        took=duration(seconds) if seconds is not None else "",
        took_key=_key(seconds),
        split=shown[0] if shown else "",
        validation=accuracy.get("validation", ""),
        validation_key=_key(splits["validation"].accuracy if "validation" in splits else None),
        test=accuracy.get("test", ""),
        test_key=_key(splits["test"].accuracy if "test" in splits else None),
        interval=interval(shown[1].accuracy_interval.low, shown[1].accuracy_interval.high) if shown else "",
        strip=strip(_estimate(shown[1]), shared, text) if shown else Markup(""),
        against=points(against).removesuffix(" points") if against is not None else "",
        against_key=_key(against),
        loss=f"{shown[1].loss:.4f}" if shown else "",
        loss_key=_key(shown[1].loss if shown else None),
        findings=", ".join(f"{n}\N{NO-BREAK SPACE}{name}{'s' if n > 1 else ''}" for name, n in counts.items() if n)
        or ("none" if entry.summary else "–"),
        findings_key=_key(float(counts["error"] * 10**6 + counts["warning"] * 10**3 + counts["note"]))
        if entry.summary
        else "",
    )


def _parsed(metrics: Mapping[str, Any]) -> SplitSummary | None:
    try:
        return TypeAdapter(SplitSummary).validate_python(metrics)
    except ValidationError:  # Missing, or a refused run's.
        return None


def _estimate(split: SplitSummary) -> Estimate:
    bounds = split.accuracy_interval
    return Estimate("accuracy", split.accuracy, Interval(bounds.low, bounds.high, bounds.confidence))


def _strip_values(split: SplitSummary) -> Sequence[float]:
    text = _text_baseline(split)
    return [split.accuracy_interval.low, split.accuracy_interval.high, *([text] if text is not None else [])]


def _text_baseline(split: SplitSummary) -> float | None:
    accuracy = split.baselines.get("text")
    return float(accuracy) if isinstance(accuracy, float | int) else None


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"data": {"path": 1}}` as `{"data.path": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _start(words: str) -> str:
    return words if len(words) <= MOST_WORDS else f"{words[:MOST_WORDS]}…"


def _key(value: float | None) -> str:
    return "" if value is None else repr(float(value))
