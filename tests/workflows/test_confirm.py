"""A cause is confirmed where its symptoms are there with the fault and gone without it, and nowhere else."""

import pytest

from tenor.checks.catalogue import BY_CODE
from tenor.config import load_config
from tenor.workflows.confirm import MENDS, Confirmation, _changed


def confirmation(before: tuple[str, ...], after: tuple[str, ...]) -> Confirmation:
    return Confirmation("DAT002", "data.subset.strategy=stratified", before, after, 0.5, 0.6, 1, 2)


@pytest.mark.parametrize(
    ("before", "after", "confirmed"),
    [
        (("DAT002", "EVL001"), ("FRZ001",), True),
        (("DAT002", "EVL001", "EVL003"), ("EVL001",), False),
        (("DAT002", "FRZ001"), (), False),  # No symptom was there, so none can go.
    ],
)
def test_only_symptoms_that_go_confirm(before, after, confirmed):
    assert confirmation(before, after).confirmed is confirmed


@pytest.mark.parametrize("code", MENDS)
def test_every_mend_is_a_valid_change_and_belongs_to_a_rule(code):
    assert code in BY_CODE
    assert _changed(load_config("case_one_class"), MENDS[code]) is not None
