"""Built-in files, paths, overrides, and all problems of a configuration at once."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenor.config import Config, builtin_names, builtin_text, describe_fields, load_config, to_yaml
from tenor.config.describe import schema_nodes
from tenor.errors import UserError

TEXT = st.text("aZ019 .#:-'\"\\{}[]&*!|>%@`,?~=<\n\t\x7f\x85é中😀\u2028\ufeff", min_size=1, max_size=12)
SHARE = st.floats(0.01, 0.99)
VALUES = {
    "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
    "seed": st.integers(0, 2**32 - 1),
    "data.text_column": TEXT,
    "data.path": TEXT,
    "data.class_names": st.none() | st.lists(TEXT, max_size=3, unique=True),
    "data.validation.size": SHARE | st.integers(1, 10**9),
    "data.subset": st.fixed_dictionaries({"size": st.none() | st.integers(1, 10**6)}),
    "data.subset.size": st.none() | st.integers(1, 10**6),
    "model.freeze": st.sampled_from(["none", "base", 3]),
    "model.attention_dropout": st.sampled_from(["auto", "model"]) | SHARE,
    "training.learning_rate": st.floats(0, 10) | st.integers(0, 10),
    "training.class_weights": st.sampled_from(["none", "balanced"]) | st.lists(st.floats(1e-300, 1e300), max_size=3),
    "training.trackers": st.lists(st.sampled_from(["tensorboard", "wandb"]), max_size=2),
    "checks.allow.DAT001": TEXT,
}
A_FILE = ["data.source=file", "data.path=rows.csv"]
"""The source that reads whatever `VALUES` sets."""
OVERRIDES = st.lists(st.sampled_from(sorted(VALUES)).flatmap(lambda key: st.tuples(st.just(key), VALUES[key])))


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(*arguments) -> str:
    with pytest.raises(UserError) as caught:
        load_config(*arguments)
    return str(caught.value)


@settings(deadline=None)
@given(OVERRIDES)
def test_a_resolved_configuration_reads_back_equal(tmp_path_factory, overrides):
    config = load_config("demo", [*A_FILE, *(f"{key}={json.dumps(value)}" for key, value in overrides)])
    path = write(tmp_path_factory.mktemp("resolved"), to_yaml(config))
    assert load_config(path) == config


@settings(deadline=None)
@given(OVERRIDES)
def test_the_last_override_of_a_key_holds(overrides):
    config = load_config("demo", [*A_FILE, *(f"{key}={json.dumps(value)}" for key, value in overrides)])
    for key, value in dict(overrides).items():
        found = config.model_dump(mode="json")
        for name in key.split("."):
            found = found[name]
        if key not in ("data.subset", "data.subset.size"):  # one overrides the other
            assert found == value


@pytest.mark.parametrize("name", builtin_names())
def test_every_builtin_loads_under_its_own_name_and_says_what_it_is(name):
    assert load_config(name).name == name
    assert builtin_text(name).startswith("# ")


def test_the_expected_builtins_are_there():
    demos = "smoke demo demo_freeze case_one_class"
    official = "imdb_baseline imdb_best imdb_fast imdb_freeze imdb_minilm imdb_minilm_freeze"
    assert set(builtin_names()) == {*demos.split(), *official.split()}


@pytest.mark.parametrize("name", ["demo", "imdb_baseline", "imdb_minilm"])
def test_an_ablation_differs_only_in_how_it_learns(name):
    full, frozen = load_config(name), load_config(name.removesuffix("_baseline") + "_freeze")
    assert frozen.data == full.data
    assert (full.model.freeze, frozen.model.freeze) == ("none", "base")
    assert frozen.model.name == full.model.name


def test_a_file_without_a_name_takes_its_stem(tmp_path):
    assert load_config(write(tmp_path, "seed: 1\n")).name == "mine"
    assert load_config(str(write(tmp_path, "name: x\nseed: 1\n"))).name == "x"


def test_a_builtin_is_not_shadowed_by_a_file_of_the_working_folder(tmp_path, monkeypatch):
    write(tmp_path, "seed: 7", "demo")
    write(tmp_path, "seed: 7", "other")
    monkeypatch.chdir(tmp_path)
    assert load_config("demo").seed == 42
    assert load_config(Path("demo")).seed == 7
    assert load_config("other").seed == 7


def test_a_byte_order_mark_is_accepted(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfseed: 1\n")
    assert load_config(path).seed == 1


def test_whole_numbers_pass_for_real_ones_and_lists_for_tuples_but_not_booleans_for_numbers():
    config = load_config("demo", ["training.learning_rate=1", "data.class_names=[neg, pos]"])
    assert config.training.learning_rate == 1.0
    assert config.data.class_names == ("neg", "pos")
    assert "expected a whole number" in refusal("demo", ["seed=true"])
    assert "expected a number from 0 to 10" in refusal("demo", ["training.learning_rate=true"])
    assert "expected a whole number" in refusal("demo", ["training.epochs=2.0"])


def test_an_override_of_a_section_replaces_it():
    config = load_config("demo", ["data.subset={strategy: random}", "data.subset.size=5"])
    assert (config.data.subset.size, config.data.subset.strategy) == (5, "random")
    assert load_config("demo", ["data.subset={}"]).data.subset.size is None


def test_every_problem_is_reported_at_once_with_its_place(tmp_path):
    path = write(
        tmp_path,
        "learning_rate: 1\ntraining.epochs: 3\ndata:\n  source: file\n  max_lenght: 3\n  validation: {size: 1.0}\n"
        "model: {freeze: bse, name: 123}\nevaluation: 5\ntraining:\n  class_weights: [1, -1]\n  trackers: [wanb]\n"
        "checks: {allow: {DAT001: 3}}\n",
    )
    text = refusal(path, ["x", "=3", "a..b=1", "data.test_size=[", "seed=-1", "training.epochs=null", "name.x=1"])
    for words in [
        "override 'x' has no `=`",
        "override '=3' has an empty key",
        "override 'a..b=1' has an empty key",
        "override 'data.test_size=[', line 1",
        "did you mean wandb?",
        "override 'name.x=1' goes below name",
        "override: seed: observed the number -1; expected a whole number from 0 to 4294967295",
        "override: training.epochs: observed null; expected a whole number from 1 to 1000",
        "line 1: learning_rate: unknown key; did you mean training.learning_rate?",
        "line 2: training.epochs: unknown key; in a file, write epochs indented below training",
        "line 4: data.source 'file' needs data.path",
        "line 5: data.max_lenght: unknown key; did you mean data.max_length?",
        "line 6: data.validation.size: observed the number 1.0; expected a number above 0 and below 1, or a",
        'line 7: model.freeze: observed the text "bse"; expected none or base, or a whole number from 1 to 1000000000;',
        "line 7: model.name: observed the number 123; expected text that is not empty; put it in quotes",
        "line 8: evaluation: observed the number 5; expected a section with the keys token_budget,",
        "line 10: training.class_weights: observed the list [1, -1]; expected none or balanced, or a list, each item a",
        'line 11: training.trackers: observed the list ["wanb"]; expected a list, each item tensorboard, wandb,',
        "line 12: checks.allow.DAT001: observed the number 3; expected text that is not empty",
    ]:
        assert words in text
    assert text.count("\n  ") == 18  # and no line more
    assert text.startswith(f"{path}: 18 problems")
    for jargon in ("Input should", "type=", "literal[", "constrained", "pydantic", "tuple["):
        assert jargon not in text


NOT_TEXT = [f.key for f in describe_fields() if not f.allowed.startswith("text")]
"""Keys that do not take any text."""


@pytest.mark.parametrize(
    "name", ["What did you think: of the film?", "Review #1", "2024", "@x", "[text]", "no", 'it\'s "good"', "a, b"]
)
def test_the_name_of_a_column_needs_no_yaml_quotes(name):
    for written in (name, json.dumps(name)):
        config = load_config("demo", ["data.source=file", "data.path=rows.csv", f"data.text_column={written}"])
        assert config.data.text_column == name


def test_null_is_no_text():
    for written, expected in (("null", None), ("~", None), ('"null"', "null")):
        config = load_config("demo", ["data.source=file", "data.path=rows.csv", f"data.id_column={written}"])
        assert config.data.id_column == expected


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(NOT_TEXT), st.sampled_from(["[[]]", "-1", "{a: 1}"])))
def test_each_wrong_key_gets_exactly_one_line(wrong):
    overrides = [f"{key}={value}" for key, value in wrong.items() if not key.startswith("checks.allow")]
    if overrides:
        lines = [line for line in refusal("demo", overrides).splitlines() if line.startswith("  override: ")]
        assert len(lines) == len(overrides)


def test_a_rule_of_a_section_is_silent_about_a_key_that_is_wrong_already():
    text = refusal("demo", ["data.source=file", 'data.path=""'])
    assert "1 problem " in text
    assert "needs data.path" not in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "observed null; expected keys with values"),
        (b"- 1", "observed the list [1]; expected keys"),
        (b"ok: 1\n a\xff: 2", "line 2, column 3: observed the byte 0xff, which is not UTF-8"),
        (b"#" * 1_000_001, "more than 1,000,000 bytes"),
        (b"a: 1\na: 2", "line 2, column 1"),
    ],
)
def test_unreadable_files_are_refused(tmp_path, content, words):
    path = tmp_path / "f.yaml"
    path.write_bytes(content)
    text = refusal(path)
    assert str(path) in text
    assert words in text


def test_unknown_names_and_paths_are_refused_with_a_way_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "Did you mean demo?" in refusal("dmo")
    assert "smoke" in refusal("zzz")
    assert "the built-in demo, without a suffix" in refusal("demo.yaml")
    assert "cannot be read" in refusal("./")
    assert "cannot be read" in refusal("a\0.yaml")


def test_every_key_is_described():
    described = {field.key: field for field in describe_fields()}
    leaves = {key for key, node in schema_nodes().items() if "properties" not in node}
    assert set(described) == leaves
    assert all(field.doc and field.allowed for field in described.values())
    assert described["training.learning_rate"].default == "8e-05"
    assert described["data.subset.size"].allowed == "a whole number from 1 to 1000000000, or null"


@settings(deadline=None)
@given(st.sampled_from(describe_fields()))
def test_each_default_in_words_is_the_default(field):
    assert (
        load_config("smoke", ["data={}", "training={}", f"{field.key}={field.default}"]).model_copy(
            update={"name": "custom"}
        )
        == Config()
    )


def test_a_single_string_is_refused_as_a_list_of_overrides():
    with pytest.raises(UserError, match=r"expected a list of strings: \['training.epochs=3'\]"):
        load_config("demo", "training.epochs=3")
