"""The HTML report of an audit, which shows the texts of the suspects."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tenor.checks.rules.dat_splits import SAME_WORDS
from tenor.config.describe import to_yaml
from tenor.config.schema import Config
from tenor.console.comparison import BASIS
from tenor.evaluation.formatting import interval, moment, percent
from tenor.evaluation.report.charts import Chart, histogram_chart
from tenor.evaluation.report.page import render, shown_text
from tenor.evaluation.report.results_sections import Figure
from tenor.evaluation.report.training_sections import Fact
from tenor.runs.environment import package_versions
from tenor.runs.files import write_text
from tenor.workflows.audit import EXCLUDE_BELOW, Audit, Suspect

MOST = {"label": 200, "duplicate": 100, "ambiguous": 50}
"""Rows shown of each kind: the file must stay small enough to mail; the CSV file contains all of them."""

MOST_PAIRS = 12


@dataclass(frozen=True)
class Row:
    """A suspect as shown."""

    id: str
    given: str
    suggested: str
    reason: str
    exclude: bool
    text: str
    left_out: int
    """Characters that are not shown."""


@dataclass(frozen=True)
class Part:
    """The suspects of one kind."""

    key: str
    title: str
    lead: str
    count: int
    rows: tuple[Row, ...]
    pairs: tuple[tuple[str, str, str], ...] = ()
    """Given label, suggested one, rows."""


@dataclass(frozen=True)
class AuditPage:
    """The values for the template."""

    name: str
    facts: tuple[str, ...]
    n: int
    errors: str
    share: str
    sentence: str
    chart: Chart
    figures: tuple[Figure, ...]
    parts: tuple[Part, ...]
    file: str
    commands: tuple[str, ...]
    groups: tuple[tuple[str, tuple[Fact, ...]], ...]
    config: str


def write_audit_report(result: Audit, config: Config, csv_file: Path, path: Path, command: Sequence[str]) -> None:
    """Write the report, atomically; `csv_file` contains all suspects, `command` is the command of the audit."""
    write_text(path, render("audit.html", page=audit_page(result, config, csv_file, command)))


def audit_page(result: Audit, config: Config, csv_file: Path, command: Sequence[str]) -> AuditPage:
    """The content of the report."""
    errors, now = len(result.of("label")), datetime.now(UTC).isoformat()
    return AuditPage(
        name=config.name,
        facts=(
            f"classifier of {BASIS[result.features]}",
            f"data: {config.data.source}",
            f"seed {config.seed}",
            moment(now),
        ),
        n=result.n,
        errors=f"{errors:,}",
        share=percent(errors / result.n, 1),
        sentence=f"The cross-validated classifiers agree with {percent(result.accuracy, 1)} of the labels, on rows "
        "that they were not trained on. The lower this agreement, the more suspects are mistakes of the classifiers.",
        chart=_chart(result),
        figures=_figures(result),
        parts=tuple(_part(result, key) for key in MOST),
        file=csv_file.name,
        commands=_commands(config, csv_file),
        groups=_groups(result, config, command),
        config=to_yaml(config),
    )


def _chart(result: Audit) -> Chart:
    rows, suspected = result.label_probabilities, result.suspected_probabilities
    label = "probability of the row's label"
    width = 1 / len(rows)
    numbers = tuple(
        (interval(k * width, (k + 1) * width, 0), f"{n:,}", f"{marked:,}")
        for k, (n, marked) in enumerate(zip(rows, suspected, strict=True))
        if n
    )
    return Chart(
        "How well labels fit their texts",
        histogram_chart(rows, suspected, ("all rows", "suspected"), label),
        "Calibrated probabilities from classifiers that were not trained on the row.",
        ("probability", "rows", "suspected"),
        numbers,
    )


def _figures(result: Audit) -> tuple[Figure, ...]:
    out = sum(one.exclude for one in result.suspects)
    return (
        Figure("duplicates", f"{len(result.of('duplicate')):,}", "same or nearly the same text as another row"),
        Figure("ambiguous", f"{len(result.of('ambiguous')):,}", "two classes almost equally probable"),
        Figure("excluded", f"{out:,}", "rows, unless you change the column exclude"),
        Figure("kept", f"{result.n - out:,}", "rows to train on"),
    )


def _part(result: Audit, key: str) -> Part:
    suspects = result.of(key)  # type: ignore[arg-type]
    titles = {"label": "Label errors", "duplicate": "Duplicates", "ambiguous": "Ambiguous texts"}
    leads = {
        "label": "The least probable label first. Rows with a label probability below "
        f"{EXCLUDE_BELOW:g} are excluded unless you change it.",
        "duplicate": "Of each group of equal or nearly equal texts the row whose label is most probable is kept; those "
        f"with two labels come first. Texts under {SAME_WORDS} words are kept: they are often written independently.",
        "ambiguous": "Two classes are almost equally probable. These rows are kept unless you change it.",
    }
    counts = Counter((one.given, one.suggested) for one in suspects).most_common(MOST_PAIRS) if key == "label" else []
    pairs = tuple((given, suggested, f"{count:,}") for (given, suggested), count in counts)
    return Part(key, titles[key], leads[key], len(suspects), tuple(map(_row, suspects[: MOST[key]])), pairs)


def _row(one: Suspect) -> Row:
    text, left_out = shown_text(one.text)
    return Row(one.id[:80], one.given, one.suggested, one.reason, one.exclude, text, left_out)


def _commands(config: Config, csv_file: Path) -> tuple[str, ...]:
    if config.data.source == "given":
        return (f"data.exclude={csv_file}",)
    return (f"tenor train config.yaml {shlex.quote(f'data.exclude={csv_file}')}  # the configuration below",)


def _groups(result: Audit, config: Config, command: Sequence[str]) -> tuple[tuple[str, tuple[Fact, ...]], ...]:
    named = config.data.path or config.data.hub_name
    encoder = () if result.features == "words" else (Fact("encoder", f"{config.model.name}, frozen"),)
    data = (
        Fact("source", f"{config.data.source}: {named}" if named else config.data.source),
        Fact("training rows", f"{result.n:,}"),
        *encoder,
    )
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    return (("Data", data), ("Audit", (Fact("command", shlex.join(command), code=True), Fact("versions", versions))))
