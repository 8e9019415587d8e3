"""No setting is ignored silently: keys that the source does not read are refused."""

import json
from typing import get_args

import pytest

from tenor.config import load_config, to_yaml
from tenor.config.schema import READ_BY, Data, unread_keys
from tenor.errors import UserError

SOURCES = get_args(Data.model_fields["source"].annotation)
NEEDED = {"file": {"path": "rows.csv"}, "hub": {"hub_name": "someone/reviews"}}
VALUES = {"class_names": ["no", "yes"], "relabel": {"1": "yes", "-1": None}, "faulty_rows": "leave_out"}
SET = {name: VALUES.get(name, "mine") for name in READ_BY}
"""A value for every key of the table that is not its default."""


def overrides(source: str, **values: object) -> list[str]:
    return [f"data.{key}={json.dumps(value)}" for key, value in {"source": source, **values}.items()]


def refusal(*arguments: object) -> str:
    with pytest.raises(UserError) as caught:
        load_config(*arguments)  # type: ignore[arg-type]
    return str(caught.value)


def test_the_table_names_keys_and_sources_that_there_are() -> None:
    assert set(READ_BY) <= set(Data.model_fields)
    for sources in READ_BY.values():
        assert set(sources) <= set(SOURCES)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("key", READ_BY)
def test_a_key_is_accepted_only_for_sources_that_read_it(key: str, source: str) -> None:
    requested = overrides(source, **{**NEEDED.get(source, {}), key: SET[key]})
    if source in READ_BY[key] or source == "given":
        assert getattr(load_config("demo", requested).data, key) in (SET[key], tuple(SET[key]))
        return
    message = refusal("demo", requested)
    assert "1 problem " in message
    assert f"override: data.{key}: observed the" in message
    assert f"data.source '{source}' does not read it; set it back to " in message
    assert READ_BY[key][0] in message


@pytest.mark.parametrize("source", SOURCES)
def test_a_default_value_is_accepted_for_every_source(source: str) -> None:
    defaults = {name: Data.model_fields[name].default for name in READ_BY}
    load_config("demo", overrides(source, **{**defaults, **NEEDED.get(source, {})}))


def test_all_unread_keys_are_reported_with_all_other_problems(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("seed: -1\ndata:\n  path: my.csv\n  text_column: review\n  class_names: [good, good]\n")
    message = refusal(path, ["data.label_column=stars"])
    for words in [
        "line 1: seed: observed the number -1",
        "line 3: data.path: observed the text \"my.csv\"; data.source 'embedded' does not read it; set it back to "
        "null, or data.source to imdb or file",
        "line 4: data.text_column: observed the text \"review\"; data.source 'embedded' does not read it; set it back "
        "to text, or data.source to imdb, file, hub or sst2",
        'line 5: data.class_names: observed the text "good" more than once; expected different names',
        'override: data.label_column: observed the text "stars"',
    ]:
        assert words in message
    assert "5 problems" in message


def test_a_wrong_source_is_the_only_problem_reported() -> None:
    message = refusal("demo", ["data.source=flie", "data.path=my.csv"])
    assert "1 problem " in message
    assert "did you mean file?" in message


@pytest.mark.parametrize("odd", ["a\nb", "a\u2028b", "a\x85b", "\n", " "])
def test_an_odd_value_is_still_one_problem(odd: str) -> None:
    message = refusal("demo", [f"data.path={json.dumps(odd)}"])
    assert "1 problem " in message
    assert "override: data.path: observed the text" in message


def test_given_rows_keep_any_configuration_and_it_reads_back(tmp_path) -> None:
    config = load_config("demo", overrides("file", path="my.csv", text_column="review"))
    given = config.model_copy(update={"data": config.data.model_copy(update={"source": "given"})})
    (tmp_path / "config.yaml").write_text(to_yaml(given))
    assert load_config(tmp_path / "config.yaml") == given
    assert unread_keys(given.data) == ["path", "text_column"]
