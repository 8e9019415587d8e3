"""A training run on disk: its position, weights, optimizer moments and random state, each file with its digest."""

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from tenor.errors import TenorError
from tenor.measures.objective import TrainingObjective
from tenor.runs.files import atomic_path, json_text, read_json, sha256_file, write_json, write_text


@dataclass(frozen=True)
class StepResult:
    """The numbers of one optimizer step."""

    loss: float
    """Sum of the weighted losses of its examples, nats."""
    weight: float
    """Sum of their weights."""
    grad_norm: float
    """Before clipping."""
    tokens: int
    seconds: float
    predicted_counts: list[int]
    """Predictions per class, made in training mode."""
    label_counts: list[int]
    """Labels per class."""
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """The rows that this process computed."""


@dataclass
class Window:
    """The steps since the last record: sums, and the largest gradient norm."""

    loss: float = 0.0
    weight: float = 0.0
    grad_norm: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    predicted_counts: list[int] = field(default_factory=list)
    label_counts: list[int] = field(default_factory=list)

    @property
    def mean_loss(self) -> float:
        """Nats per example."""
        return self.loss / self.weight

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    def add(self, step: StepResult) -> None:
        self.loss += step.loss
        self.weight += step.weight
        # With fp16 a step whose gradient overflowed is skipped; JSON has no infinity.
        self.grad_norm = max(self.grad_norm, step.grad_norm if math.isfinite(step.grad_norm) else 0.0)
        self.tokens += step.tokens
        self.seconds += step.seconds
        self.predicted_counts = _added(self.predicted_counts, step.predicted_counts)
        self.label_counts = _added(self.label_counts, step.label_counts)


def _added(sums: list[int], counts: list[int]) -> list[int]:
    return [a + b for a, b in zip(sums, counts, strict=True)] if sums else counts


@dataclass
class Validation:
    """The result of one validation."""

    step: int
    epoch: float
    metrics: dict[str, float]
    """By the objective's names, such as accuracy, macro_f1 and loss."""
    confusion: list[list[int]] = field(default_factory=list)
    """Rows true, columns predicted; kept so that a resumed run can draw it again."""


@dataclass
class TrainState:
    """Everything that a resumed run needs, besides weights, optimizer moments and random state."""

    step: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    position: int = 0
    """Batches of this epoch done."""
    tokens: int = 0
    """Real tokens seen."""
    stale_validations: int = 0
    """Validations in a row without a better one."""
    finished: bool = False
    validations: list[Validation] = field(default_factory=list)
    best: Validation | None = None
    window: Window = field(default_factory=Window)
    loss_scale: dict[str, int | float] = field(default_factory=dict)
    """State of fp16's gradient scaler; empty with other types."""
    seconds: float = 0.0
    """Time of the training, with its validations and checkpoints, in all processes that continued it."""

    @classmethod
    def from_dict(cls, values: dict) -> "TrainState":
        """The state of which `dataclasses.asdict` made `values`. Raises ValueError for anything else."""
        # Through JSON, because pydantic's strict mode accepts a mapping for a dataclass only from there.
        return _state_reader().validate_json(json.dumps(values), strict=True)

    def add_step(self, result: StepResult, batches_per_epoch: int) -> None:
        """Count one more optimizer step."""
        self.window.add(result)
        self.tokens += result.tokens
        self.step += 1
        self.position += 1
        if self.position == batches_per_epoch:
            self.epoch, self.position = self.epoch + 1, 0

    def best_at(self, step: int, objective: TrainingObjective) -> Validation | None:
        """The best validation up to `step`."""
        best = None
        for validation in self.validations:
            if validation.step <= step and _is_better(validation, best, objective):
                best = validation
        return best

    def add_validation(self, validation: Validation, objective: TrainingObjective) -> bool:
        """Remember a validation; True if it is the best so far."""
        self.validations.append(validation)
        is_best = _is_better(validation, self.best, objective)
        self.stale_validations = 0 if is_best else self.stale_validations + 1
        if is_best:
            self.best = validation
        return is_best


def _is_better(validation: Validation, best: Validation | None, objective: TrainingObjective) -> bool:
    return best is None or objective.prefers(validation.metrics, best.metrics)


@cache
def _state_reader() -> TypeAdapter[TrainState]:
    return TypeAdapter(TrainState)


MODEL, OPTIMIZER, RANDOM, STATE, MANIFEST = (
    "model.safetensors", "optimizer.safetensors", "random.safetensors", "state.json", "manifest.json"
)  # fmt: skip
FILES = (MODEL, OPTIMIZER, RANDOM, STATE)


class UnwrittenCheckpointError(TenorError):
    """A checkpoint that could not be written, because the disk is full or fails."""


class DamagedCheckpointError(TenorError):
    """A checkpoint whose files are not as they were written."""


@dataclass(frozen=True)
class Checkpoint:
    """A verified folder, such as `step-000500`."""

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
            save_file(_contiguous(model), temporary / MODEL, metadata={"format": "pt"})
            save_file(optimizer_tensors(optimizer), temporary / OPTIMIZER)
            save_file(_random_state(), temporary / RANDOM)
            write_json(temporary / STATE, asdict(state))
            digests = {name: sha256_file(temporary / name) for name in FILES}
            write_text(temporary / MANIFEST, _manifest_text(state.step, digests))
    except (OSError, SafetensorError) as error:
        raise UnwrittenCheckpointError(
            f"{target}: the checkpoint could not be written ({error}). Earlier checkpoints are unchanged; free space "
            f"or repair the disk, then resume the run"
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
            observed = sha256_file(path / name)
        except OSError as error:
            raise DamagedCheckpointError(f"{path / name} cannot be read: {error.strerror}") from error
        if observed != digest:
            raise DamagedCheckpointError(
                f"{path / name} is damaged: observed SHA-256 {observed[:12]}…, expected {digest[:12]}…"
            )
    if step != step_of(path):
        raise DamagedCheckpointError(f"{path / MANIFEST} names step {step}, expected {step_of(path)}")
    return Checkpoint(path, step, expected[MODEL])


def checkpoint_path(folder: Path, step: int) -> Path:
    """The folder of the checkpoint of a step."""
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
        TenorError: it is intact, but belongs to another model.
    """
    load_weights(checkpoint, model)
    if optimizer is not None:
        with _fits(checkpoint):
            restore_optimizer(optimizer, load_file(checkpoint.path / OPTIMIZER))
            _restore_random_state(load_file(checkpoint.path / RANDOM))
    return read_state(checkpoint)


def read_state(checkpoint: Checkpoint) -> TrainState:
    """The state of the run at a verified checkpoint."""
    with _fits(checkpoint):
        return TrainState.from_dict(read_json(checkpoint.path / STATE))


def load_weights(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Load a verified checkpoint's weights into `model`. Raises TenorError if their shapes differ."""
    with _fits(checkpoint):
        stored, shared = load_file(checkpoint.path / MODEL), _shared_names(model)
        stored |= {name: stored[first] for name, first in shared.items()}
        model.load_state_dict(stored, strict=True)  # Copied to the model's device.


@contextmanager
def _fits(checkpoint: Checkpoint) -> Iterator[None]:
    """Turn errors in the block into one that says that an intact checkpoint does not belong to this model."""
    try:
        yield
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise TenorError(
            f"{checkpoint.path} is intact, but belongs to another model or another version of Tenor ({reason}). "
            f"Restore the run's configuration and version, or start a new run"
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
        raise DamagedCheckpointError(f"{path / MANIFEST} cannot be read: {error}") from error
    # No digest covers the manifest itself, so its bytes are compared with those that Tenor writes for this content.
    if text != _manifest_text(step, digests).encode():
        raise DamagedCheckpointError(f"{path / MANIFEST} is damaged: its bytes differ from what Tenor writes")
    return step, digests


def _contiguous(model: nn.Module) -> dict[str, torch.Tensor]:
    """The model's tensors, each once."""
    shared = _shared_names(model)
    return {name: one.detach().contiguous() for name, one in model.state_dict().items() if name not in shared}


def _shared_names(model: nn.Module) -> dict[str, str]:
    """For each further name of a tensor that the model has under several, as of tied weights, its first name."""
    first: dict[int, str] = {}
    names = {name: first.setdefault(id(one), name) for name, one in model.state_dict(keep_vars=True).items()}
    return {name: one for name, one in names.items() if name != one}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's state under `<parameter's name>/<key>`."""
    return {
        f"{name}/{key}": tensor.contiguous()
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        for key, tensor in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Replace the optimizer's state by one as `optimizer_tensors` returns it."""
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            keys = [key for key in tensors if key.startswith(f"{name}/")]
            optimizer.state[parameter] = {key.split("/", 1)[1]: tensors[key].to(parameter.device) for key in keys}


def _random_state() -> dict[str, torch.Tensor]:
    """The states of PyTorch's generators, of the CPU and of the device; a run draws from no others."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states


def _restore_random_state(states: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    # On another kind of device the run continues without these; the workflow prints that.
    if "cuda" in states and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(states["cuda"])
    if "mps" in states and torch.backends.mps.is_available():
        torch.mps.set_rng_state(states["mps"])
