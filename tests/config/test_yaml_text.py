"""The reader of YAML: what it accepts, and that everything else is a UserError with line and column."""

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenor.config.yaml_text import parse_yaml
from tenor.errors import UserError

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("aZ0 '\"\\\0\n\t\x85é中😀\u2028\ufeff", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcdefgh", min_size=1), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(PLAIN)
def test_json_reads_as_json_does(value):
    assert parse_yaml(json.dumps(value), "f").value == value


@settings(deadline=None)
@given(st.text("ab:-[]{}&*!|>'\"%@#, \n\t?<~0123.e_\\uUx", max_size=30))
def test_no_text_escapes_as_another_error(text):
    with suppress(UserError):
        parse_yaml(text, "f")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("5e-05", 5e-5),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("1_000", 1000),
        ("0o17", 15),
        ("017", 17),
        ("2024-01-01", "2024-01-01"),
        ("1:30", "1:30"),
        ("'12'", "12"),
        ("~", None),
        ("", None),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    found = parse_yaml(text, "f").value
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: 1\na: 2", "line 2, column 1", "twice (first on line 1)"),
        ("a: {b: 1, b: 2}", "line 1, column 11", "twice"),
        ("a: &x 1", "line 1, column 4", "anchor"),
        ("a: *x", "line 1, column 4", "alias"),
        ("&k a: 1", "line 1, column 1", "anchor"),
        ("a: !!python/name:os.system x", "line 1, column 4", "tag"),
        ("!!set {a}", "line 1, column 1", "tag"),
        ("<<: {a: 1}", "line 1, column 1", "merge key"),
        ("a: 1\n---\nb: 2", "line 2, column 1", "second document"),
        ("%YAML 1.1\n---\na: no", "line 2, column 1", "directive"),
        ("[" * 5000, "line 1, column 22", "20 levels"),
        ("a: " + "9" * 5000, "line 1, column 4", "5000 characters"),
        ("a: 0x" + "f" * 5000, "line 1, column 4", "characters"),
        ("a: .nan", "line 1, column 4", "not a finite number"),
        ("a: -.inf", "line 1, column 4", "not a finite number"),
        ("a: 1e999", "line 1, column 4", "not a finite number"),
        ("? [a]\n: b", "line 1, column 3", "as a key"),
        ("a: [1", "line 1, column 6", "not YAML"),
        ('a: "\\ud800"', "line 1, column 4", "surrogate"),
    ],
)
def test_refusals_name_place_and_cause(text, place, words):
    with pytest.raises(UserError) as caught:
        parse_yaml(text, "f.yaml")
    assert f"f.yaml, {place}: " in str(caught.value)
    assert words in str(caught.value)


def test_lines_are_known_by_key():
    assert parse_yaml("a:\n  b: 1\nc: {d: 2}\n", "f").lines == {("a",): 1, ("a", "b"): 2, ("c",): 3, ("c", "d"): 3}
