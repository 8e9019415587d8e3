"""What a model folder may contain: weights that fit the configuration, class names, and no code to run."""

import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch.nn import ModuleList

from tenor.data.sources.labels import MAX_CHARACTERS
from tenor.data.sources.rows import shorten
from tenor.errors import UserError, is_command


def class_names(config: Any, origin: str) -> tuple[str, ...]:
    """The names in a `transformers` configuration, in the order of the outputs; `origin` is the model's folder or id.

    Raises:
        UserError: numbers other than 0 … K-1, or names that `require_class_names` refuses.
    """
    where, id2label = f"{origin}/config.json, key id2label", config.id2label
    wanted = list(range(config.num_labels))
    if not isinstance(id2label, dict) or not wanted or sorted(id2label, key=str) != sorted(wanted, key=str):
        found = ", ".join(shorten(key) for key in list(id2label)[:10]) if isinstance(id2label, dict) else id2label
        raise UserError(
            f"{where}: numbers the classes {found or 'not at all'}; expected 0 … K-1, each output of the model once. "
            "Renumber them in the order of the outputs"
        )
    return require_class_names([id2label[index] for index in wanted], where)


def require_class_names(names: Sequence[object], where: str) -> tuple[str, ...]:
    """The names as they are, or a UserError for one that is no name, comes twice, or holds a control character."""
    for name in names:
        fault = _fault(name)
        if fault:
            raise UserError(f"{where}: the class name {shorten(name)} {fault}. Give the class another name")
    repeated = [name for name, count in Counter(map(str, names)).items() if count > 1]
    if repeated:
        raise UserError(f"{where}: {shorten(repeated[0])} is the name of more than one class; give each its own")
    return tuple(map(str, names))


def _fault(name: object) -> str | None:
    # Numbers are what classes are often called; anything else of JSON was not meant as a name.
    if isinstance(name, bool) or not isinstance(name, str | int):
        return f"is {type(name).__name__}, expected a string"
    if not str(name).strip():
        return "is empty"
    if len(str(name)) > MAX_CHARACTERS["label"]:
        return f"has {len(str(name)):,} characters, expected at most {MAX_CHARACTERS['label']}"
    return "holds a control character" if any(map(is_command, str(name))) else None


SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
SHOWN_FILES = 10

FROM_PICKLES = (
    "import pathlib, sys, torch; from safetensors.torch import save_file; folder = pathlib.Path(sys.argv[1]); "
    'read = lambda file: torch.load(file, map_location="cpu", weights_only=True); '
    'tensors = {k: v.clone().contiguous() for f in sorted(folder.glob("pytorch_model*.bin")) for k, v in '
    'read(f).items()}; save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})'
)
"""All tensors, head or not, under their own names. `weights_only=True` unpickles tensors alone and runs nothing."""

FROM_FRAMEWORK = (
    "import sys, transformers as t; folder = sys.argv[1]; architecture = "
    "t.AutoConfig.from_pretrained(folder).architectures[0]; getattr(t, architecture).from_pretrained(folder, "
    "{option}=True).save_pretrained(folder)"
)
FRAMEWORKS = (
    ("tf_model*.h5", "TensorFlow's", "from_tf", "tensorflow tf-keras"),
    ("flax_model*.msgpack", "Flax's", "from_flax", "flax jax"),
)
OTHER_TRANSFORMERS = "transformers==4.49.0"
"""Reads both, as version 5 doesn't; 4.53 and 4.57 fail to (with tensors without data, or as shared ones)."""


def refuse_other_weights(name: str, location: str) -> None:
    """Raises UserError for a folder without safetensors, with the command that makes them from what it has instead."""
    folder = Path(location)
    if not folder.is_dir() or any((folder / file).is_file() for file in SAFETENSORS):
        return
    if pickles := _names(folder, "pytorch_model*.bin"):
        raise UserError(
            f"{name}: the weights are in {_listed(pickles)}, a pickle, which Tenor never reads; expected "
            "model.safetensors. This command reads tensors alone from it, and writes model.safetensors next to it: "
            f"{_command(sys.executable, FROM_PICKLES, folder)}"
        )
    for pattern, whose, option, packages in FRAMEWORKS:
        if files := _names(folder, pattern):
            raise UserError(
                f"{name}: the weights are in {_listed(files)}, {whose} form; expected model.safetensors. In a Python "
                f"environment of its own, with pip install {OTHER_TRANSFORMERS} torch {packages}, this command writes "
                f"that file: {_command('python', FROM_FRAMEWORK.format(option=option), folder)}"
            )
    if others := [file for file in _names(folder, "*.safetensors") if not file.startswith("adapter_")]:
        raise UserError(f"{name}: has {_listed(others)}, expected model.safetensors. Rename it")
    settings = "; training_args.bin holds settings of training" if (folder / "training_args.bin").exists() else ""
    raise UserError(
        f"{name}: there are no weights: expected model.safetensors, found {_listed(_names(folder, '*'))}{settings}. "
        "Copy the file with the weights there, or take another folder"
    )


def refuse_id_without_safetensors(name: str, error: Exception) -> None:
    """Raises UserError where `transformers` says with `error` that an id of a hub has no safetensors."""
    if "does not appear to have a file named model.safetensors" in str(error):
        raise UserError(
            f"{name}: its repository has no model.safetensors, and Tenor reads no other weights. Fetch it, and give "
            "the folder instead of the id; where its weights can be converted, the command is printed then: "
            f"hf download {name} --local-dir {name.rpartition('/')[2]}"
        ) from error


def _names(folder: Path, pattern: str) -> list[str]:
    return sorted(file.name for file in folder.glob(pattern))


def _listed(files: list[str]) -> str:
    return ", ".join(files[:SHOWN_FILES]) + (", …" if len(files) > SHOWN_FILES else "") or "no file"


def _command(python: str, code: str, folder: Path) -> str:
    return shlex.join([python, "-c", code, str(folder)])


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
