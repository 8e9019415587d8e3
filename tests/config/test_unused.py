"""A setting without an effect is reported; one with an effect is not."""

import pytest

from tenor.config import load_config
from tenor.config.describe import unused_settings
from tenor.config.loading import builtin_names
from tenor.config.schema import Config
from tenor.config.sweep import load_sweep, values_of

ROWS = ("data.source=file", "data.path=rows.csv")
BASE = "model.freeze=base"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("data.truncation=head", "data.head_share=0.3"), "data.head_share=0.3 has no effect: data.truncation is head"),
        (
            ("data.subset={strategy: head}",),
            "data.subset.strategy=head has no effect: data.subset.size is null, so all training rows are used",
        ),
        (
            (*ROWS, "data.group_column=movie"),
            "data.group_column=movie has no effect: data.validation.strategy is stratified",
        ),
        (
            (*ROWS, "data.test_size=9"),
            "data.test_size=9 has no effect: data.test_path is null, so there are no test rows",
        ),
        (
            ("data.source=sst2", "data.test_split=null", "data.test_size=9"),
            "data.test_size=9 has no effect: data.test_split is null, so there are no test rows",
        ),
        (
            ("data.source=given", "data.class_names=[bad, good]"),
            "data.class_names=[bad, good] has no effect: the rows were passed in Python",
        ),
        (
            ("model.keep_trainable=[bias]",),
            "model.keep_trainable=[bias] has no effect: model.freeze is none, so all parameters are trainable",
        ),
        (
            (BASE, "model.attention_dropout=0.1"),
            "model.attention_dropout=0.1 has no effect: model.freeze is base, and frozen layers have no dropout",
        ),
        (
            (BASE, "training.layer_decay=0.9"),
            "training.layer_decay=0.9 has no effect: model.freeze is base, so no layer is trainable",
        ),
        (
            (BASE, "training.learning_rate=1e-3", "training.head_learning_rate=1e-2"),
            "training.learning_rate=0.001 has no effect: model.freeze is base, and the head has its own "
            "training.head_learning_rate",
        ),
        (
            ("training.warmup=1.0", "training.schedule=cosine"),
            "training.schedule=cosine has no effect: training.warmup is 1, so the learning rate rises until the end",
        ),
        (
            ("training.epochs=3", "training.patience=2"),
            "training.patience=2 has no effect: training.epochs is 3, with one validation each",
        ),
    ],
    ids=lambda value: value.partition("=")[0] if isinstance(value, str) else "",
)
def test_a_setting_without_effect_is_reported(overrides: tuple[str, ...], message: str) -> None:
    assert unused_settings(load_config("smoke", ["data={}", "training={}", *overrides])) == [message]


@pytest.mark.parametrize(
    "overrides",
    [
        ("data.head_share=0.3",),
        ("data.subset={strategy: head, size: 20}",),
        (*ROWS, "data.group_column=movie", "data.validation.strategy=group"),
        (*ROWS, "data.test_path=test.csv", "data.test_size=9"),
        ("data.source=given", "data.group_column=movie", "data.validation.strategy=group", "data.test_size=9"),
        (BASE, "model.keep_trainable=[bias]", "model.attention_dropout=0.1", "training.layer_decay=0.9"),
        (BASE, "training.learning_rate=1e-3"),
        (BASE, "model.keep_trainable=[bias]", "training.learning_rate=1e-3", "training.head_learning_rate=1e-2"),
        ("model.freeze=3", "training.layer_decay=0.9", "model.attention_dropout=0.1"),
        ("training.epochs=3", "training.patience=1"),
        ("training.evaluate_every=0.5", "training.patience=2"),
    ],
)
def test_a_setting_with_an_effect_is_not_reported(overrides: tuple[str, ...]) -> None:
    assert unused_settings(load_config("smoke", ["data={}", "training={}", *overrides])) == []


def test_defaults_are_never_reported() -> None:
    assert unused_settings(Config()) == []


@pytest.mark.parametrize("name", builtin_names())
def test_in_the_built_in_configurations_everything_plays_a_part(name: str) -> None:
    assert unused_settings(load_config(name)) == []


@pytest.mark.parametrize("name", builtin_names("sweep"))
def test_in_every_trial_of_the_built_in_sweeps_everything_plays_a_part(name: str) -> None:
    plan = load_sweep(name)
    for phase, settings in plan.sweep.phases.items():
        for end in (0, -1):
            tried = {key: values_of(dimension)[end] for key, dimension in settings.space.items()}
            assert unused_settings(plan.config(phase, tried)) == []


def test_an_odd_value_stays_on_one_line() -> None:
    (line,) = unused_settings(load_config("demo", ["data.source=given", 'data.path="a\\nb\\u001b[2J"']))
    assert line.isprintable()
