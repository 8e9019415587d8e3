"""What a model folder may contain: weights that fit the configuration, class names, and no code to run."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch.nn import ModuleList

from tenor.data.sources.rows import MAX_CHARACTERS, shorten
from tenor.errors import UserError, is_command


def class_names(config: Any, origin: str) -> tuple[str, ...]:
    """The names in a `transformers` configuration, in the order of the outputs; `origin` is the model's folder or id.

    Raises:
        UserError: class numbers other than 0 … K-1, or names that `require_class_names` refuses.
    """
    where, id2label = f"{origin}/config.json, key id2label", config.id2label
    wanted = list(range(config.num_labels))
    if not isinstance(id2label, dict) or not wanted or sorted(id2label, key=str) != sorted(wanted, key=str):
        observed = ", ".join(shorten(key) for key in list(id2label)[:10]) if isinstance(id2label, dict) else id2label
        raise UserError(
            f"{where}: the class numbers are {observed or 'missing'}, expected 0 … K-1, one per output of the model. "
            "Renumber the classes in the order of the outputs"
        )
    return require_class_names([id2label[index] for index in wanted], where)


def require_class_names(names: Sequence[object], where: str) -> tuple[str, ...]:
    """Return the names unchanged.

    Raises:
        UserError: a name that is not a string or integer, is empty, too long or repeated, or contains a control
            character.
    """
    for name in names:
        fault = _fault(name)
        if fault:
            raise UserError(f"{where}: the class name {shorten(name)} {fault}. Give the class another name")
    repeated = [name for name, count in Counter(map(str, names)).items() if count > 1]
    if repeated:
        raise UserError(f"{where}: {shorten(repeated[0])} is the name of more than one class. Rename all but one")
    return tuple(map(str, names))


def _fault(name: object) -> str | None:
    # Integers are common class names; any other JSON type is a mistake.
    if isinstance(name, bool) or not isinstance(name, str | int):
        return f"is {type(name).__name__}, expected a string"
    if not str(name).strip():
        return "is empty"
    if len(str(name)) > MAX_CHARACTERS["label"]:
        return f"has {len(str(name)):,} characters, expected at most {MAX_CHARACTERS['label']}"
    return "contains a control character" if any(map(is_command, str(name))) else None


ATTENTION = ("eager", "sdpa")
"""The attention implementations in PyTorch. Other names make `transformers` download a kernel from a hub and run it."""

CODE_KEYS = ("auto_map", "custom_pipelines", "custom_generate", "kernel_config", "quantization_config")
"""Keys that name Python files, kernels or packages to load."""

WEIGHTS = "model.safetensors"
MAX_LAYERS = 1_000


def refuse_code(name: str, location: str) -> None:
    """Check the configurations of model and tokenizer as data, before `transformers` uses them.

    Raises:
        UserError: a key that names code to run, an attention implementation other than PyTorch's, a size that the file
            of weights is too small for.
        OSError, ValueError: a configuration that can't be found or read.
    """
    from transformers import PreTrainedConfig
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    config, _ = PreTrainedConfig.get_config_dict(location)
    _refuse_sizes(name, location, config)
    for file, values in (("config.json", config), ("tokenizer_config.json", get_tokenizer_config(location))):
        for place, key, value in _items(values):
            where = f"{name}/{file}, key {place}"
            if key == "quantization_config" and value:
                raise UserError(
                    f"{where}: the weights are quantized, which needs another package's code to compute with. Use the "
                    "model that was quantized; or with that package installed, convert it in transformers: "
                    "model.dequantize(), then model.save_pretrained(NEW)"
                )
            if key in CODE_KEYS and value:
                raise UserError(
                    f"{where}: names code to run, and Tenor never runs code that comes with a model. Remove the key if "
                    f"the model works without it; otherwise choose a model whose architecture is part of transformers"
                )
            if "attn_implementation" in key and not _is_allowed(value):
                raise UserError(
                    f"{where}: the attention implementation {value!r} would be downloaded and run as code; expected "
                    f"one of {', '.join(ATTENTION)}. Change the value, or remove the key"
                )


def refuse_misfits(name: str, model: Any, loading: dict[str, Any]) -> None:
    """Check the report of `from_pretrained(…, output_loading_info=True)` on the encoder; the head may differ.

    Raises:
        UserError: tensors of the encoder that are missing, have another shape, or are not part of the model.
    """
    prefix = f"{model.base_model_prefix}."
    parts = {part for part, _ in model.base_model.named_children()}
    missing = [key for key in loading["missing_keys"] if _in_encoder(key, prefix)]
    reshaped = [key for key in loading["mismatched_keys"] if _in_encoder(_name_of(key), prefix)]
    # Old checkpoints contain buffers, such as position ids, that the model now computes.
    extra = [
        key
        for key in loading["unexpected_keys"]
        if key.removeprefix(prefix).partition(".")[0] in parts and key.endswith((".weight", ".bias"))
    ]
    wrong = {
        "are missing": missing,
        "have another shape": reshaped,
        "are not part of the model": extra,
    }
    faults = [f"{len(keys)} {what}, for example {_shown(min(keys, key=str))}" for what, keys in wrong.items() if keys]
    if faults:
        raise UserError(
            f"{name}: the weights don't fit the encoder in config.json: of its tensors, {'; '.join(faults)}. "
            "Use both files from the same model"
        )


def refuse_mismatches(name: str, loading: dict[str, Any]) -> None:
    """Raises UserError for tensors with another shape than in the model that the configuration describes."""
    if reshaped := sorted(loading["mismatched_keys"], key=_name_of):
        raise UserError(
            f"{name}: the weights don't fit config.json: {len(reshaped)} tensors have another shape, for example "
            f"{_shown(reshaped[0])}. Use both files from the same model; for the last layer, id2label must name each "
            "of its outputs"
        )


CLASSIFIER = "ForSequenceClassification"


def refuse_other_task(name: str, model: Any, incomplete: bool) -> None:
    """Refuse a model that was saved by another class: its tensors may fit a classifier by name and mean something else.

    For example, the head of a token classifier has the name and shape of a text classifier's.

    Raises:
        UserError: `architectures` in the configuration names no sequence classifier, and either that is the name of
            another task's head, or the weights are complete (not `incomplete`).
    """
    saved = model.config.architectures
    if not saved or any(str(one).endswith(CLASSIFIER) for one in saved):
        return
    # A headless encoder (BertModel) is incomplete; the message about missing tensors says what to do.
    if incomplete and not any("For" in str(one) for one in saved):
        return
    raise UserError(
        f"{name}/config.json, key architectures: the model was saved as {', '.join(map(str, saved))}, expected "
        f"{type(model).__name__}: its outputs are not the classes of a text. Fine-tune it first: tenor train CONFIG "
        f"model.name={name}"
    )


def refuse_further_layers(name: str, model: Any, loading: dict[str, Any]) -> None:
    """Refuse weights with more layers than the configuration describes: only part of the model would predict.

    Raises:
        UserError: tensors of further layers. Other unexpected tensors (buffers, a pooler, another head) are accepted.
    """
    stacks = {path: len(module) for path, module in model.named_modules() if isinstance(module, ModuleList)}
    # Files name their tensors with or without the encoder's prefix.
    prefix = f"{model.base_model_prefix}."
    stacks |= {path.removeprefix(prefix): length for path, length in stacks.items()}
    further = [
        (key, path, length)
        for key in sorted(map(_name_of, loading["unexpected_keys"]))
        for path, length in stacks.items()
        if (match := re.match(rf"{re.escape(path)}\.(\d+)\.", key)) and int(match[1]) >= length
    ]
    if further:
        key, path, length = further[0]
        raise UserError(
            f"{name}: config.json describes {length} layers in {path}, but the weights have more: {len(further)} "
            f"tensors, for example {key}, would be left out. Use both files from the same model"
        )


def _refuse_sizes(name: str, location: str, config: dict[str, Any]) -> None:
    """Refuse sizes that would use up the memory before the weights can be compared with the model."""
    weights = Path(location) / WEIGHTS
    for key, value in config.items():
        if key.endswith("layers") and isinstance(value, int) and value > MAX_LAYERS:
            raise UserError(f"{name}/config.json, key {key}: {value:,} layers, expected at most {MAX_LAYERS:,}")
        # Every size in the configuration is a dimension of some tensor, stored with at least one byte per number.
        if isinstance(value, int) and not key.endswith("_id") and weights.is_file() and value > weights.stat().st_size:
            raise UserError(
                f"{name}/config.json, key {key}: {value:,}, but {WEIGHTS} has only {weights.stat().st_size:,} bytes. "
                f"Use both files from the same model"
            )


def _items(values: Any, place: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every key at every depth: its path, the key, its value."""
    pairs = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in pairs:
        inner = f"{place}.{key}" if place else str(key)
        yield inner, str(key), value
        yield from _items(value, inner)


def _is_allowed(attention: Any) -> bool:
    if isinstance(attention, dict):  # One implementation per part of the model.
        return all(_is_allowed(value) for value in attention.values())
    return attention is None or isinstance(attention, bool) or attention in ATTENTION


def _in_encoder(key: str, prefix: str) -> bool:
    return key.startswith(prefix) and not key.startswith(f"{prefix}pooler.")


def _name_of(key: Any) -> str:
    return str(key[0] if isinstance(key, tuple) else key)


def _shown(key: Any) -> str:
    """A tensor's name, with its shapes in the file and in the model if both are given."""
    if not isinstance(key, tuple):
        return str(key)
    shapes = [tuple(shape) for shape in key[1:]]
    return f"{key[0]} ({shapes[0]} in the file, {shapes[1]} in the model)" if len(shapes) == 2 else str(key[0])
