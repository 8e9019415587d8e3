"""Weights in forms that Tenor doesn't read: what a folder holds instead of safetensors, and what converts it."""

import shlex
import sys
from pathlib import Path

from tenor.errors import UserError

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
