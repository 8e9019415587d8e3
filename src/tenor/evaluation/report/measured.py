"""A saved model measured again, as one HTML file: the parts of a run's report that are about rows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tenor.data.dataset import Absent, LabelledText
from tenor.evaluation.report.collect import RunContent, SplitNumbers
from tenor.evaluation.report.html import render
from tenor.evaluation.report.page import Page, run_page
from tenor.evaluation.report.provenance import Fact, provenance
from tenor.evaluation.words import moment


@dataclass(frozen=True)
class Measured:
    """What was measured on what."""

    split: str
    rows: LabelledText
    rows_sha256: str
    weights_sha256: str
    step: int
    """Of the checkpoint that the weights are from."""
    threshold: str
    """What `tenor predict` decides by instead of the most probable class; empty where it doesn't."""
    overlap: str
    """Which rows have a text that the run was trained or chosen on."""
    command: str
    """That measures it again."""
    at: str
    """ISO 8601, UTC."""
    versions: Mapping[str, Any]


def measured_report(content: RunContent, found: Measured) -> str:
    """The report as HTML; `content` is the run's with the numbers and predictions of these rows alone."""
    return render("run.html", page=_page(content, found))


def _page(content: RunContent, found: Measured) -> Page:
    facts = [f"{content.run.reference}, step {found.step:,}", moment(found.at), found.overlap]
    if found.threshold:
        facts.append(f"the most probable classes, without the threshold {found.threshold}")
    page = run_page(content, {found.split: found.rows})
    origin = provenance(content, Absent("told below"))
    groups = (("Rows", _rows(found)), ("Measurement", _measurement(found)))
    training = tuple(("Training: " + name.lower(), facts) for name, facts in origin.groups)
    told = replace(origin, groups=(*groups, *training), commands=(found.command,))
    return replace(page, rows=found.rows.origin, facts=tuple(facts), provenance=told)


def _rows(found: Measured) -> tuple[Fact, ...]:
    return (
        Fact("from", found.rows.origin),
        Fact("split", f"{found.split}, {len(found.rows):,} rows"),
        Fact("rows, SHA-256", found.rows_sha256, code=True),
        Fact("in the run's own splits", found.overlap),
    )


def _measurement(found: Measured) -> tuple[Fact, ...]:
    return (
        Fact("weights, SHA-256", found.weights_sha256, code=True),
        Fact("at", moment(found.at)),
        Fact("versions", ", ".join(f"{name} {version}" for name, version in found.versions.items())),
    )


def split_numbers(found: Mapping[str, Any]) -> SplitNumbers:
    """A split of `evaluation_json`, as a report takes it."""
    from pydantic import TypeAdapter

    return TypeAdapter(SplitNumbers).validate_python(found)
