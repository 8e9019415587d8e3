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
    """The values by dotted key, from nested sections or dotted names; a mapping that is a `leaf` is kept whole.

    Two mappings for one key are merged; the later of two values wins.
    """
    merged: dict[str, Any] = {}
    for name, value in nested.items():
        inner = {"": value} if not isinstance(value, dict) or leaf(value) else flat(value, leaf)
        for rest, one in inner.items():
            key = f"{name}.{rest}" if rest else name
            both = isinstance(one, dict) and isinstance(merged.get(key), dict)
            merged[key] = {**merged[key], **one} if both else one
    return merged


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
    """A value for an error message: as JSON, shortened, with its type where that may be the mistake."""
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
        # The embedded sources have only texts and labels. Rows from Python were read elsewhere, and may have groups.
        "text_column": (*FILES, *HUB),
        "label_column": (*FILES, *HUB),
        "id_column": (*FILES, *HUB),
        "group_column": (*FILES, *HUB, "given"),
        "class_names": ("embedded", "rotten_tomatoes", *FILES, *HUB),
        "relabel": ("file", *HUB),
        "faulty_rows": ("file", *HUB),
    }
)
"""The sources that read a key. Keys that are not listed do not depend on the source."""


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
"""Larger than any count of rows, tokens or steps, and accepted by every library."""
Count = Annotated[int, Field(ge=1, le=MOST)]
Text = Annotated[str, Field(min_length=1)]
NAME = "1 to 64 letters, digits, dots, hyphens or underscores, a letter or digit first"
TruncationStrategy = Literal["head", "tail", "head_tail"]
Tracker = Literal["tensorboard", "wandb", "mlflow", "comet_ml", "aim", "clearml", "dvclive", "swanlab", "trackio"]


class Section(BaseModel):
    """Strict (no silent conversion), closed (no unknown keys) and frozen."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True)


class ValidationSplit(Section):
    size: Annotated[float, Field(gt=0.0, lt=1.0)] | Count = 0.1
    """The rows that are held out to choose the best checkpoint: a share below 1, or a number of rows."""
    strategy: Literal["stratified", "group", "random"] = "stratified"
    """How the validation rows are chosen. `stratified` keeps the class proportions; `group` keeps rows with the same
    value of `data.group_column` together; `random` is scikit-learn's plain `train_test_split`."""


class Subset(Section):
    size: Count | None = None
    """The number of training rows to use, chosen after the validation split; null uses all."""
    strategy: Literal["stratified", "random", "head"] = "stratified"
    """How the subset is chosen. `stratified` keeps the class proportions; `random` ignores them; `head` takes the
    first rows, which have a single class if the data is sorted by label."""


class Data(Section):
    source: Literal["embedded", "rotten_tomatoes", "imdb", "file", "hub", "sst2", "given"] = "embedded"
    """Where the rows come from. `embedded`: 25,000 IMDb reviews that come with Tenor, of which 2,000 are a fixed test
    split; `rotten_tomatoes`: 8,530 embedded sentences, for evaluation only; `imdb`: the official 25,000/25,000 split;
    `file`: your file or folder (`path`); `hub`: a dataset from the Hugging Face hub; `sst2`: SST-2 from
    the hub; `given`: rows passed to `tenor.train(config, data=…)` in Python."""
    path: Text | None = None
    """For `file`: the training rows in CSV, TSV, JSON, Parquet, Arrow, Excel (`book.xlsx#Sheet`) or fastText lines,
    also compressed; a folder of files with the same columns, with one folder of .txt files per class, or of
    `Dataset.save_to_disk`; or a pattern such as `part-*.csv`. For `imdb`: a folder of Parquet files, an extracted
    `aclImdb/` folder or the official archive; null downloads the archive and verifies its digest."""
    test_path: Text | None = None
    """For `file`: the test rows, in any form that `path` takes; with null the run has no test split."""
    hub_name: Text | None = None
    """For `hub`: the dataset's id, such as `stanfordnlp/imdb`."""
    hub_config: Text | None = None
    """For `hub`: the dataset's configuration, if it has several."""
    train_split: Text = "train"
    """For `hub`: the split to train on."""
    test_split: Text | None = "test"
    """For `hub`: the split to test on; with null the run has no test split."""
    text_column: Text = "text"
    """The column with the text."""
    label_column: Text = "label"
    """The column with the label: an integer, a string or a boolean. 5.0 counts as 5."""
    group_column: Text | None = None
    """A column such as `movie`: `data.validation.strategy=group` keeps rows with the same value together."""
    id_column: Text | None = None
    """The column with each row's id; null uses the source's ids, or the row numbers if it has none."""
    class_names: tuple[Text, ...] | None = None
    """The class names in the order of their indices 0, 1, …; null uses the source's names, or the sorted distinct
    labels if it has none. Labels that differ only in case, whitespace or Unicode normalization are one class, named
    after the most frequent spelling; two names listed here that differ in case are two classes."""
    relabel: dict[Text, Text | None] = {}
    """Labels to read as other labels, such as `{"1": negative, "3": null, "5": positive}`; null leaves out the rows
    with this label."""
    faulty_rows: Literal["refuse", "leave_out"] = "refuse"
    """What happens to rows whose text or label is missing or invalid. `refuse`: the whole file is refused; `leave_out`:
    these rows and rows with a blank text are left out, and a message says how many."""
    validation: ValidationSplit = ValidationSplit()
    """How the validation rows are split from the training rows."""
    subset: Subset = Subset()
    """Which of the training rows are used."""
    exclude: Text | None = None
    """A CSV file with a column `id`: the training rows to leave out, after the split and the subset. If it has a column
    `exclude`, as written by `tenor audit`, only its rows with `yes` count."""
    test_size: Count | None = None
    """The number of test rows to use, a stratified subset; null uses all."""
    max_length: Annotated[int, Field(ge=8, le=MOST)] = 256
    """The maximum number of tokens per text, with the special tokens; longer texts are truncated."""
    truncation: TruncationStrategy = "head_tail"
    """Which part of a truncated text is kept (Sun et al. 2019, "How to Fine-Tune BERT for Text Classification")."""
    head_share: Share = 0.5
    """For `head_tail`: the share of the kept tokens that comes from the beginning of the text."""

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
        if self.source == "given":  # Rows from Python replace any source, whose keys may still be set.
            return
        for name in unread_keys(self):
            default = Data.model_fields[name].default
            back = "null" if default is None else default
            yield (
                f"data.{name}: observed {show(getattr(self, name))}; data.source '{self.source}' does not read it; set "
                f"it back to {back}, or data.source to {one_of(READ_BY[name])}"
            )

    def _repeated(self) -> Iterator[str]:
        names = self.class_names or ()
        if twice := next((name for name in names if names.count(name) > 1), None):
            yield f"data.class_names: observed {show(twice)} more than once; expected different names"


class Model(Section):
    name: Text = "minilm"
    """The encoder. `minilm`: the embedded all-MiniLM-L6-v2; `random-distilbert`: a small DistilBERT with random
    weights, to demonstrate failures; or a local folder or a hub id with any `transformers` encoder."""
    freeze: Literal["none", "base"] | Count = "none"
    """Which parameters are frozen. `none`: all are trainable; `base`: only the head is trainable; a number N: the
    embeddings and the N lowest layers are frozen."""
    keep_trainable: tuple[Text, ...] = ()
    """For experts: parts of the names of parameters that stay trainable although `freeze` covers them, such as `bias`
    for BitFit."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    """Dropout on hidden states, in the encoder and before the classifier; null uses the model's value."""
    attention_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] | Literal["auto", "model"] = "auto"
    """Dropout on attention weights. `auto`: 0 on a CPU, where a value above 0 disables fused attention and costs up to
    half the speed, otherwise the model's value; `model`: the model's value."""

    hybrid: Literal["auto", "on", "off"] = "auto"
    """Whether the run's text baseline takes part in the predictions: logits of the encoder and log-probabilities of the
    baseline are added with weights fitted on the validation rows. `auto`: if this is significantly better on the
    validation rows; `on`: even if it is not; `off`: the model is the encoder alone."""


class Training(Section):
    epochs: Annotated[int, Field(ge=1, le=1000)] = 2
    """The number of passes over the training rows."""
    batch_size: Count = 32
    """The number of examples per optimizer step."""
    token_budget: Annotated[int, Field(ge=8, le=MOST)] | Literal["auto"] = "auto"
    """The maximum number of padded tokens per forward pass. The gradient of a larger batch is accumulated over several
    passes; a CPU computes up to four of them at a time. `auto` is the fastest measured value for this kind of
    device."""
    short_share: Share = 0.0
    """The share of the steps, counted from the first, that train on texts truncated to half of `data.max_length`. They
    need less than half the computation and teach most of what full texts do."""
    learning_rate: Rate = 8e-5
    """The peak learning rate of the encoder."""
    head_learning_rate: Rate | None = None
    """The peak learning rate of the head; null uses `training.learning_rate`."""
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """The factor on the learning rate from each layer to the one below it; 1 gives all layers the same rate."""
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    """AdamW's weight decay; it is not applied to biases and norms."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after the warm-up."""
    warmup: Share = 0.06
    """The share of all steps in which the learning rate rises from 0 to its peak."""
    max_grad_norm: Annotated[float, Field(gt=0.0)] | None = 1.0
    """The norm to which gradients are clipped; null does not clip."""
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """The decay of an exponential moving average (EMA) of the weights, which is then validated and saved; null uses the
    weights themselves."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """The probability mass of the training target that is spread over all classes."""
    class_weights: Literal["none", "balanced"] | tuple[Annotated[float, Field(gt=0.0)], ...] = "none"
    """The weight of each class in the loss; `balanced` is inverse to its frequency in the training rows."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """The type of matrix products in training. `auto`, on a CPU that multiplies bf16 in hardware: bf16 if it is faster
    than fp32 in a few steps of the run and agrees with it; on a GPU: bf16, or fp16 on older GPUs. Validation,
    evaluation and prediction always use float32."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """The device to train on; `auto` prefers a GPU."""
    threads: Count | None = None
    """The number of CPU threads; null uses one per available physical core."""
    evaluate_every: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """The part of an epoch between two validations; an epoch has as many as fit, evenly spaced. A checkpoint is written
    after each."""
    checkpoint_every: Count | None = None
    """The number of optimizer steps between additional checkpoints; null writes them only after validations."""
    keep_last: Count = 2
    """The number of newest checkpoints to keep, in addition to the best checkpoint up to each of them. With 1, a run
    whose newest checkpoint is damaged may have to start again."""
    select_by: Literal["accuracy", "macro_f1", "loss"] = "accuracy"
    """The validation metric that chooses the best checkpoint; ties go to the lower loss."""
    patience: Count | None = None
    """Training stops after this many validations in a row without a new best; null trains all epochs."""
    log_every: Count = 10
    """The number of optimizer steps per record in `metrics.jsonl`; the last record may have fewer."""
    trackers: tuple[Tracker, ...] = ("tensorboard",)
    """The experiment trackers to log to, through Accelerate; all but TensorBoard must be installed first. With the
    extra `pictures`, TensorBoard also shows the confusion matrix after each validation."""


class Adaptation(Section):
    corpus: Text | None = None
    """The texts to adapt to: a file, a folder or a pattern as for `data.path`, without labels; plain text has one text
    per line. null uses the training rows of this configuration."""
    text_column: Text = "text"
    """The column of `adaptation.corpus` with the text."""
    evaluated_texts: Literal["refuse", "leave_out"] = "refuse"
    """What happens if texts of the validation or the test split are in the corpus. `refuse`: the run is refused
    (DAT035); `leave_out`: these texts are left out of the corpus."""
    epochs: Annotated[int, Field(ge=1, le=1000)] = 3
    """The number of passes over the corpus; each pass selects other tokens to predict."""
    batch_size: Count = 32
    """The number of blocks per optimizer step."""
    max_length: Annotated[int, Field(ge=8, le=MOST)] | None = None
    """The maximum number of tokens per block, with the special tokens; longer texts become several blocks of similar
    length. null uses `data.max_length`."""
    mask_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.15
    """The share of a block's tokens that are selected for prediction. As for BERT, 80% of them are replaced by the mask
    token and 10% by a random token."""
    learning_rate: Rate = 2e-4
    """The peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    """AdamW's weight decay; it is not applied to biases and norms."""
    warmup: Share = 0.06
    """The share of all steps in which the learning rate rises from 0 to its peak; then it falls linearly."""


class Evaluation(Section):
    token_budget: Annotated[int, Field(ge=8, le=MOST)] | Literal["auto"] = "auto"
    """The maximum number of padded tokens per forward pass outside training; a CPU computes one pass per thread."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """The confidence level of the intervals."""
    text_baseline: bool = True
    """Whether to train the naive-Bayes-weighted bigram model of Wang and Manning (2012) on the same rows, for
    comparison."""


class Checks(Section):
    policy: Literal["stop", "warn"] = "stop"
    """What an error from a check does. `stop`: the run is refused or ended; `warn`: the run continues, and the finding
    is recorded."""
    allow: dict[str, Text] = {}
    """The codes of accepted findings, each with a reason: `{DAT001: "one class on purpose"}`."""
    probe_seconds: Annotated[float, Field(ge=0.0, le=1e6)] = 20.0
    """The seconds available for the short experiments before the first step (initial loss, gradients, memorizing 20
    texts); 0 skips them."""


class Config(Section):
    """The configuration of one run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", json_schema_extra={"words": NAME})] = (
        "custom"
    )
    """The name of the folder under `runs/`."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """The seed of the split, the order of the examples, the newly initialized weights and dropout."""
    data: Data = Data()
    """The rows."""
    model: Model = Model()
    """The model, and which of its parameters are trainable."""
    training: Training = Training()
    """How the model is trained."""
    adaptation: Adaptation = Adaptation()
    """How `tenor adapt` trains the encoder on texts without labels, before fine-tuning. Device, precision, threads,
    tokens per forward pass, clipping, validations, checkpoints and trackers are those of `training`."""
    evaluation: Evaluation = Evaluation()
    """How the result is measured."""
    checks: Checks = Checks()
    """What happens with findings."""

    @model_validator(mode="after")
    def _hybrid_needs_its_baseline(self) -> "Config":
        if self.model.hybrid == "on" and not self.evaluation.text_baseline:
            raise ValueError("model.hybrid 'on' needs the text baseline: set evaluation.text_baseline to true")
        return self
