"""Settings that play no part, because of another one: nothing is wrong with them, but they change nothing."""

from collections.abc import Iterator

from tenor.config.describe import flow
from tenor.config.schema import Config, Data
from tenor.config.source_keys import unread_keys
from tenor.config.values import flat


def unused_settings(config: Config) -> list[str]:
    """A line for each key that is not at its default and changes nothing in this configuration, with the reason.

    Such as `data.head_share=0.3 plays no part: data.truncation is head`.
    """
    asked, defaults = (flat(one.model_dump(mode="json")) for one in (config, Config()))
    return [
        f"{key}={flow(asked[key])} plays no part: {why}"
        for key, why in (*_of_data(config.data), *_of_learning(config))
        if asked[key] != defaults[key]
    ]


def _of_data(data: Data) -> Iterator[tuple[str, str]]:
    """Keys of the data that change nothing, whatever their value, and why."""
    if data.truncation != "head_tail":
        yield "data.head_share", f"data.truncation is {data.truncation}"
    if data.subset.size is None:
        yield "data.subset.strategy", "data.subset.size is null, so all rows train"
    if data.validation.strategy != "group":
        yield "data.group_column", f"data.validation.strategy is {data.validation.strategy}"
    if data.source == "file" and data.test_path is None:
        yield "data.test_size", "data.test_path is null, so there are no test rows"
    if data.source in ("hub", "sst2") and data.test_split is None:
        yield "data.test_size", "data.test_split is null, so there are no test rows"
    if data.source == "given":
        for name in unread_keys(data):
            yield f"data.{name}", "the rows were handed over in Python"


def _of_learning(config: Config) -> Iterator[tuple[str, str]]:
    """Keys of model and training that change nothing, whatever their value, and why."""
    model, training = config.model, config.training
    if model.freeze == "none":
        yield "model.keep_trainable", "model.freeze is none, so everything learns"
    if model.freeze == "base" and not model.keep_trainable:
        yield "model.attention_dropout", "model.freeze is base, and what is frozen has no dropout"
        yield "training.layer_decay", "model.freeze is base, so no layer learns"
        yield "training.short_share", "model.freeze is base, so the encoder runs once, over whole texts"
        if training.head_learning_rate is not None:
            yield "training.learning_rate", "model.freeze is base, and the head has its own training.head_learning_rate"
    if training.warmup == 1.0:
        yield "training.schedule", "training.warmup is 1, so the rate rises to the end"
    # The first validation is the best so far, and after the last one there is nothing left to stop.
    if training.evaluate_every == 1.0 and (training.patience or 0) > training.epochs - 2:
        yield "training.patience", f"training.epochs is {training.epochs}, with one validation each"
