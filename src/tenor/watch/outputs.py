"""What `tenor watch` writes and prints: findings, diagnosis, report, SARIF, JUnit, and the conclusion."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from tenor.runs.files import write_json, write_text
from tenor.runs.findings import FINDINGS, Report, write_findings

if TYPE_CHECKING:
    from tenor.checks.diagnosis import Diagnosis

REPORT = "report.html"
RECORD = "diagnosis.json"
"""The diagnosis of one process, from which the report is made again when the program has ended."""
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def write_record(
    folder: Path, diagnosis: "Diagnosis", program: str, is_stopped: bool, reports: Iterable[Report]
) -> None:
    """Write the findings, the diagnosis and the report of one process."""
    write_findings(folder / FINDINGS, reports)
    record = {**diagnosis.as_dict(), "program": program, "stopped": is_stopped}
    write_json(folder / RECORD, record)
    write_report(folder, record)


def write_report(folder: Path, record: Mapping[str, Any], outcome: str = "") -> None:
    """Write `report.html` from a diagnosis; `outcome` says how the program ended."""
    from tenor.evaluation.report.page import render

    write_text(folder / REPORT, render("watch.html", diagnosis=record, outcome=outcome))


def print_conclusion(diagnosis: "Diagnosis", printed: set[str], folder: Path) -> None:
    """To stderr: findings that were not printed before, the causes in order, and one sentence on what follows."""
    from rich.console import Console
    from rich.text import Text

    from tenor.checks.finding import findings_view

    console = Console(stderr=True, markup=False)
    late = [one for one in diagnosis.findings if one.code not in printed and one.severity != "note"]
    if late:
        console.print(findings_view(late))
    for note in diagnosis.notes:
        console.print(Text(f"tenor watch: {note}.", style="dim"), soft_wrap=True)
    if diagnosis.limits:
        console.print(Text(f"tenor watch: {diagnosis.limits}", style="yellow"), soft_wrap=True)
    style = "bold" if diagnosis.findings or diagnosis.limits else "bold green"
    console.print(Text(f"tenor watch: {diagnosis.conclusion} Report: {folder / REPORT}", style=style), soft_wrap=True)


def sarif(record: Mapping[str, Any], version: str) -> str:
    """The findings as SARIF 2.1.0, which code hosts show beside a change."""
    findings = record["findings"]
    rules = {one["code"]: {"id": one["code"], "shortDescription": {"text": one["title"]}} for one in findings}
    location = {"physicalLocation": {"artifactLocation": {"uri": source_of(record["program"])}}}
    results = [
        {
            "ruleId": one["code"],
            "level": one["severity"],
            "message": {"text": f"{one['title']}. Observed: {one['observed']}. Fix: {one['fix']}"},
            "locations": [location],
            **({"suppressions": [{"kind": "external", "justification": one["allowed"]}]} if one["allowed"] else {}),
        }
        for one in findings
    ]
    tool = {"driver": {"name": "tenor", "version": version, "rules": list(rules.values())}}
    document = {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [{"tool": tool, "results": results}]}
    return json.dumps(document, indent=2) + "\n"


def source_of(program: str) -> str:
    """The file of a program, from its command line; the whole line where it names none."""
    return next((word for word in program.split() if word.endswith(".py")), program).replace("\\", "/")


def junit(record: Mapping[str, Any]) -> str:
    """One test case for each rule that was checked; an error or a warning that was not allowed is a failure."""
    found = {one["code"]: one for one in record["findings"]}
    codes = list(dict.fromkeys([*record["checked"], *found]))
    failing = [one for one in found.values() if _fails(one)]
    suite = ElementTree.Element("testsuite", name="tenor watch", tests=str(len(codes)), failures=str(len(failing)))
    for code in codes:
        case = ElementTree.SubElement(suite, "testcase", classname="tenor", name=code)
        one = found.get(code)
        if one is not None and _fails(one):
            failure = ElementTree.SubElement(case, "failure", type=one["severity"], message=one["title"])
            failure.text = "\n".join(f"{key}: {one[key]}" for key in ("observed", "expected", "cause", "fix"))
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _fails(finding: Mapping[str, Any]) -> bool:
    return finding["severity"] != "note" and not finding["allowed"]


def records_below(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The records of every process of a program, that of the first one first."""
    files: Sequence[Path] = sorted(folder.rglob(RECORD), key=lambda path: (len(path.parts), str(path)))
    records = []
    for path in files:
        try:
            records.append((path.parent, json.loads(path.read_text(encoding="utf-8"))))
        except ValueError as error:
            print(f"tenor watch: {path} is damaged ({error}); it is left out.", file=sys.stderr)
    return records
