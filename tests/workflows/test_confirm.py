"""A cause is confirmed only if its symptoms occur with the fault and disappear without it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenor.checks.catalogue import RULES
from tenor.checks.rule import Rule
from tenor.config import load_config
from tenor.data.dataset import SourceData
from tenor.data.splits import make_splits, present_splits
from tenor.runs.missing import Missing
from tenor.workflows.confirm import ROWS, TEST_ROWS, VALIDATION_ROWS, Confirmation, _changed, _nested, _shortened
from tiny_rows import labelled


def confirmation(before: tuple[str, ...], after: tuple[str, ...]) -> Confirmation:
    return Confirmation("DAT002", "data.subset.strategy=stratified", before, after, 0.5, 0.6, 1, 2)


@pytest.mark.parametrize(
    ("before", "after", "confirmed"),
    [
        (("DAT002", "EVL001"), ("FRZ001",), True),
        (("DAT002", "EVL001", "EVL003"), ("EVL001",), False),
        (("DAT002", "FRZ001"), (), False),  # Without a symptom before, none can disappear.
    ],
)
def test_a_cause_is_confirmed_only_if_its_symptoms_disappear(before, after, confirmed):
    assert confirmation(before, after).confirmed is confirmed


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.setting], ids=lambda rule: rule.code)
def test_the_setting_that_fixes_a_fault_is_valid(rule: Rule) -> None:
    assert _changed(load_config("case_one_class"), _nested(rule.setting or {})) is not None


@given(rows=st.integers(8, 2000), test_rows=st.integers(0, 60), test_size=st.none() | st.integers(2, 500))
def test_a_rerun_requests_at_most_the_available_rows(rows: int, test_rows: int, test_size: int | None) -> None:
    config = _changed(load_config("case_one_class"), {"data": {"test_size": test_size}})
    train, test = (
        labelled([f"text {row}" for row in range(n)], [row % 2 for row in range(n)]) for n in (rows, test_rows)
    )
    source = SourceData(train, test if test_rows else Missing("there is none"))
    splits = present_splits(make_splits(source, _shortened(config, source).data, 42))
    assert len(splits["train"]) == min(ROWS, rows - len(splits["validation"]))
    assert len(splits["validation"]) == min(VALIDATION_ROWS, rows // 4)
    assert len(splits.get("test", ())) == min(TEST_ROWS, test_rows)
