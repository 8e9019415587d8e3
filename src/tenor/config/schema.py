"""Every setting of a run: its name, type, default and meaning; and which data source reads which keys."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_SHOWN = 60


def with_values(settings: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested `settings` in which the dotted keys of `changed` have those values."""
    copy: dict[str, Any] = json.loads(json.dumps(settings))
    for key, value in changed.items():
        *path, last = key.split(".")
        section = copy
        for name in path:
            if not isinstance(section.get(name), dict):
                section[name] = {}
            section = section[name]
        section[last] = value
    return copy


def flat(
    nested: Mapping[str, Any], leaf: Callable[[Mapping[str, Any]], bool] = lambda value: not value
) -> dict[str, Any]:
    """By dotted key, whether sections were nested or written with dots; a mapping that is a `leaf` is kept whole.

    Of two mappings for one key the later one changes what it names, of two values the later one holds.
    """
    found: dict[str, Any] = {}
    for name, value in nested.items():
        inner = {"": value} if not isinstance(value, dict) or leaf(value) else flat(value, leaf)
        for rest, one in inner.items():
            key = f"{name}.{rest}" if rest else name
            both = isinstance(one, dict) and isinstance(found.get(key), dict)
            found[key] = {**found[key], **one} if both else one
    return found


def without(values: dict[str, Any], paths: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    """A copy without the keys at `paths`."""
    copy: dict[str, Any] = json.loads(json.dumps(values))
    for path in paths:
        section: Any = copy
        for name in path[:-1]:
            section = section.get(name, {})
        section.pop(path[-1], None)
    return copy


def show(value: Any) -> str:
    """A value as a person wrote it, with its kind where that may be the mistake, shortened."""
    text = json.dumps(value, ensure_ascii=False)
    text = text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
    match value:
        case None | bool():
            return text
        case str():
            return f"the text {text}"
        case int() | float():
            return f"the number {text}"
        case list():
            return f"the list {text}"
        case _:
            return f"the mapping {text}"


def one_of(words: Sequence[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


FILES, HUB = ("imdb", "file"), ("hub", "sst2")
READ_BY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "path": FILES,
        "test_path": ("file",),
        "hub_name": HUB,
        "hub_config": HUB,
        "train_split": HUB,
        "test_split": HUB,
        # The embedded sources hold texts and labels and nothing else. Rows that are given were read elsewhere, and may
        # have groups.
        "text_column": (*FILES, *HUB),
        "label_column": (*FILES, *HUB),
        "id_column": (*FILES, *HUB),
        "group_column": (*FILES, *HUB, "given"),
        "class_names": ("embedded", "rotten_tomatoes", *FILES, *HUB),
    }
)
"""The sources that read a key. Keys that are not here are no matter of the source."""


def unread_keys(data: "Data") -> list[str]:
    """The keys that `data.source` does not read, and that are not at their default."""
    fields = type(data).model_fields
    return [
        name
        for name, sources in READ_BY.items()
        if data.source not in sources and getattr(data, name) != fields[name].default
    ]


Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(ge=0.0, le=10.0)]
MOST = 10**9
"""No count of rows, tokens or steps comes near, and every library takes it."""
Count = Annotated[int, Field(ge=1, le=MOST)]
Text = Annotated[str, Field(min_length=1)]
NAME = "1 to 64 letters, digits, dots, hyphens or underscores, a letter or digit first"
TruncationStrategy = Literal["head", "tail", "head_tail"]
Tracker = Literal["tensorboard", "wandb", "mlflow", "comet_ml", "aim", "clearml", "dvclive", "swanlab", "trackio"]


class Section(BaseModel):
    """Strict (no silent conversion), closed (no unknown key) and frozen."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True)


class ValidationSplit(Section):
    size: Annotated[float, Field(gt=0.0, lt=1.0)] | Count = 0.1
    """Rows set aside for choosing the best checkpoint: a share below 1, or a number of rows."""
    strategy: Literal["stratified", "group", "random"] = "stratified"
    """`stratified` keeps the class proportions; `group` puts all rows that share `data.group_column` on one side;
    `random` is scikit-learn's plain `train_test_split`."""


class Subset(Section):
    size: Count | None = None
    """Training rows to use, taken after the validation rows were set aside; null: all."""
    strategy: Literal["stratified", "random", "head"] = "stratified"
    """`head` takes the first rows: on a set sorted by label that is a single class."""


class Data(Section):
    source: Literal["embedded", "rotten_tomatoes", "imdb", "file", "hub", "sst2", "given"] = "embedded"
    """`embedded`: 25,000 IMDb reviews that come with Tenor, 2,000 of them a fixed test split; `rotten_tomatoes`: 8,530
    embedded sentences, for evaluation only; `imdb`: the official 25,000/25,000 split; `file`: CSV, TSV, JSON Lines or
    Parquet of your own; `hub`: a dataset of the Hugging Face hub; `sst2`: the hub's SST-2; `given`: rows handed to
    `tenor.train(config, data=…)` in Python."""
    path: Text | None = None
    """For `file`: the training file. For `imdb`: a folder of Parquet files, an extracted `aclImdb/` folder or the
    official archive; null downloads the archive and verifies its digest."""
    test_path: Text | None = None
    """For `file`: the test file; null: the run has no test split."""
    hub_name: Text | None = None
    """For `hub`: the dataset's id, such as `stanfordnlp/imdb`."""
    hub_config: Text | None = None
    """For `hub`: the dataset's configuration, where it has several."""
    train_split: Text = "train"
    """For `hub`: the split to train on."""
    test_split: Text | None = "test"
    """For `hub`: the split to test on; null: none."""
    text_column: Text = "text"
    """The column that holds the text."""
    label_column: Text = "label"
    """The column that holds the label: an integer, a string or a truth value. 5.0 is 5."""
    group_column: Text | None = None
    """A column whose equal values must not be parted by `data.validation.strategy=group`, such as `movie`."""
    id_column: Text | None = None
    """A column that names each row; null: the source's own, else the row's number."""
    class_names: tuple[Text, ...] | None = None
    """The classes in the order of their indices 0, 1, …; null: the source's own, else the distinct labels, sorted.
    Labels that differ in case, blanks or Unicode's normal form only are one class, named after its most frequent
    spelling; two names given here that differ in case are two classes."""
    validation: ValidationSplit = ValidationSplit()
    """How the validation rows are set aside."""
    subset: Subset = Subset()
    """How many training rows are used, and which."""
    exclude: Text | None = None
    """A CSV file with a column `id`: these training rows are left out, after split and subset were drawn. Where it has
    a column `exclude`, as `tenor audit` writes it, only the rows with `yes`."""
    test_size: Count | None = None
    """Test rows to use, stratified; null: all."""
    max_length: Annotated[int, Field(ge=8, le=MOST)] = 256
    """Tokens per text, the special ones included."""
    truncation: TruncationStrategy = "head_tail"
    """Which part of a longer text is kept (Sun et al. 2019, "How to Fine-Tune BERT for Text Classification")."""
    head_share: Share = 0.5
    """For `head_tail`: the share of the kept tokens that comes from the beginning."""

    @model_validator(mode="after")
    def _keys_go_together(self) -> "Data":
        if problems := [*self._missing(), *self._unread(), *self._repeated()]:
            raise ValueError("\n".join(problems))
        return self

    def _missing(self) -> Iterator[str]:
        if self.source == "file" and self.path is None:
            yield "data.source 'file' needs data.path, the file to train on"
        if self.source == "hub" and self.hub_name is None:
            yield "data.source 'hub' needs data.hub_name, such as stanfordnlp/imdb"
        if self.validation.strategy == "group" and self.group_column is None:
            yield "data.validation.strategy 'group' needs data.group_column, such as movie"

    def _unread(self) -> Iterator[str]:
        if self.source == "given":  # Rows are given to whatever configuration there is: its own source is not read.
            return
        for name in unread_keys(self):
            default = Data.model_fields[name].default
            back = "null" if default is None else default
            yield (
                f"data.{name}: found {show(getattr(self, name))}; data.source '{self.source}' does not read it; set it "
                f"back to {back}, or data.source to {one_of(READ_BY[name])}"
            )

    def _repeated(self) -> Iterator[str]:
        names = self.class_names or ()
        if twice := next((name for name in names if names.count(name) > 1), None):
            yield f"data.class_names: found {show(twice)} more than once; expected a name of its own for each class"


class Model(Section):
    name: Text = "minilm"
    """`minilm`: the embedded all-MiniLM-L6-v2; `random-distilbert`: a small DistilBERT with random weights, to show
    what goes wrong; else a local folder or a hub id with any `transformers` encoder."""
    freeze: Literal["none", "base"] | Count = "none"
    """`none`: everything learns; `base`: only the head learns; N: the embeddings and the N lowest layers stay fixed."""
    keep_trainable: tuple[Text, ...] = ()
    """For experts: name fragments of parameters that learn although `freeze` covers them, such as `bias` for BitFit."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    """Dropout on hidden states, in the body and before the classifier; null: the model's own."""
    attention_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] | Literal["auto", "model"] = "auto"
    """`auto`: 0 on a CPU, where more than 0 takes the fused attention away and up to half the speed, else the model's
    own; `model`: the model's own."""


class Training(Section):
    epochs: Annotated[int, Field(ge=1, le=1000)] = 2
    """Passes over the training rows."""
    batch_size: Count = 32
    """Examples per optimizer step."""
    token_budget: Annotated[int, Field(ge=8, le=MOST)] | Literal["auto"] = "auto"
    """Padded tokens per forward pass at most: a batch that holds more is accumulated from several, of which a CPU
    computes up to four at a time. `auto`: what was fastest on this kind of device."""
    short_share: Share = 0.0
    """Share of the steps, from the first on, that see half of `data.max_length` of each text: less than half the work,
    for most of what they teach."""
    learning_rate: Rate = 8e-5
    """Peak rate of the body."""
    head_learning_rate: Rate | None = None
    """Peak rate of the head; null: as the body's."""
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Factor on the rate from each layer to the one below it; 1: the same rate for all."""
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    """AdamW's decay; never on biases and norms."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the rate falls after the warm-up."""
    warmup: Share = 0.06
    """Share of all steps in which the rate rises from 0 to its peak."""
    max_grad_norm: Annotated[float, Field(gt=0.0)] | None = 1.0
    """The gradient's norm is clipped to this; null: never."""
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Validate and keep an exponential moving average of the weights, which keeps this share of itself at each step;
    null: the weights themselves."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Probability mass of the training target that is spread over all classes."""
    class_weights: Literal["none", "balanced"] | tuple[Annotated[float, Field(gt=0.0)], ...] = "none"
    """Weight of each class in the loss; `balanced`: inverse to its frequency among the training rows."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Type of the training's matrix products; `auto` never picks one that the processor emulates. Validation,
    evaluation and prediction are in float32."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train."""
    threads: Count | None = None
    """CPU threads; null: one per physical core at hand."""
    evaluate_every: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Epochs between two validations; each writes a checkpoint."""
    checkpoint_every: Count | None = None
    """Optimizer steps between two checkpoints besides those at validation; null: none."""
    keep_last: Count = 2
    """Newest checkpoints to keep, besides the best up to each; with 1 none is left where the newest is damaged."""
    select_by: Literal["accuracy", "macro_f1", "loss"] = "accuracy"
    """The validation metric that chooses the best checkpoint; ties go to the lower loss."""
    patience: Count | None = None
    """Stop after this many validations in a row without a better one; null: never."""
    log_every: Count = 10
    """Optimizer steps between two records; the steps that are left at the end make one more."""
    trackers: tuple[Tracker, ...] = ("tensorboard",)
    """Trackers that Accelerate knows; those besides TensorBoard must be installed. With the extra `pictures`,
    TensorBoard also shows the confusion matrix after each validation."""


class Evaluation(Section):
    token_budget: Annotated[int, Field(ge=8, le=MOST)] | Literal["auto"] = "auto"
    """Padded tokens per forward pass at most, outside training; a CPU computes a pass on each of its threads."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """Coverage of the intervals."""
    text_baseline: bool = True
    """Train the naive-Bayes-weighted bigram model of Wang and Manning (2012) on the same rows, for comparison."""


class Checks(Section):
    policy: Literal["stop", "warn"] = "stop"
    """`stop`: an error refuses or ends the run; `warn`: the run goes on and the finding is recorded."""
    allow: dict[str, Text] = {}
    """Codes whose findings are accepted, each with the reason: `{DAT001: "one class on purpose"}`."""
    probe_seconds: Annotated[float, Field(ge=0.0, le=1e6)] = 20.0
    """Time for the short experiments before the first step (initial loss, gradients, memorising 20 texts); 0: none."""


class Config(Section):
    """One run, as asked for."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", json_schema_extra={"words": NAME})] = (
        "custom"
    )
    """Names the folder under `runs/`."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """Decides the split, the order of examples, the head's first weights and dropout."""
    data: Data = Data()
    """What to learn from."""
    model: Model = Model()
    """What learns."""
    training: Training = Training()
    """How it learns."""
    evaluation: Evaluation = Evaluation()
    """How the result is measured."""
    checks: Checks = Checks()
    """What to do about findings."""
