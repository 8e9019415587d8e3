"""A sweep's file: all problems are reported at once; a valid file gives configurations."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from tenor.config.describe import describe_fields
from tenor.config.loading import builtin_names
from tenor.config.schema import flat, with_values
from tenor.config.sweep import SAME_FOR_ALL, Dimension, Phase, Sweep, dimension_problems, load_sweep
from tenor.errors import UserError

GOOD = "phases: {a: {space: {training.learning_rate: {low: 1e-5, high: 1e-3, log: true}}}}"
WRONG = """\
base: demo
objectiv: accuracy
objective: acuracy
set: {data.subset.sise: 3, training: {epochs: two}}
phases:
  a:
    trials: 0
    pruner: media
    set: {seed: 3, model.freeze: bases}
    space:
      training.learnin_rate: {low: 1e-5, high: 1e-3}
      training.epochs: {low: 1.5, high: 3}
      training.weight_decay: {low: 0.3, high: 0.1}
      training.learning_rate: {low: 0, high: 1e-3, log: true}
      data.truncation: {low: 0, high: 1}
      data.max_length: {choices: [64]}
      seed: {choices: [1, 2]}
      model.dropout: {low: 0.0, high: 0.5, logg: true}
      data.subset: {choices: [1, 2]}
      training.layer_decay: 0.9
      training.warmup: {low: 0.0, high: "a"}
      training.label_smoothing: {low: 0.1, high: 1.2}
      training.patience: {low: 1, high: 9, step: 3}
  b: {}
"""


def written(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def refusal(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_sweep(written(folder, text), overrides)
    return str(caught.value)


def test_all_problems_are_reported_at_once_with_their_lines(tmp_path: Path) -> None:
    message = refusal(tmp_path, WRONG)
    for line, words in {
        2: "objectiv: unknown key; did you mean objective?",
        3: "did you mean accuracy?",
        4: "did you mean data.subset.size?",
        7: "trials: observed the number 0",
        8: "did you mean median?",
        9: "did you mean base?",
        11: "did you mean training.learning_rate?",
        12: "training.epochs: observed the number 1.5; expected a whole number",
        13: "the range is empty",
        14: "log needs a low above 0",
        15: "data.truncation: observed the number 0; expected head, tail or head_tail",
        16: "expected two choices or more",
        17: "the best of several seeds is luck",
        18: "did you mean log?",
        19: "is a section",
        20: "expected low and high, or choices",
        21: 'observed the text "a"; expected a number',
        22: "label_smoothing: observed the number 1.2",
        23: "not a multiple of step",
        24: "space: observed none",
    }.items():
        assert any(f"line {line}: " in row and words in row for row in message.splitlines()), (line, words, message)
    assert "set: training.epochs" in message


@pytest.mark.parametrize("key", SAME_FOR_ALL)
def test_keys_that_make_trials_incomparable_are_refused(key: str, tmp_path: Path) -> None:
    message = refusal(tmp_path, f"phases: {{a: {{space: {{{key}: {{choices: [1, 2]}}}}}}}}")
    assert SAME_FOR_ALL[key] in message


def test_phases_share_their_validation_rows(tmp_path: Path) -> None:
    assert "set it for all phases" in refusal(tmp_path, GOOD, "phases.a.set.data.validation.size=100")
    load_sweep(written(tmp_path, GOOD), ["set.data.validation.size=100"])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["objective=ece"], "it cannot prune trials"),
        (["objective=report.1.recall", "phases.a.pruner=none"], "direction: observed auto"),
        (["direction=minimize"], "accuracy needs maximize"),
        (["base=demoo"], "did you mean demo?"),
        (["phases=3"], "phases: observed the number 3"),
        (["phases.a=3"], "phases.a: observed the number 3"),
        (["phases={}"], "phases: observed none"),
        (["set.name=x"], "the sweep's `name`"),
        (["set=3"], "set: observed the number 3"),
        (["phases.a.set.training.learning_rate=1e-4"], "is also in `set`"),
        (["trials"], "has no `=`"),
    ],
)
def test_contradictory_settings_are_refused(overrides: list[str], words: str, tmp_path: Path) -> None:
    assert words.lower() in refusal(tmp_path, GOOD, *overrides).lower()


def test_an_invalid_storage_is_reported_with_the_rest_and_without_its_password(tmp_path: Path) -> None:
    message = refusal(tmp_path, WRONG + "storage: u:secret@host/db\n")
    assert "line 25: storage: is not a URL" in message
    assert "line 3: " in message
    assert "secret" not in message


@pytest.mark.parametrize("storage", ["study.db", "not a url", "://x", "pg://host:port/db", "pg://user@host:/db"])
def test_a_storage_must_be_a_url(storage: str, tmp_path: Path) -> None:
    with pytest.raises((ArgumentError, ValueError)):
        make_url(storage)
    assert "storage: is not a URL" in refusal(tmp_path, GOOD, f"storage={storage!r}")


@pytest.mark.parametrize(
    "storage",
    [
        *(
            "sqlite:///study.db",
            "sqlite:////a/study.db",
            "sqlite:///C:\\a b\\study.db",
            "sqlite:///file:x?mode=ro&uri=true",
        ),
        *("postgresql+psycopg2://h/d", "mysql+pymysql://u:p%40@[::1]:33/d", "mysql://u:p/w@h:3/d", "mysql://u:p@w@h/d"),
    ],
)
def test_every_form_of_url_is_a_storage(storage: str, tmp_path: Path) -> None:
    make_url(storage)
    assert load_sweep(written(tmp_path, GOOD), [f"storage='{storage}'"]).sweep.storage == storage


@pytest.mark.parametrize("step", ["1e-320", "5e-324"])
def test_a_step_too_small_to_count_is_refused(step: str, tmp_path: Path) -> None:
    space = f"phases.a.space={{training.learning_rate: {{low: 0.1, high: 1.0, step: {step}}}}}"
    assert "not a multiple of step" in refusal(tmp_path, GOOD, space)


def test_any_number_of_the_evaluation_can_be_the_objective(tmp_path: Path) -> None:
    place = ["objective=report.1.recall", "direction=maximize", "phases.a.pruner=none"]
    plan = load_sweep(written(tmp_path, GOOD), place)
    assert (plan.metric, plan.direction) == ("report.1.recall", "maximize")
    plan = load_sweep(written(tmp_path, GOOD), ["objective=brier", "phases.a.pruner=none"])
    assert (plan.metric, plan.direction) == ("calibration.calibrated.brier", "minimize")


def test_the_objective_chooses_the_checkpoint_too_unless_it_was_set(tmp_path: Path) -> None:
    path, tried = written(tmp_path, GOOD), {"training.learning_rate": 1e-4}
    assert load_sweep(path, ["objective=loss"]).config("a", tried).training.select_by == "loss"
    plan = load_sweep(path, ["objective=loss", "set.training.select_by=macro_f1"])
    assert plan.config("a", tried).training.select_by == "macro_f1"


@pytest.mark.parametrize("name", builtin_names("sweep"))
def test_built_in_sweeps_are_sound_and_named_as_their_file(name: str) -> None:
    plan = load_sweep(name)
    assert plan.sweep.name == name
    for phase, one in plan.sweep.phases.items():
        tried = {key: dimension.low for key, dimension in one.space.items()}
        assert plan.config(phase, tried).name == name


@pytest.mark.parametrize("schema", [Sweep, Phase, Dimension])
def test_every_key_is_documented(schema: Any) -> None:
    fields = describe_fields(schema)
    assert {field.key for field in fields} == set(schema.model_fields)
    assert all(field.doc.endswith((".", "`.", '"."')) and field.allowed for field in fields)


def test_sections_and_dots_mean_the_same(tmp_path: Path) -> None:
    nested = "set: {training: {epochs: 3}}\nphases: {a: {space: {training: {learning_rate: {low: 1e-5, high: 1e-3}}}}}"
    dotted = "set: {training.epochs: 3}\nphases: {a: {space: {training.learning_rate: {low: 1e-5, high: 1e-3}}}}"
    assert load_sweep(written(tmp_path, nested)) == load_sweep(written(tmp_path, dotted))
    changed = load_sweep(written(tmp_path, dotted), ["phases.a.space.training.learning_rate.high=1e-2"])
    assert changed.sweep.phases["a"].space["training.learning_rate"].high == 1e-2


@settings(max_examples=20)
@given(
    st.recursive(
        st.integers(),
        lambda inner: st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3),
        max_leaves=8,
    ).filter(lambda value: isinstance(value, dict))
)
def test_flat_settings_are_the_same_settings(settings: Any) -> None:
    assert with_values({}, flat(settings)) == settings


numbers = st.one_of(st.integers(-5, 5), st.floats(-5, 5))


@given(numbers, numbers, st.booleans())
def test_an_invalid_range_is_refused(low: float, high: float, log: bool) -> None:
    is_range = low < high and not (log and low <= 0)
    assert (dimension_problems(Dimension(low=low, high=high, log=log)) == []) == is_range
