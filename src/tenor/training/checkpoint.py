"""A training run on disk: position, weights, optimizer moments and random state, each file with its digest."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from tenor.errors import TenorError
from tenor.runs.files import atomic_path, json_text, read_json, sha256_file, write_json, write_text
from tenor.training.state import TrainState

MODEL, OPTIMIZER, RANDOM, STATE, MANIFEST = (
    "model.safetensors", "optimizer.safetensors", "random.safetensors", "state.json", "manifest.json"
)  # fmt: skip
FILES = (MODEL, OPTIMIZER, RANDOM, STATE)


class DamagedCheckpointError(TenorError):
    """A checkpoint whose bytes are not those that were written."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder `step-000500` that was verified."""

    path: Path
    step: int
    digest: str
    """SHA-256 of its model.safetensors."""


def save_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: TrainState) -> Checkpoint:
    """Write `folder/step-NNNNNN`, the manifest with the digests last."""
    target = checkpoint_path(folder, state.step)
    try:
        with atomic_path(target) as temporary:
            temporary.mkdir()
            save_file(_contiguous(model.state_dict()), temporary / MODEL, metadata={"format": "pt"})
            save_file(_optimizer_tensors(optimizer), temporary / OPTIMIZER)
            save_file(_random_state(), temporary / RANDOM)
            write_json(temporary / STATE, asdict(state))
            digests = {name: sha256_file(temporary / name) for name in FILES}
            write_text(temporary / MANIFEST, _manifest_text(state.step, digests))
    except (OSError, SafetensorError) as error:
        raise TenorError(
            f"{target}: the checkpoint could not be written ({error}). Earlier checkpoints are untouched; make room or "
            f"repair the disk, then go on with --resume"
        ) from error
    return Checkpoint(target, state.step, digests[MODEL])


def verify_checkpoint(path: Path) -> Checkpoint:
    """Check every file against the manifest.

    Raises:
        DamagedCheckpointError: names the file that is missing or differs.
    """
    step, expected = _read_manifest(path)
    for name, digest in expected.items():
        if not (path / name).is_file():
            raise DamagedCheckpointError(f"{path / name} is missing")
        try:
            found = sha256_file(path / name)
        except OSError as error:
            raise DamagedCheckpointError(f"{path / name} can't be read: {error.strerror}") from error
        if found != digest:
            raise DamagedCheckpointError(f"{path / name} is damaged: SHA-256 {found[:12]}…, written was {digest[:12]}…")
    if step != step_of(path):
        raise DamagedCheckpointError(f"{path / MANIFEST} speaks of step {step}")
    return Checkpoint(path, step, expected[MODEL])


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return folder / f"step-{step:06d}"


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders, oldest first; not verified."""
    return sorted((p for p in folder.glob("step-*") if step_of(p) is not None), key=lambda p: step_of(p) or 0)


def step_of(path: Path) -> int | None:
    """The step that a checkpoint's folder is named after; None for anything else."""
    match = re.fullmatch(r"step-(\d+)", path.name)
    return int(match[1]) if match and path.is_dir() else None


def restore(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> TrainState:
    """Load a verified checkpoint's weights; with an optimizer also its moments and the random state.

    Raises:
        TenorError: it is whole, but of another model.
    """
    load_weights(checkpoint, model)
    if optimizer is not None:
        with _fits(checkpoint):
            _restore_optimizer(optimizer, load_file(checkpoint.path / OPTIMIZER))
            _restore_random_state(load_file(checkpoint.path / RANDOM))
    return read_state(checkpoint)


def read_state(checkpoint: Checkpoint) -> TrainState:
    """Where the run stood at a verified checkpoint."""
    with _fits(checkpoint):
        return TrainState.from_dict(read_json(checkpoint.path / STATE))


def load_weights(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Put a verified checkpoint's weights into `model`. Raises TenorError where it is of another shape."""
    with _fits(checkpoint):
        model.load_state_dict(load_file(checkpoint.path / MODEL), strict=True)  # Copied to where the model lies.


@contextmanager
def _fits(checkpoint: Checkpoint) -> Iterator[None]:
    """What is wrong with a whole checkpoint, told as a misfit."""
    try:
        yield
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise TenorError(
            f"{checkpoint.path}: is whole, but not of this model, or of another version of Tenor ({told}). Restore the "
            f"run's configuration and version, or start a new run"
        ) from error


def _manifest_text(step: int, digests: dict[str, str]) -> str:
    return json_text({"step": step, "sha256": digests})


def _read_manifest(path: Path) -> tuple[int, dict[str, str]]:
    """Step and digests."""
    try:
        manifest = read_json(path / MANIFEST)
        step, digests = int(manifest["step"]), {name: str(manifest["sha256"][name]) for name in FILES}
        text = (path / MANIFEST).read_bytes()
    except (TenorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DamagedCheckpointError(f"{path / MANIFEST} can't be read: {error}") from error
    # No digest covers the manifest itself, so every byte of it must be the one that this content is written with.
    if text != _manifest_text(step, digests).encode():
        raise DamagedCheckpointError(f"{path / MANIFEST} is damaged: it is not as Tenor writes it")
    return step, digests


def _contiguous(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's state under `<parameter's name>/<key>`."""
    return {
        f"{name}/{key}": tensor.contiguous()
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        for key, tensor in optimizer.state.get(parameter, {}).items()
    }


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            keys = [key for key in tensors if key.startswith(f"{name}/")]
            optimizer.state[parameter] = {key.split("/", 1)[1]: tensors[key].to(parameter.device) for key in keys}


def _random_state() -> dict[str, torch.Tensor]:
    """PyTorch's generators, of the processor and of the device that computes; nothing in a run draws from any other."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states


def _restore_random_state(states: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    # On another kind of device the run goes on without these; that it does so is told by the workflow.
    if "cuda" in states and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(states["cuda"])
    if "mps" in states and torch.backends.mps.is_available():
        torch.mps.set_rng_state(states["mps"])
