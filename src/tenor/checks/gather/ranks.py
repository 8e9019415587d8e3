"""What the processes of a distributed run tell each other for the checks, through the key-value store of their group.

Nothing here waits for another process: each writes what it has, and reads what all have written. So a check in one
process only, or in processes with unequal numbers of steps, hangs nothing; it then has no evidence.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count as counting
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from tenor.checks.evidence.process_evidence import AgreementEvidence, RankEvidence
from tenor.checks.gather.batches import row_order

SAMPLES = 16
"""Values of each tensor that are compared as numbers."""
KEPT = 8
"""Comparisons whose notes are kept: a process may be this many behind."""

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By size in bytes: types as which the bits of a tensor are added up."""

_numbers = counting()
"""Watchdogs are created in the same order in every process."""


@dataclass
class RankNotes:
    """One process's notes on a model, and those of the others."""

    model: nn.Module
    store: Any
    rank: int
    count: int
    written: list[int] = field(default_factory=list)
    compared: int = -1

    @classmethod
    def of(cls, model: nn.Module) -> "RankNotes | None":
        """The notes of this process; None without other processes, or if the weights are divided among them."""
        if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() < 2 or _is_divided(model):
            return None
        store = dist.distributed_c10d._get_default_store()
        if store is None:  # MPI has none.
            return None
        store = dist.PrefixStore(f"tenor/notes/{next(_numbers)}", store)
        return cls(model, store, dist.get_rank(), dist.get_world_size())

    def write_tensors(self, step: int) -> None:
        """Note the weights and gradients before optimizer step number `step`, counted from 0 in this process."""
        trainable = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        gradients = {name: p.grad for name, p in trainable.items() if p.grad is not None}
        note = {"weights": checksums(trainable), "gradients": checksums(gradients)}
        if self._write(f"tensors/{step}", note):
            self.written.append(step)
            if len(self.written) > KEPT:
                self.store.delete_key(self._key(f"tensors/{self.written.pop(0)}", self.rank))

    def write_rows(self, loader: Any) -> None:
        """Note the rows of one epoch that this process's sampler draws; nothing if they cannot be known."""
        # Accelerate lets the processes agree on the random state of such a sampler when an epoch begins.
        if getattr(loader, "synchronized_generator", None) is not None:
            return
        order = row_order(loader)
        dataset = getattr(loader, "dataset", None)
        if order is None or not hasattr(dataset, "__len__"):
            return
        self._write("rows", {"rows": order.tolist(), "of": len(dataset)})  # type: ignore[arg-type]

    def agreement(self, steps_done: int) -> AgreementEvidence | None:
        """The newest comparison that all processes have noted and that was not returned before; `steps_done` are the
        optimizer steps before the first step of this process."""
        for step in reversed(self.written):
            if step > self.compared and (notes := self._read(f"tensors/{step}")) is not None:
                self.compared = step
                return compare(notes, steps_done + step)
        return None

    def rows(self) -> RankEvidence | None:
        """The rows of all processes; None as long as one of them has not noted its own."""
        notes = self._read("rows")
        if notes is None:
            return None
        return RankEvidence({rank: note["rows"] for rank, note in enumerate(notes)}, notes[0]["of"])

    def _write(self, name: str, note: Mapping[str, Any]) -> bool:
        try:
            self.store.set(self._key(name, self.rank), json.dumps(note))
        except RuntimeError:  # The group is gone: there is nobody left to compare with.
            return False
        return True

    def _read(self, name: str) -> list[dict[str, Any]] | None:
        keys = [self._key(name, rank) for rank in range(self.count)]
        try:
            if not self.store.check(keys):
                return None
            return [json.loads(self.store.get(key)) for key in keys]
        except RuntimeError:  # As above.
            return None

    def _key(self, name: str, rank: int) -> str:
        return f"{name}/{rank}"


def checksums(tensors: Mapping[str, torch.Tensor]) -> dict[str, list[Any]]:
    """Of each dense tensor: the sum of its bits as integers, and some of its values."""
    dense = {
        name: tensor.detach() for name, tensor in tensors.items() if tensor.layout == torch.strided and tensor.numel()
    }
    sums = [_bits(tensor) for tensor in dense.values()]
    return {
        name: [int(total), tensor.reshape(-1)[_places(tensor.numel())].double().tolist()]
        for (name, tensor), total in zip(dense.items(), _to_cpu(sums), strict=True)
    }


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(INTEGERS[tensor.element_size()]).sum(dtype=torch.int64)


def _to_cpu(values: Iterable[torch.Tensor]) -> list[int]:
    """Scalars, in one transfer for each device."""
    values = list(values)
    results = [0] * len(values)
    for device in {value.device for value in values}:
        places = [at for at, value in enumerate(values) if value.device == device]
        for at, value in zip(places, torch.stack([values[at] for at in places]).tolist(), strict=True):
            results[at] = value
    return results


def _places(size: int) -> torch.Tensor:
    return torch.from_numpy(np.unique(np.linspace(0, size - 1, SAMPLES).astype(np.int64)))


def compare(notes: list[dict[str, Any]], step: int) -> AgreementEvidence:
    """The differences between the notes of all processes."""
    weights, gradients = ([note[kind] for note in notes] for kind in ("weights", "gradients"))
    everywhere = set.intersection(*(set(one) for one in gradients))
    somewhere = set.union(*(set(one) for one in gradients))
    differing = {
        kind: [name for name in names if any(one[name][0] != of_all[0][name][0] for one in of_all)]
        for kind, of_all, names in (
            ("weights", weights, set.intersection(*(set(one) for one in weights))),
            ("gradients", gradients, everywhere),
        )
    }
    return AgreementEvidence(
        n_processes=len(notes),
        step=step,
        n_parameters=len(weights[0]),
        weights_differ=tuple(sorted(differing["weights"])),
        weight_gap=_gap(weights, differing["weights"]),
        gradients_differ=tuple(sorted(differing["gradients"])),
        gradient_gap=_gap(gradients, differing["gradients"]),
        gradient_in_some=tuple(sorted(somewhere - everywhere)),
    )


def _gap(of_all: list[dict[str, Any]], names: Iterable[str]) -> float:
    """The largest difference between samples of two processes, relative to the largest sample of their tensor."""
    gaps = [0.0]
    for name in names:
        samples = np.array([one[name][1] for one in of_all])
        size = float(np.abs(samples).max())
        if np.isfinite(size) and size > 0:
            gaps.append(float((samples.max(axis=0) - samples.min(axis=0)).max()) / size)
    return max(gaps)


def _is_divided(model: nn.Module) -> bool:
    """Whether FSDP, DeepSpeed or tensor parallelism gives every process a part of the weights."""
    divided = any(hasattr(p, "full_tensor") or hasattr(p, "ds_id") for p in model.parameters())
    return divided or any("FullyShardedDataParallel" in type(module).__name__ for module in model.modules())
