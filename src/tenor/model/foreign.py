"""Models that Tenor doesn't load: recognized by their files, named, with the command that converts them if there is
one."""

import json
import shlex
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenor.errors import UserError

CONFIG = "config.json"
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
SHOWN_FILES = 10
SHOWN_MODELS = 3
MOST_ENTRIES = 1_000
"""Files of a folder that are looked at."""

FROM_PICKLES = (
    "import pathlib, sys, torch; from safetensors.torch import save_file; folder = pathlib.Path(sys.argv[1]); "
    'read = lambda file: torch.load(file, map_location="cpu", weights_only=True); '
    'tensors = {k: v.clone().contiguous() for f in sorted(folder.glob("pytorch_model*.bin")) for k, v in '
    'read(f).items()}; save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})'
)
"""Converts all tensors, including the head, and keeps their names. `weights_only=True` unpickles only tensors and runs
no code."""

FROM_CHECKPOINT = (
    "import sys, torch, transformers as t; file, folder = sys.argv[1:]; "
    's = torch.load(file, map_location="cpu", weights_only=True); '
    's = next((s[k] for k in ("state_dict", "model_state_dict", "model") if isinstance(s.get(k), dict)), s); '
    "model = t.AutoModelForSequenceClassification.from_config(t.AutoConfig.from_pretrained(folder)); "
    "names = list(model.state_dict()); "
    "p = next((k[: -len(names[-1])] for k in s if k.endswith(names[-1])), None); "
    'p is None and sys.exit(f"{file} has no tensor {names[-1]}: not this kind of classifier"); '
    "model.load_state_dict({k: s[p + k] for k in names}); model.save_pretrained(folder)"
)
"""Finds the state dict in a checkpoint of Lightning or of a hand-written loop, and the prefix that a wrapper gave its
names."""

FROM_FRAMEWORK = (
    "import sys, transformers as t; folder = sys.argv[1]; architecture = "
    "t.AutoConfig.from_pretrained(folder).architectures[0]; getattr(t, architecture).from_pretrained(folder, "
    "{option}=True).save_pretrained(folder)"
)
FRAMEWORKS = (
    ("tf_model*.h5", "TensorFlow", "from_tf", "tensorflow tf-keras"),
    ("flax_model*.msgpack", "Flax", "from_flax", "flax jax"),
)
OTHER_TRANSFORMERS = "transformers==4.49.0"
"""Reads both formats. Version 5 reads neither; 4.53 and 4.57 fail, on tensors without data or on shared tensors."""

FROM_ADAPTER = (
    "import sys; from peft import PeftConfig, PeftModel, load_peft_weights; from transformers import "
    "AutoModelForSequenceClassification as A, AutoTokenizer as T; folder, tokenizer, new, labels = sys.argv[1:]; "
    "c = PeftConfig.from_pretrained(folder); "
    'k = {"num_labels": int(labels), "ignore_mismatched_sizes": True} if int(labels) else {}; '
    "base, info = A.from_pretrained(c.base_model_name_or_path, output_loading_info=True, **k); "
    'own = load_peft_weights(folder, device="cpu"); '
    'lost = [n for n in info["missing_keys"] if not any(k.endswith("." + n) for k in own)]; '
    'lost and sys.exit(f"neither adapter nor base contains {lost}: train with them in modules_to_save"); '
    "PeftModel.from_pretrained(base, folder).merge_and_unload().save_pretrained(new); "
    "T.from_pretrained(tokenizer).save_pretrained(new)"
)
"""The adapter brings the head with it. Without a check, a layer of the head that neither contains would be newly
initialized."""

FROM_ONE_OUTPUT = (
    "import sys, torch, transformers as t; folder, new, no, yes = sys.argv[1:]; "
    "A = t.AutoModelForSequenceClassification; old = A.from_pretrained(folder).state_dict(); "
    "c = t.AutoConfig.from_pretrained(folder); c.problem_type = None; c.id2label = {0: no, 1: yes}; "
    "c.label2id = {no: 0, yes: 1}; two = A.from_config(c); "
    "two.load_state_dict({k: old[k] if old[k].shape == v.shape else torch.cat([torch.zeros_like(old[k]), old[k]]) "
    "for k, v in two.state_dict().items()}); two.save_pretrained(new); "
    "t.AutoTokenizer.from_pretrained(folder).save_pretrained(new)"
)
"""Adds an output that is always 0: the softmax of (0, z) is (1 - sigmoid(z), sigmoid(z)), exactly."""

WITHOUT_PREFIX = (
    "import sys; from safetensors.torch import load_file, save_file; file, prefix = sys.argv[1:]; "
    'save_file({k.removeprefix(prefix): v for k, v in load_file(file).items()}, file, metadata={"format": "pt"})'
)


def command(python: str, code: str, *arguments: str | Path) -> str:
    """A command line for a shell that runs Python code."""
    return shlex.join([python, "-c", code, *map(str, arguments)])


@dataclass(frozen=True)
class FileKind:
    """A kind of file that other programs store models in."""

    suffixes: tuple[str, ...]
    what: str
    way: str


COMPARE = (
    "Tenor can judge its predictions: write them into a CSV file with the columns label and prediction, then tenor "
    "diagnose FILE. Or train on the same rows: tenor train CONFIG data.source=file data.path=ROWS.csv"
)
ORIGINAL = "Use the transformers model that it was converted from: a folder with config.json and model.safetensors"
UNPACK = "Unpack it and use the folder that contains config.json"
KINDS = (
    FileKind(
        (".joblib", ".pkl", ".pickle", ".dill"), "a pickle (as of scikit-learn), which Tenor never reads", COMPARE
    ),
    FileKind((".skops",), "a model of scikit-learn", COMPARE),
    FileKind((".ftz", ".vec"), "a model of fastText", COMPARE),
    FileKind(
        (".onnx",),
        "an ONNX file without the labels, length and tokenizer that tenor export stores next to one",
        ORIGINAL,
    ),
    FileKind((".gguf", ".ggml"), "a file of llama.cpp with quantized weights", ORIGINAL),
    FileKind((".tflite", ".mlmodel", ".engine", ".xml"), "a model compiled for another runtime", ORIGINAL),
    FileKind((".keras", ".h5", ".hdf5", ".pb"), "a model of Keras or TensorFlow", COMPARE),
    FileKind((".msgpack",), "weights of Flax", ORIGINAL),
    FileKind((".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".zst"), "an archive", UNPACK),
)
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
NOT_WEIGHTS = ("training_args", "optimizer", "scheduler", "scaler", "rng_state", "openvino", "random_states")
"""Beginnings of names of files that have a suffix of weights."""
FASTTEXT = bytes.fromhex("ba164f2f")
"""The first bytes of a file of fastText."""
POINTER = b"version https://git-lfs"


def refuse_foreign_file(name: str, path: Path) -> None:
    """Raises UserError, which names the kind of file and the way on: a model is a folder."""
    folder = path.parent
    kind = _kind_of(path)
    if (folder / CONFIG).is_file() and (path.name == CONFIG or path.suffix in (".safetensors", *PICKLES)):
        raise UserError(f"{name}: a file of a model; expected the model's folder. Use {folder}")
    if kind is not None:
        raise UserError(f"{name}: {kind.what}; expected a run or a model folder. {kind.way}")
    if path.suffix in PICKLES:
        raise UserError(
            f"{name}: a pickle file of PyTorch, which Tenor never reads; expected a run or a model folder. Put it into "
            "a folder with the model's config.json and tokenizer files and use this folder: Tenor then prints the "
            "command that converts it"
        )
    if path.suffix == ".safetensors":
        raise UserError(
            f"{name}: weights without a configuration; expected a run or a model folder. Put config.json and the "
            "tokenizer's files of the same model next to it and use the folder"
        )
    raise UserError(
        f"{name}: a file; expected a run or a model folder. A file with texts comes after it: tenor predict MODEL "
        f"--input {shlex.quote(name)} --output labelled.csv"
    )


def refuse_foreign_folder(name: str, folder: Path, *, training: bool = False) -> None:
    """Raises UserError for a folder of another library, or of several models, that `transformers` can't load as a
    classifier. With `training` only the encoder is needed, and it may be that of an embedding model."""
    _refuse_pointers(name, folder)
    if (folder / "adapter_config.json").is_file():
        raise UserError(_adapter(name, folder))
    if not training:
        _refuse_sentence_transformers(name, folder)
    if (folder / CONFIG).is_file():
        return
    if (folder / "meta.json").is_file() and (folder / "config.cfg").is_file():
        raise UserError(f"{name}: a pipeline of spaCy; expected a transformers model. {COMPARE}")
    if (folder / "modules.json").is_file() and (inner := next(iter(_models_below(folder)), None)):
        raise UserError(f"{name}: an embedding model, whose encoder is in a folder of its own. Use {inner}")
    if models := list(_models_below(folder)):
        shown = ", ".join(str(model) for model in models[:SHOWN_MODELS])
        more = f" (and {len(models) - SHOWN_MODELS} more)" if len(models) > SHOWN_MODELS else ""
        raise UserError(f"{name}: not a model itself, but it contains one in {shown}{more}. Use such a folder")
    _refuse_contents(name, folder)


def _refuse_contents(name: str, folder: Path) -> None:
    """Raises UserError for a folder without config.json, with what it contains instead."""
    files = [path for path in _entries(folder) if path.is_file()]
    files += [path for inner in _entries(folder) if inner.is_dir() for path in _entries(inner) if path.is_file()]
    for path in files:
        if (kind := _kind_of(path)) is not None:
            raise UserError(
                f"{name}: {path.relative_to(folder)} is {kind.what}; expected config.json and model.safetensors. "
                f"{kind.way}"
            )
    if pickles := [path for path in files if _is_pickle(path)]:
        raise UserError(
            f"{name}: {pickles[0].relative_to(folder)} is a pickle file of PyTorch, which Tenor never reads; expected "
            "config.json and model.safetensors. Put config.json and the tokenizer files of the model that was "
            f"fine-tuned into {pickles[0].parent} and use this folder: Tenor then prints the command that converts the "
            "weights. If a whole model was pickled (as by flair), load it in its own program"
        )
    raise UserError(
        f"{name}: neither a run (no manifest.json) nor a model (no config.json); observed "
        f"{_listed(sorted(path.name for path in _entries(folder)))}. Use the folder that save_pretrained wrote"
    )


def _kind_of(path: Path) -> FileKind | None:
    if path.suffix == ".bin" and _starts_with(path, FASTTEXT):
        return next(kind for kind in KINDS if ".ftz" in kind.suffixes)
    return next((kind for kind in KINDS if path.suffix.lower() in kind.suffixes), None)


def _is_pickle(path: Path) -> bool:
    return path.suffix in PICKLES and not path.name.startswith(NOT_WEIGHTS)


def _refuse_pointers(name: str, folder: Path) -> None:
    pointers = [path.name for path in _entries(folder) if path.is_file() and _starts_with(path, POINTER)]
    if pointers:
        raise UserError(
            f"{name}: {_listed(sorted(pointers))} contains only a pointer of Git LFS, not the file itself. Fetch it: "
            f"git -C {shlex.quote(str(folder))} lfs pull"
        )


def _refuse_sentence_transformers(name: str, folder: Path) -> None:
    settings = _json(folder / "config_sentence_transformers.json")
    if (folder / "config_setfit.json").is_file() or (folder / "model_head.pkl").is_file():
        raise UserError(
            f"{name}: a model of SetFit, whose head is a separate classifier on embeddings (model_head.pkl, a pickle, "
            "which Tenor never reads). Predict with setfit: SetFitModel.from_pretrained(FOLDER).predict(texts); or "
            f"fine-tune its encoder: tenor train CONFIG model.name={shlex.quote(name)}"
        )
    config = _json(folder / CONFIG)
    if settings.get("model_type") == "CrossEncoder" or any(config.get(mark) for mark in CROSS_ENCODER_MARKS):
        raise UserError(f"{name}: {cross_encoder(name)}")
    if (folder / "modules.json").is_file() and (folder / CONFIG).is_file():
        raise UserError(
            f"{name}: an embedding model of sentence-transformers, which has no classes. Fine-tune it as a classifier "
            f"first: tenor train CONFIG model.name={shlex.quote(name)}"
        )


CROSS_ENCODER_MARKS = ("sentence_transformers", "sbert_ce_default_activation_function")
"""Keys of config.json by which sentence-transformers 4 and 5, and 2 and 3, mark a cross-encoder; version 6 writes a
file of its own."""


def cross_encoder(name: str) -> str:
    """What is said about the cross-encoder `name`."""
    return (
        "a cross-encoder of sentence-transformers, which scores a pair of texts (such as a question and a passage); "
        "Tenor predicts the class of one text. Score pairs with CrossEncoder(FOLDER).predict(pairs), or fine-tune its "
        f"encoder: tenor train CONFIG model.name={shlex.quote(name)}"
    )


def _adapter(name: str, folder: Path) -> str:
    config = _json(folder / "adapter_config.json")
    base = str(config.get("base_model_name_or_path") or "BASE_MODEL")
    own = any(path.name.startswith("tokenizer") for path in _entries(folder))
    new = folder.with_name(f"{folder.name}-merged")
    merge = command(sys.executable, FROM_ADAPTER, folder, folder if own else base, new, str(_adapter_outputs(folder)))
    return (
        f"{name}/adapter_config.json: an adapter of PEFT for the model {base}; expected a whole model. After "
        f"pip install peft, this command merges both into the folder {new}: {merge}\n"
        "  The class names are not part of an adapter: write them into id2label in the new config.json"
    )


def _adapter_outputs(folder: Path) -> int:
    """The outputs of the head that an adapter contains; 0 if it has none, or only in a pickle, which is not read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / "adapter_model.safetensors", framework="numpy") as tensors:
            shapes = {key: tensors.get_slice(key).get_shape() for key in tensors.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return 0
    heads = [shape[0] for key, shape in shapes.items() if len(shape) == 2 and ".lora_" not in key]
    return min(heads, default=0)


def refuse_other_weights(name: str, location: str) -> None:
    """Raises UserError for a folder without safetensors; the message has the command that converts its weights."""
    folder = Path(location)
    if not folder.is_dir() or any((folder / file).is_file() for file in SAFETENSORS):
        return
    if pickles := _names(folder, "pytorch_model*.bin"):
        raise UserError(
            f"{name}: the weights are in {_listed(pickles)}, a pickle file, which Tenor never reads; expected "
            "model.safetensors. This command reads only tensors from it and writes that file next to it: "
            f"{command(sys.executable, FROM_PICKLES, folder)}"
        )
    for pattern, framework, option, packages in FRAMEWORKS:
        if files := _names(folder, pattern):
            raise UserError(
                f"{name}: the weights are in {_listed(files)}, in {framework} format; expected model.safetensors. In a "
                f"separate Python environment, after pip install {OTHER_TRANSFORMERS} torch {packages}, this command "
                f"writes that file: {command('python', FROM_FRAMEWORK.format(option=option), folder)}"
            )
    if others := _names(folder, "*.safetensors"):
        raise UserError(f"{name}: the folder contains {_listed(others)}, expected model.safetensors. Rename the file")
    if checkpoints := [path for path in _entries(folder) if _is_pickle(path) and _kind_of(path) is None]:
        raise UserError(
            f"{name}: the weights are in {checkpoints[0].name}, a pickle file, which Tenor never reads; expected "
            "model.safetensors. This command reads only tensors from it and writes that file next to it: "
            f"{command(sys.executable, FROM_CHECKPOINT, checkpoints[0], folder)}"
        )
    inner = [path for folder_in in _entries(folder) if folder_in.is_dir() for path in _entries(folder_in)]
    for path in (*_entries(folder), *inner):
        if path.is_file() and (kind := _kind_of(path)) is not None:
            raise UserError(
                f"{name}: {path.relative_to(folder)} is {kind.what}; expected model.safetensors. {kind.way}"
            )
    settings = (
        " (training_args.bin contains training settings, not weights)"
        if (folder / "training_args.bin").exists()
        else ""
    )
    raise UserError(
        f"{name}: the folder has no weights: expected model.safetensors, observed "
        f"{_listed(_names(folder, '*'))}{settings}. Copy the weights into this folder, or use another folder"
    )


def refuse_id_without_safetensors(name: str, error: Exception) -> None:
    """Raises UserError if `error`, raised by `transformers`, means that a hub repository has no safetensors."""
    if "does not appear to have a file named model.safetensors" in str(error):
        raise UserError(
            f"{name}: the hub repository has no model.safetensors, and Tenor reads no other weights. Download the "
            "repository and use the folder instead of the id; if its weights can be converted, Tenor then prints the "
            f"command. To download: hf download {name} --local-dir {name.rpartition('/')[2]}"
        ) from error


def refuse_prefix(name: str, location: str, missing: Iterable[str], unexpected: Iterable[str]) -> None:
    """Raises UserError if all missing tensors are there, with the prefix that a wrapper (DDP, `torch.compile`) gave
    their names."""
    wanted, found = sorted(missing), set(unexpected)
    if not wanted:
        return
    prefix = next((key[: -len(wanted[0])] for key in sorted(found) if key.endswith(f".{wanted[0]}")), None)
    if prefix and all(f"{prefix}{key}" in found for key in wanted):
        file = Path(location) / SAFETENSORS[0]
        raise UserError(
            f"{name}: the names of all tensors begin with {prefix!r}, as a wrapper such as DistributedDataParallel or "
            f"torch.compile writes them. This command removes it: "
            f"{command(sys.executable, WITHOUT_PREFIX, file, prefix)}"
        )


def _models_below(folder: Path) -> Iterator[Path]:
    """Runs and model folders up to two levels below, the last checkpoint first."""
    children = [path for path in _entries(folder) if path.is_dir()]
    below = [*children, *(path for child in children for path in _entries(child) if path.is_dir())]
    models = [path for path in below if (path / "manifest.json").is_file() or _is_model(path)]
    inner = [path for path in models if not any(other in path.parents for other in models)]
    return iter(sorted(inner, key=lambda path: (_number(path.name), path.stat().st_mtime), reverse=True))


def _is_model(path: Path) -> bool:
    return (path / CONFIG).is_file() and any((path / file).is_file() for file in (*SAFETENSORS, "pytorch_model.bin"))


def _number(name: str) -> int:
    digits = name.rpartition("-")[2]
    return int(digits) if digits.isascii() and digits.isdigit() else -1


def _entries(folder: Path) -> list[Path]:
    return [path for path, _ in zip(sorted(folder.iterdir()), range(MOST_ENTRIES), strict=False)]


def _starts_with(path: Path, beginning: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(beginning)) == beginning


def _json(path: Path) -> dict[str, Any]:
    """A JSON object that only serves to recognize a folder; {} if there is none. Other code reports broken files."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _names(folder: Path, pattern: str) -> list[str]:
    return sorted(file.name for file in folder.glob(pattern))


def _listed(files: list[str]) -> str:
    return ", ".join(files[:SHOWN_FILES]) + (", …" if len(files) > SHOWN_FILES else "") or "no file"
