"""Whether an interrupted and resumed run ended like an uninterrupted one: weights, records, findings, predictions …"""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file

from tenor.runs.directory import RunDirectory
from tenor.runs.files import digest_folder, sha256_file
from tenor.runs.step_records import read_records
from tenor.training.checkpoint import list_checkpoints, verify_checkpoint

OF_THE_CLOCK = "tokens_per_second"


def timeless(run: RunDirectory) -> list[dict[str, Any]]:
    """The records of `metrics.jsonl` without what the clock decides."""
    return [
        {name: value for name, value in record.items() if name != OF_THE_CLOCK} for record in read_records(run.metrics)
    ]


def tensorboard(run: RunDirectory) -> dict[str, list[tuple[int, Any]]]:
    """Step and content of every number and picture, by tag, without what the clock decides."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events: dict[str, list[tuple[int, Any]]] = {}
    for folder in sorted({file.parent for file in run.tensorboard.rglob("events.out.*")}):
        found = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
        found.Reload()
        for tag in found.Tags()["scalars"]:
            if OF_THE_CLOCK not in tag:
                events.setdefault(tag, []).extend((event.step, event.value) for event in found.Scalars(tag))
        for tag in found.Tags()["images"]:
            events.setdefault(tag, []).extend((event.step, event.encoded_image_string) for event in found.Images(tag))
    return events


def differences(resumed: RunDirectory, whole: RunDirectory) -> list[str]:
    """What is not the same to the bit, by name; empty where all is."""
    found = {
        "weights": _same_weights(resumed.model, whole.model),
        "model folder": _files(resumed.model) == _files(whole.model),
        "checkpoints": _checkpoints(resumed) == _checkpoints(whole),
        "records": timeless(resumed) == timeless(whole),
        "findings": _findings(resumed) == _findings(whole),
        "tensorboard": tensorboard(resumed) == tensorboard(whole),
        "evaluation": json.loads(resumed.evaluation.read_text()) == json.loads(whole.evaluation.read_text()),
        "baseline": not whole.baseline.exists() or digest_folder(resumed.baseline) == digest_folder(whole.baseline),
        "text keys": sha256_file(resumed.text_keys) == sha256_file(whole.text_keys),
        "no step twice": all(_distinct(run) for run in (resumed, whole)),
        "nothing left over": not list(resumed.path.rglob(".tmp-*")),
    }
    for split in ("validation", "test"):
        one, other = (pq.read_table(run.predictions / f"{split}.parquet") for run in (resumed, whole))
        found[f"predictions on {split}"] = one.equals(other)
    return [name for name, same in found.items() if not same]


def _same_weights(one: Path, other: Path) -> bool:
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _files(model: Path) -> dict[str, str]:
    """Digests, without the model card, which contains the duration of the run."""
    return {file.name: sha256_file(file) for file in model.iterdir() if file.name != "README.md"}


def _findings(run: RunDirectory) -> dict[str, Any]:
    """By stage."""
    return {one["stage"]: one["findings"] for one in json.loads(run.findings.read_text())["stages"]}


def _checkpoints(run: RunDirectory) -> list[tuple[int, str]]:
    verified = [verify_checkpoint(path) for path in list_checkpoints(run.checkpoints)]
    return [(checkpoint.step, checkpoint.digest) for checkpoint in verified]


def _distinct(run: RunDirectory) -> bool:
    steps = [(record["kind"], record["step"]) for record in read_records(run.metrics)]
    shown = [(tag, step) for tag, events in tensorboard(run).items() for step, _ in events]
    return len(set(steps)) == len(steps) and len(set(shown)) == len(shown)
