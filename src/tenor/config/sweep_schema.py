"""Every setting of a sweep: its name, type, default and meaning.

The text under a field is its documentation; `tenor sweep --fields` prints it.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from tenor.config.schema import NAME, Count, Section, Share, Text

Scalar = bool | int | float | str | None
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", json_schema_extra={"words": NAME})]

METRICS: dict[str, tuple[str, Literal["maximize", "minimize"]]] = {
    "accuracy": ("accuracy", "maximize"),
    "macro_f1": ("macro_f1", "maximize"),
    "loss": ("loss", "minimize"),
    "ece": ("calibration.calibrated.ece", "minimize"),
    "brier": ("calibration.calibrated.brier", "minimize"),
}
"""Objectives with a name: their place below `val` in `eval_best_model.json`, and which way is better."""
KNOWN_WHILE_TRAINING = ("accuracy", "macro_f1", "loss")
"""What every validation measures; by the others nothing can be pruned."""


class Dimension(Section):
    """What trials try for one key: either `choices`, or `low` and `high`."""

    low: int | float | None = Field(default=None, json_schema_extra={"words": "a number"})
    """The least value, included."""
    high: int | float | None = Field(default=None, json_schema_extra={"words": "a number"})
    """The greatest value, included."""
    log: bool = False
    """Whether orders of magnitude are equally likely, as befits a learning rate."""
    step: Annotated[int | float, Field(gt=0)] | None = Field(
        default=None, json_schema_extra={"words": "a number above 0"}
    )
    """The distance of two values, counted from `low`; null: 1 for whole numbers, none for others."""
    choices: tuple[Scalar | tuple[Scalar, ...], ...] | None = Field(
        default=None, json_schema_extra={"words": "a list of two values or more"}
    )
    """The values themselves, in place of a range."""


class Phase(Section):
    """One search: trials that differ in the keys of its space alone."""

    set: dict[str, Any] = Field(default={}, json_schema_extra={"words": "a mapping of configuration keys to values"})
    """Settings of every trial of this phase, after those of the sweep: `{model.freeze: base}`."""
    space: dict[str, Dimension] = Field(
        default={}, json_schema_extra={"words": "a mapping of configuration keys to low and high, or choices"}
    )
    """What trials try: `{training.learning_rate: {low: 1e-5, high: 1e-3, log: true}}`."""
    trials: Count = 20
    """Trials in all, those of every worker and of earlier calls included. Raise it to go on with a finished sweep."""
    budget_minutes: Annotated[float, Field(gt=0.0, le=1e6)] | None = None
    """Minutes that the phase may cost, summed over all workers: then no trial begins any more, and one under way is
    pruned at its next validation. null: no limit."""
    sampler: Literal["tpe", "random"] = "tpe"
    """`tpe`: proposes where good trials are dense (Bergstra et al. 2011; several keys jointly, as in Falkner et al.
    2018); `random`: draws evenly."""
    pruner: Literal["median", "halving", "none"] = "median"
    """`median`: ends a trial whose best validation so far is worse than the median of earlier trials at the same
    point; `halving`: lets the best quarter go on each time that training grew fourfold (Li et al. 2020)."""
    pruner_warmup: Share = 0.3
    """Share of a trial's training before which it is not pruned: early validations say little."""
    startup_trials: Annotated[int, Field(ge=0, le=10**6)] = 8
    """Trials drawn evenly before `tpe` proposes any, and completed before `median` prunes any."""


class Sweep(Section):
    """A search for the best configuration, in one phase or several."""

    name: Name = "custom"
    """Names the folder under `runs/` that holds the sweep and its runs. A file that states none gives its own name."""
    base: Text = "demo"
    """The configuration that the trials vary: a built-in name or the path of a YAML file."""
    set: dict[str, Any] = Field(default={}, json_schema_extra={"words": "a mapping of configuration keys to values"})
    """Settings of every trial: `{data.subset.size: 500}`."""
    objective: Text = "accuracy"
    """The validation metric that decides: accuracy, macro_f1, loss, ece, brier, or the place of any other number below
    `val` in eval_best_model.json, such as report.1.recall. The first three also choose each trial's best checkpoint,
    unless `training.select_by` is set here. The test rows choose nothing."""
    direction: Literal["auto", "maximize", "minimize"] = "auto"
    """Which way is better; `auto` knows it for the metrics with a name."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Decides what is proposed; the trials' own seed is the configuration's, the same for all."""
    storage: Text | None = None
    """Where the study is kept, as SQLAlchemy's URL: postgresql+psycopg2://host/database, mysql+pymysql://…, sqlite:///….
    null: an SQLite file in the sweep's folder, for workers on one machine."""
    heartbeat_seconds: Annotated[int, Field(ge=1, le=3600)] = 30
    """Seconds between two signs of life of a worker. After four times as many without one its trial is given to another
    worker."""
    keep_weights: Literal["best", "all"] = "best"
    """`best`: only the best trial of each phase keeps its weights, others keep all else and can be had again with
    `tenor train --repeat RUN`; `all`: every run keeps them."""
    phases: dict[str, Phase] = Field(default={}, json_schema_extra={"words": "a mapping of names to phases"})
    """The searches, in their order, by name. Each has a study of its own; the best trial of all of them wins."""
