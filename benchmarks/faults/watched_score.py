"""What `python -m faults.watched` found.

A fault is found if a finding has one of the codes that `make bench-faults` takes for it (as declared), or that of a
later rule that names it from the program alone.

    python -m faults.watched_score OUTPUT.jsonl [MORE.jsonl …]

Prints the faults that were not found or not ranked first, the healthy programs in which something was found, and the
totals with Wilson's 95% intervals. Of lines about the same program the last one counts.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.catalogue import BY_NAME
from faults.show import detected, top_is_right
from tenor.measures.intervals import wilson_interval

RECORD = "a record that its author hands to the checks; the program itself is healthy"
INTENTION = "what should be frozen, chosen or named is an intention that no code of the program carries"
PRINTED = "a number that the program prints, with no function that could be heard"
OUTSIDE = {
    "best_model_chosen_on_test": INTENTION,
    "class_names_swapped": INTENTION,
    "frozen_by_an_earlier_cell": INTENTION,
    "thawed_on_the_way": INTENTION,
    "accuracy_as_a_mean_of_batches": PRINTED,
    "metrics_of_another_epoch": PRINTED,
    "the_last_checkpoint_taken_for_the_best": RECORD,
    "another_checkpoint_evaluated": RECORD,
    "no_checkpoint_recorded": RECORD,
    "no_validation_metrics": RECORD,
    "the_schedule_restarts_on_resume": RECORD,
    "the_epoch_restarts_on_resume": RECORD,
    "ranks_see_the_same_rows": RECORD,
    "rows_that_no_rank_sees": RECORD,
}
"""Faults that are no part of the plain program → why. They count as not found, and the totals without them stand next
to those of all."""

Result = dict[str, Any]


@dataclass(frozen=True)
class Score:
    """Counts over results of `faults.watched`."""

    faults: int
    found: int
    """Faults of which a finding names a cause or a sign."""
    top_right: int
    controls: int
    with_errors: int
    """Healthy programs with a finding of severity error: all of them are false."""
    with_warnings: int
    not_identical: int
    """Healthy programs with another output, exit status or weights than without the hooks."""


def is_found(result: Result, as_declared: bool = False) -> bool:
    """Whether a finding of any severity has a code that stands for the fault."""
    later = set() if as_declared else set(BY_NAME[result["job"][1]].in_program)
    return detected(result) is not None or any(code in later for _, code, _ in result["found"])


def is_top_right(result: Result, as_declared: bool = False) -> bool:
    """Whether the first-ranked cause is such a code, not only a sign."""
    later = () if as_declared else BY_NAME[result["job"][1]].in_program
    return top_is_right(result) or result["top"] in later


def score(results: Sequence[Result], as_declared: bool = False) -> Score:
    """Of faults and controls together."""
    faults = [one for one in results if one["job"][0] == "fault"]
    controls = [one for one in results if one["job"][0] == "control"]
    return Score(
        faults=len(faults),
        found=sum(is_found(one, as_declared) for one in faults),
        top_right=sum(is_top_right(one, as_declared) for one in faults),
        controls=len(controls),
        with_errors=sum("error" in severities(one) for one in controls),
        with_warnings=sum("warning" in severities(one) for one in controls),
        not_identical=sum(not one["identical"] for one in controls),
    )


def severities(result: Result) -> set[str]:
    return {severity for _, _, severity in result["found"]}


def read_results(paths: Iterable[Path]) -> list[Result]:
    """The last line about each program."""
    lines = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    return list({tuple(one["job"]): one for one in lines}.values())


def lines_of(results: Sequence[Result]) -> list[str]:
    """The summary as it is printed."""
    lines = []
    for one in results:
        kind, name = one["job"][:2]
        codes = " ".join(dict.fromkeys(f"{code} ({severity})" for _, code, severity in one["found"])) or "nothing"
        if kind == "control":
            if severities(one) - {"note"} or not one["identical"]:
                lines.append(f"{name}: {codes}{'' if one['identical'] else '; not identical'}")
        elif not is_found(one) or not is_top_right(one):
            kept = f"; outside: {OUTSIDE[name]}" if name in OUTSIDE else ""
            verdict = "not first" if is_found(one) else "not found"
            wanted = ", ".join((*BY_NAME[name].causes, *BY_NAME[name].in_program))
            lines.append(f"{name}: {verdict}: {wanted} (first: {one['top'] or 'none'}); {codes}{kept}")
    return [*lines, *totals_of(results)]


def totals_of(results: Sequence[Result]) -> list[str]:
    everything, inside = score(results), [one for one in results if one["job"][1] not in OUTSIDE]
    kinds = {
        "all faults, codes as declared": score(results, as_declared=True),
        "all faults": everything,
        "faults of the plain program": score(inside),
    }
    lines = [
        f"{title}: found {share(one.found, one.faults)}; cause first {share(one.top_right, one.faults)}"
        for title, one in kinds.items()
        if one.faults
    ]
    if everything.controls:
        n = everything.controls
        lines.append(f"healthy programs with an error: {share(everything.with_errors, n)}")
        lines.append(f"healthy programs with a warning: {share(everything.with_warnings, n)}")
        lines.append(f"healthy programs that did anything else: {share(everything.not_identical, n)}")
    return lines


def share(count: int, total: int) -> str:
    interval = wilson_interval(count, total)
    return f"{count} of {total} ({count / total:.1%}; {interval.low:.1%} to {interval.high:.1%})"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path, nargs="+")
    for line in lines_of(read_results(parser.parse_args().results)):
        print(line)


if __name__ == "__main__":
    main()
