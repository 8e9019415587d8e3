"""What a model's files may hold: weights that fit their configuration, and data, never code to run."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.nn import ModuleList

from tenor.errors import UserError

ATTENTION = ("eager", "sdpa")
"""PyTorch's own. Other names make `transformers` fetch a kernel from a hub and run it."""

CODE_KEYS = ("auto_map", "custom_pipelines", "custom_generate", "kernel_config", "quantization_config")
"""Keys that name Python files, kernels or packages to load."""

WEIGHTS = "model.safetensors"
MAX_LAYERS = 1_000


def refuse_code(name: str, location: str) -> None:
    """Read the configurations of model and tokenizer as data, before `transformers` acts on them.

    Raises:
        UserError: a key that names code to run, an attention that is not PyTorch's own, or an adapter.
        OSError, ValueError: a configuration that can't be found or read.
    """
    from transformers import PreTrainedConfig
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    if (Path(location) / "adapter_config.json").exists():
        raise UserError(
            f"{name}/adapter_config.json: an adapter, which names another model to load; merge it into that model first"
        )
    config, _ = PreTrainedConfig.get_config_dict(location)
    _refuse_sizes(name, location, config)
    for file, values in (("config.json", config), ("tokenizer_config.json", get_tokenizer_config(location))):
        for place, key, value in _items(values):
            where = f"{name}/{file}, key {place}"
            if key in CODE_KEYS and value:
                raise UserError(
                    f"{where}: names code to run, and Tenor runs none that comes with a model. Remove the key if the "
                    f"model works without it, else choose a model of an architecture that transformers has itself"
                )
            if "attn_implementation" in key and not _is_allowed(value):
                raise UserError(
                    f"{where}: the attention {value!r} would be fetched and run as code; expected one of "
                    f"{', '.join(ATTENTION)}. Remove the key, or write one of these"
                )


def refuse_misfits(name: str, model: Any, loading: dict[str, Any]) -> None:
    """Judge what `from_pretrained(…, output_loading_info=True)` reports of the encoder; a head of its own may differ.

    Raises:
        UserError: tensors of the encoder that are missing, of another shape, or have no place in the model.
    """
    prefix = f"{model.base_model_prefix}."
    parts = {part for part, _ in model.base_model.named_children()}
    missing = [key for key in loading["missing_keys"] if _in_encoder(key, prefix)]
    reshaped = [key for key in loading["mismatched_keys"] if _in_encoder(_name_of(key), prefix)]
    # Old checkpoints hold buffers, such as position ids, that the model computes itself.
    extra = [
        key
        for key in loading["unexpected_keys"]
        if key.removeprefix(prefix).partition(".")[0] in parts and key.endswith((".weight", ".bias"))
    ]
    wrong = {
        "are missing": missing,
        "have another shape": reshaped,
        "have no place in the model": extra,
    }
    told = [f"{len(keys)} {what}, such as {_shown(min(keys, key=str))}" for what, keys in wrong.items() if keys]
    if told:
        raise UserError(
            f"{name}: the weights don't fit the encoder that config.json describes: of its tensors {'; '.join(told)}. "
            f"Take both files from the same model"
        )


def refuse_further_layers(name: str, model: Any, loading: dict[str, Any]) -> None:
    """Refuse tensors of numbered layers beyond those that the model has: predictions would be those of a part of it.

    Raises:
        UserError: such tensors; all others that have no place (buffers, a pooler, another head) are left to the caller.
    """
    stacks = {path: len(module) for path, module in model.named_modules() if isinstance(module, ModuleList)}
    # A file may name its tensors with or without the encoder's own prefix.
    prefix = f"{model.base_model_prefix}."
    stacks |= {path.removeprefix(prefix): length for path, length in stacks.items()}
    further = [
        (key, path, length)
        for key in sorted(map(_name_of, loading["unexpected_keys"]))
        for path, length in stacks.items()
        if (found := re.match(rf"{re.escape(path)}\.(\d+)\.", key)) and int(found[1]) >= length
    ]
    if further:
        key, path, length = further[0]
        raise UserError(
            f"{name}: config.json describes {length} layers in {path}, but the weights hold more: {len(further)} "
            f"tensors, such as {key}, would be left out. Take both files from the same model"
        )


def _refuse_sizes(name: str, location: str, config: dict[str, Any]) -> None:
    """Refuse sizes that would take the memory before anyone sees that the weights don't fit."""
    weights = Path(location) / WEIGHTS
    for key, value in config.items():
        if key.endswith("layers") and isinstance(value, int) and value > MAX_LAYERS:
            raise UserError(f"{name}/config.json, key {key}: {value:,} layers, at most {MAX_LAYERS:,} are built")
        # Every size of an encoder is that of some tensor, which the file holds with a byte per number at least.
        if isinstance(value, int) and not key.endswith("_id") and weights.is_file() and value > weights.stat().st_size:
            raise UserError(
                f"{name}/config.json, key {key}: {value:,}, but {WEIGHTS} has only {weights.stat().st_size:,} bytes. "
                f"Take both files from the same model"
            )


def _items(values: Any, place: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every key, at every depth: the keys that lead to it, itself, its value."""
    pairs = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in pairs:
        inner = f"{place}.{key}" if place else str(key)
        yield inner, str(key), value
        yield from _items(value, inner)


def _is_allowed(attention: Any) -> bool:
    if isinstance(attention, dict):  # One for each part of the model.
        return all(_is_allowed(value) for value in attention.values())
    return attention is None or isinstance(attention, bool) or attention in ATTENTION


def _in_encoder(key: str, prefix: str) -> bool:
    return key.startswith(prefix) and not key.startswith(f"{prefix}pooler.")


def _name_of(key: Any) -> str:
    return str(key[0] if isinstance(key, tuple) else key)


def _shown(key: Any) -> str:
    """A tensor's name, and where both are known its two shapes."""
    if not isinstance(key, tuple):
        return str(key)
    shapes = [tuple(shape) for shape in key[1:]]
    return f"{key[0]} ({shapes[0]} in the file, {shapes[1]} in the model)" if len(shapes) == 2 else str(key[0])
