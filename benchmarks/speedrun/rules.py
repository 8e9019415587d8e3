"""The rules of the speedrun: what a recipe may set, which rows are validated, when, and which level counts.

docs/speedrun.md explains them; training and verifier both apply what stands here.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tenor.checks.rules.shared import text_keys
from tenor.config.loading import load_config
from tenor.config.schema import Config, flat, with_values
from tenor.data.dataset import LabelledText
from tenor.data.sources.embedded import embedded_reviews
from tenor.data.sources.imdb import imdb_source
from tenor.data.splits import Splits, subset_rows
from tenor.errors import UserError
from tenor.runs.missing import Missing

RECIPES = Path(__file__).parent / "recipes"
"""A recipe for each level, named by `level_name`."""

FREE = (
    *("name", "seed", "data.max_length", "data.truncation", "data.head_share", "data.subset.size"),
    *("data.subset.strategy", "model.freeze", "model.keep_trainable", "model.dropout", "model.attention_dropout"),
    *("training.epochs", "training.batch_size", "training.token_budget", "training.short_share"),
    *("training.learning_rate", "training.head_learning_rate", "training.layer_decay", "training.weight_decay"),
    *("training.schedule", "training.warmup", "training.max_grad_norm", "training.ema_decay"),
    *("training.label_smoothing", "training.precision", "training.threads"),
)
"""The settings that a recipe may choose. All others have the values of `Rules.config`."""


@dataclass(frozen=True)
class Rules:
    """The rules as numbers; tests run smaller ones."""

    version: int = 1
    levels: tuple[float, ...] = (0.90, 0.92)
    """Validation accuracies. A level is reached at the second of two measurements in a row that meet it."""
    validation_rows: int = 2500
    """Half of each class."""
    validation_sha256: str = "d70d0960f476b9fb960e3d793500dc28d185981f6e72b5c3aa0a8ef95a01e029"
    """Of `rows_text` of the validation rows."""
    measured_every: int = 2250
    """Training reviews between two measurements, at least: a tenth of all."""
    encoder: str = "minilm"

    def config(self, recipe: Config, training_rows: int) -> Config:
        """The recipe's free settings, for that count of training rows before `data.subset`; all else as the rules fix
        it."""
        chosen = flat(recipe.model_dump(mode="json"))
        rows = min(recipe.data.subset.size or training_rows, training_rows)
        fixed = {
            "data.source": "given",  # Split by the digests of the texts, not by `data.validation`.
            "data.validation.size": self.validation_rows,
            "model.name": self.encoder,
            "model.hybrid": "off",
            "training.evaluate_every": min(1.0, self.measured_every / rows),
            "training.device": "cpu",
            "training.log_every": 1,
            "training.trackers": [],
            "evaluation.text_baseline": False,
        }
        values = {**{key: chosen[key] for key in FREE}, **fixed}
        return Config.model_validate_json(json.dumps(with_values(Config().model_dump(mode="json"), values)))


OFFICIAL = Rules()


def level_name(level: float) -> str:
    """`90` for 0.90."""
    return f"{100 * level:.0f}"


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Config:
    """A configuration that sets nothing but `FREE`.

    Raises:
        UserError: names the settings that the rules fix.
    """
    recipe = load_config(path, overrides)
    defaults, chosen = (flat(config.model_dump(mode="json")) for config in (Config(), recipe))
    if fixed := [key for key in chosen if key not in FREE and chosen[key] != defaults.get(key)]:
        raise UserError(
            f"{path}: the rules of the speedrun fix {', '.join(fixed)}; leave that out. A recipe may set "
            f"{', '.join(FREE)}"
        )
    return recipe


def read_reviews(imdb: str | None) -> LabelledText:
    """IMDb's 25,000 labelled training reviews, from `imdb` as `data.path` takes it, or from the embedded package. The
    test split is not used."""
    if imdb is not None:
        train = imdb_source(load_config("imdb_minilm", [f"data.path={imdb}"]).data).train
        if isinstance(train, Missing):
            raise UserError(f"{imdb}: no training reviews: {train.reason}")
        return train
    embedded = embedded_reviews().train
    assert isinstance(embedded, LabelledText)  # Its test split is a part of the same table.
    return LabelledText(embedded.table, embedded.class_names, embedded.origin)


def split_reviews(reviews: LabelledText, rules: Rules = OFFICIAL) -> Splits:
    """The validation rows and all rows that may be trained on, both in the order of the SHA-256 of their texts, so that
    every source of the same reviews gives the same rows.

    Of equal texts one is used. The validation rows are those of each class with the smallest SHA-256. No other row has
    the key of one of them (`text_keys`: letters alike but for case, punctuation and markup).

    Raises:
        UserError: other reviews than IMDb's, by the digest of the validation rows.
    """
    digests = np.array([hashlib.sha256(text.encode()).hexdigest() for text in reviews.texts])
    _, first = np.unique(digests, return_index=True)  # Sorted by digest.
    labels, classes = reviews.labels, len(reviews.class_names)
    of_class = [first[labels[first] == label][: rules.validation_rows // classes] for label in range(classes)]
    held_out = first[np.isin(first, np.concatenate(of_class))]
    keys = text_keys(reviews.texts)
    positions = first[~np.isin(keys[first], keys[held_out])]
    splits = Splits(reviews.select(positions), reviews.select(held_out), Missing("not used"), labels, positions)
    if (observed := digest_of_rows(splits.validation)) != rules.validation_sha256:
        raise UserError(
            f"{reviews.origin}: the validation rows have the digest {observed}, expected {rules.validation_sha256}: "
            "these are other reviews than IMDb's 25,000 training reviews"
        )
    return splits


def with_subset(splits: Splits, config: Config) -> Splits:
    """The splits with the training rows that the configuration's `data.subset` chooses."""
    chosen = subset_rows(splits.train.labels, config.data.subset, config.seed)
    return Splits(
        splits.train.select(chosen),
        splits.validation,
        splits.test,
        splits.source_labels,
        splits.train_positions[chosen],
    )


def rows_text(rows: LabelledText) -> str:
    """One line per row: the SHA-256 of its text, and its class index."""
    lines = zip(rows.texts, rows.labels.tolist(), strict=True)
    return "".join(f"{hashlib.sha256(text.encode()).hexdigest()} {label}\n" for text, label in lines)


def digest_of_rows(rows: LabelledText) -> str:
    """SHA-256 of `rows_text`."""
    return hashlib.sha256(rows_text(rows).encode()).hexdigest()
