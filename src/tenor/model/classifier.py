"""Load a sequence classifier (encoder and head) with class names and dropout from the settings."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tenor.config.schema import Model
from tenor.errors import TenorError, UserError, advice_on_memory, first_line
from tenor.model.folder import refuse_code, refuse_further_layers, refuse_misfits, refuse_mismatches, refuse_other_task
from tenor.model.foreign import (
    CROSS_ENCODER_MARKS,
    refuse_foreign_file,
    refuse_foreign_folder,
    refuse_id_without_safetensors,
    refuse_other_weights,
    refuse_prefix,
)
from tenor.model.tokenizer import load_tokenizer, refuse_other_vocabulary
from tenor.runs.files import read_json
from tenor.runs.process_state import SETTINGS

RANDOM = "random-distilbert"
"""`model.name` of a small DistilBERT with random weights, created on loading."""

ATTENTION_DROPOUT_KEYS = ("attention_probs_dropout_prob", "attention_dropout")
HIDDEN_DROPOUT_KEYS = ("hidden_dropout_prob", "dropout", "hidden_dropout", "resid_pdrop")
HEAD_DROPOUT_KEYS = ("classifier_dropout", "seq_classif_dropout")
JSON_FILES = ("config.json", "tokenizer_config.json", "tokenizer.json", "special_tokens_map.json", "added_tokens.json")
DOES_NOT_FIT = ("while the model was loaded", "free some, or choose a smaller model.name")
"""Phase and fix, the arguments of `advice_on_memory`."""


@dataclass(frozen=True)
class Classifier:
    """A `transformers` sequence classifier, its tokenizer, and the origin of both."""

    model: Any
    tokenizer: Any
    origin: str
    new_weights: tuple[str, ...]
    """Newly initialized parameters, which the source does not contain: usually those of the head, and no others."""
    attention_dropout: float
    """Dropout on attention probabilities that the model uses."""


def load_classifier(settings: Model, class_names: tuple[str, ...], seed: int, device: str) -> Classifier:
    """Load an encoder with a head of `len(class_names)` outputs: the source's if it has that size, otherwise a new one.

    The initial weights of a new head depend only on `seed`.

    Raises:
        UserError: no such local or hub model, a missing tokenizer, or a setting that this kind of model does not
            support.
    """
    location = locate(settings.name)
    if Path(location).is_file():
        refuse_foreign_file(settings.name, Path(location))
    config, tokenizer = _random_encoder() if settings.name == RANDOM else _pretrained(settings.name, location)
    config.id2label = dict(enumerate(class_names))
    config.label2id = {name: index for index, name in enumerate(class_names)}
    config.problem_type = "single_label_classification"
    for key in (*CROSS_ENCODER_MARKS, "function_to_apply"):  # They describe the outputs that the source had.
        if hasattr(config, key):
            delattr(config, key)
    attention_dropout = set_dropout(config, settings, device)
    with SETTINGS:  # The generator is shared by the process: two loads at once would mix their seeds.
        torch.manual_seed(seed)
        if settings.name == RANDOM:
            from transformers import AutoModelForSequenceClassification

            model = AutoModelForSequenceClassification.from_config(config)
            new_weights = tuple(sorted(name for name, _ in model.named_parameters()))
        else:
            model, new_weights = _load_weights(settings.name, location, config)
    refuse_other_vocabulary(settings.name, tokenizer, model, pads=True)
    return Classifier(model, tokenizer, settings.name, new_weights, attention_dropout)


def load_saved_classifier(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer saved in `folder`, in float32 and in evaluation mode.

    Raises:
        UserError: missing or unexpected tensors, tensors of another shape, or a missing tokenizer.
    """
    model, tokenizer, loading = _load_whole(str(folder), local=True, fix="Restore the folder or train again")
    wrong = {kind: sorted(loading[kind]) for kind in ("missing_keys", "unexpected_keys") if loading[kind]}
    if wrong:
        raise UserError(f"{folder}: the weights don't fit the model: {wrong}. Restore the folder or train again")
    return model, tokenizer


def load_trained_classifier(name: str) -> tuple[Any, Any]:
    """Model and tokenizer of any `transformers` sequence classifier: a folder or a hub id.

    In float32 and in evaluation mode. Unexpected tensors, such as a pretraining head, are ignored, as `transformers`
    does; unexpected layers are an error.

    Raises:
        UserError: nothing that can be loaded, a missing tokenizer or that of another model, a model of another task,
            parameters that would be newly initialized, or more layers than the configuration describes.
    """
    location = locate(name)
    local = Path(location).is_dir()
    if local:
        refuse_foreign_folder(name, Path(location))
    model, tokenizer, loading = _load_whole(location, local, fix="Use a folder that save_pretrained wrote completely")
    refuse_other_task(name, model, bool(loading["missing_keys"]))
    if loading["missing_keys"]:
        refuse_prefix(name, location, loading["missing_keys"], loading["unexpected_keys"])
        missing = ", ".join(sorted(loading["missing_keys"])[:4])
        raise UserError(
            f"{name}: not a trained classifier: the weights don't contain {missing}, which would be newly initialized. "
            f"Fine-tune it first: tenor train CONFIG model.name={name}"
        )
    refuse_further_layers(name, model, loading)
    refuse_other_vocabulary(name, tokenizer, model)
    return model, tokenizer


def load_configuration(folder: Path) -> tuple[Any, Any]:
    """Configuration and tokenizer of a model whose weights are in a format that `transformers` doesn't read.

    Raises:
        UserError: files that can't be read, code to run, a missing tokenizer, or a tokenizer without words.
    """
    from transformers import AutoConfig

    with _loading(str(folder), "Restore the folder or export again"):
        refuse_code(str(folder), str(folder))
        with quiet_transformers():
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            return config, load_tokenizer(folder, local=True)


def _load_whole(location: str, local: bool, fix: str) -> tuple[Any, Any, dict[str, Any]]:
    """Model, tokenizer, and the loading report of `transformers`; `fix` is the advice if they can't be loaded."""
    from transformers import AutoModelForSequenceClassification

    with _loading(location, fix):
        refuse_code(location, location)
        refuse_other_weights(location, location)
        with advice_on_memory(*DOES_NOT_FIT), quiet_transformers():
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                location,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=local,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
            refuse_mismatches(location, loading)
            tokenizer = load_tokenizer(location, local=local)
    _use_full_attention(model)
    return model.eval(), tokenizer, loading


@contextmanager
def _loading(location: str, fix: str) -> Iterator[None]:
    """Turn any error of `transformers` into a UserError, with file and line if a JSON file can't be read."""
    try:
        yield
    except TenorError:
        raise
    # A broken folder (JSON, tokenizer, tensors, sizes) raises many types of error; none is a bug in Tenor.
    except Exception as error:
        refuse_id_without_safetensors(location, error)
        for file in (Path(location, name) for name in JSON_FILES):
            if file.is_file():
                read_json(file)
        meaning = explained(error) or f"the model can't be loaded: {first_line(error)}. {fix}"
        raise UserError(f"{location}: {meaning}") from error


NO_TEXT_CLASSIFIER = (
    "transformers has no text classifier of this kind of model. Use a text encoder, such as BERT, RoBERTa or DeBERTa"
)
EXPLAINED = (
    (
        "Unrecognized configuration class",
        NO_TEXT_CLASSIFIER,
    ),
    (
        "deserializing header",
        "model.safetensors is incomplete or damaged. Copy or download it again",
    ),
    (
        "requires `num_labels > 1`",
        "the model has one output and problem_type single_label_classification, so training could teach it nothing: "
        "the cross-entropy of one class is always 0. To fine-tune its encoder, remove problem_type from config.json",
    ),
)
"""Errors of `transformers` and safetensors by a part of their message, and what they mean."""


def explained(error: Exception) -> str | None:
    """What an error of another library means for the user; None if its own message has to do."""
    return next((meaning for part, meaning in EXPLAINED if part in str(error)), None)


def locate(name: str) -> str:
    """The folder or hub id that `model.name` refers to."""
    if name == "minilm":
        from tenor.data.sources.embedded import embedded_encoder_folder

        return str(embedded_encoder_folder())
    folder = Path(name)
    if not folder.is_dir():
        return name
    # A run, such as one of `tenor adapt`, has its model in a folder of its own.
    is_run = (folder / "manifest.json").is_file() and not (folder / "config.json").is_file()
    inner = folder / "model"
    return str((inner if is_run and (inner / "config.json").is_file() else folder).resolve())


def position_count(model: Any) -> int | None:
    """The most tokens per text that a `transformers` model has positions for; None: no limit."""
    positions = most_positions(model.config)
    if positions is None:
        return None
    tables = (module for name, module in model.named_modules() if name.endswith(".position_embeddings"))
    padding = (getattr(table, "padding_idx", None) for table in tables)
    # RoBERTa-like models number positions from the padding id + 1, so those up to the padding id are never used. Only
    # their position embeddings have a padding id.
    return positions - max((index + 1 for index in padding if index is not None), default=0)


def most_positions(config: Any) -> int | None:
    """The positions in a configuration; the model may leave a few unused (`position_count`). None: no limit."""
    positions = getattr(config, "max_position_embeddings", None)
    return positions if positions is not None and positions > 0 else None


def set_dropout(config: Any, settings: Model, device: str) -> float:
    """Write the dropout of `settings` into a `transformers` configuration; returns that on attention probabilities.

    Raises:
        UserError: a dropout that this kind of model does not have.
    """
    attention_key = next((key for key in ATTENTION_DROPOUT_KEYS if hasattr(config, key)), None)
    if settings.dropout is not None:
        hidden = [key for key in HIDDEN_DROPOUT_KEYS if hasattr(config, key)]
        if not hidden:
            raise UserError(
                f"model.dropout: a {config.model_type} model has no dropout on hidden states. Remove this setting"
            )
        for key in (*hidden, *(key for key in HEAD_DROPOUT_KEYS if hasattr(config, key))):
            setattr(config, key, settings.dropout)
    wanted = settings.attention_dropout
    if wanted == "auto":
        wanted = 0.0 if device == "cpu" else "model"
    if isinstance(wanted, float | int):
        if attention_key is not None:
            setattr(config, attention_key, float(wanted))
        elif wanted > 0:
            raise UserError(
                f"model.attention_dropout: a {config.model_type} model has no attention dropout. Remove this setting"
            )
    return float(getattr(config, attention_key)) if attention_key else 0.0


def weights_digest(parameters: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of names, types, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(parameters.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Switch off progress bars and load reports of `transformers`; Tenor reports their content.

    Only one block at a time runs in this process: both settings apply to all threads, and so does much of what
    `transformers` changes while it loads a model.
    """
    from transformers.utils import logging

    with SETTINGS:
        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()


def _use_full_attention(model: Any) -> None:
    """Switch BigBird to full attention from the start.

    It would do so at the first short text, so later results would depend on the order of the texts.
    """
    switch = next((module for module in model.modules() if hasattr(module, "set_attention_type")), None)
    if switch is not None:
        switch.set_attention_type("original_full")


def _pretrained(name: str, location: str) -> tuple[Any, Any]:
    """Configuration and tokenizer of a `transformers` model."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    try:
        if Path(location).is_dir():
            refuse_foreign_folder(name, Path(location), training=True)
        refuse_code(name, location)
        refuse_other_weights(name, location)
        config = AutoConfig.from_pretrained(location, trust_remote_code=False)
        if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
            raise UserError(f"{name}: {NO_TEXT_CLASSIFIER}")
        return config, load_tokenizer(location, local=False)
    except UserError:
        raise
    except Exception as error:  # Broken files raise many types of error; none is a bug in Tenor.
        raise UserError(_loading_failed(name, error)) from error


def _random_encoder() -> tuple[Any, Any]:
    """A two-layer DistilBERT with the embedded tokenizer: for tests of the pipeline, not for accuracy."""
    from transformers import DistilBertConfig

    tokenizer = load_tokenizer(locate("minilm"), local=True)
    size = len(tokenizer)
    return DistilBertConfig(vocab_size=size, dim=64, hidden_dim=256, n_layers=2, n_heads=4), tokenizer


def load_model(auto_class: Any, name: str, location: str, config: Any) -> tuple[Any, dict[str, Any]]:
    """A model of the kind that one of the `AutoModel…` classes loads, in float32, and what `transformers` reports of
    its weights.

    Raises:
        UserError: broken weights, or none in safetensors.
        TenorError: memory ran out.
    """
    try:
        with advice_on_memory(*DOES_NOT_FIT), quiet_transformers():
            return auto_class.from_pretrained(
                location,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except TenorError:
        raise
    except Exception as error:  # As above: broken weights raise many types of error.
        refuse_id_without_safetensors(name, error)
        raise UserError(_loading_failed(name, error)) from error


def newly_initialized(loading: dict[str, Any]) -> set[str]:
    """The keys that the weights don't contain, or in another shape, as the head of another task."""
    # A key is a tuple for a tensor of another shape.
    mismatched = [key[0] if isinstance(key, tuple) else key for key in loading["mismatched_keys"]]
    return {*loading["missing_keys"], *mismatched}


def _load_weights(name: str, location: str, config: Any) -> tuple[Any, tuple[str, ...]]:
    """The model, and the names of its newly initialized parameters."""
    from transformers import AutoModelForSequenceClassification

    model, loading = load_model(AutoModelForSequenceClassification, name, location, config)
    missing = [key for key in loading["missing_keys"] if key.startswith(f"{model.base_model_prefix}.")]
    refuse_prefix(name, location, missing, loading["unexpected_keys"])
    refuse_misfits(name, model, loading)
    _use_full_attention(model)
    return model, tuple(sorted(newly_initialized(loading)))


def _loading_failed(name: str, error: Exception) -> str:
    if (meaning := explained(error)) is not None:
        return f"model.name: {name!r}: {meaning}"
    return (
        f"model.name: {name!r} can't be loaded: {first_line(error)}\n"
        f"  Expected a local folder with config.json and model.safetensors, or the id of a model on a reachable hub.\n"
        f"  The embedded encoder needs neither: model.name=minilm"
    )
