"""Code and documents say the same."""

import re
from pathlib import Path

import pytest

from tenor.checks.catalogue import BY_CODE, RULES, index, page

PAGES = Path(__file__).parents[2] / "docs" / "rules"
SECTIONS = ("Measures:", "Threshold:", "Why:", "Look-alikes:", "Fix:", "Reference:")


def test_there_are_at_least_fifty_rules_and_no_code_twice():
    assert len(BY_CODE) == len(RULES) >= 50


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_a_rule_has_its_page_and_every_section(rule):
    assert (PAGES / f"{rule.code}.md").read_text(encoding="utf-8") == page(rule), "run: make rule-pages"
    assert re.fullmatch(r"(DAT|TOK|MOD|FRZ|OPT|LOS|PRC|EVL|CKP|DST)\d{3}", rule.code)
    assert not rule.title.endswith(".")
    for section in SECTIONS:
        assert section in rule.doc, f"{rule.code} lacks {section}"


def test_every_symptom_has_a_cause_and_every_cause_a_symptom():
    symptoms = {tag for rule in RULES for tag in rule.symptoms}
    explained = {tag for rule in RULES for tag in rule.explains}
    assert symptoms == explained
    assert all(rule.symptoms for rule in RULES if not rule.says_why)
    assert {rule.only_through for rule in RULES} - {""} <= set(BY_CODE)


def test_the_index_is_current_and_no_page_is_left_over():
    assert (PAGES / "README.md").read_text(encoding="utf-8") == index(), "run: make rule-pages"
    assert {path.stem for path in PAGES.glob("*.md")} == {*BY_CODE, "README"}
