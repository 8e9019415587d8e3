"""Where a result comes from: what went in, on what it ran, and how to repeat it."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tenor.config.describe import to_yaml
from tenor.config.schema import Config
from tenor.data.dataset import Absent, LabelledText
from tenor.evaluation.report.collect import EvaluationNumbers, RunContent, SplitNumbers
from tenor.evaluation.words import duration, moment
from tenor.model.what_learns import WhatLearns
from tenor.runs.environment import is_absent
from tenor.runs.manifest import Manifest, process_lives


@dataclass(frozen=True)
class Fact:
    """A name and a value; `code` marks what is to be copied, such as a digest."""

    name: str
    value: str
    code: bool = False


@dataclass(frozen=True)
class Provenance:
    """The last part of a report."""

    groups: tuple[tuple[str, tuple[Fact, ...]], ...]
    config: str
    """As YAML, or why it is missing."""
    commands: tuple[str, ...]


def status_of(manifest: Manifest | Absent) -> tuple[str, str]:
    """The status in one word, and where needed a sentence."""
    if isinstance(manifest, Absent):
        return "unknown", manifest.reason
    told = manifest.error if isinstance(manifest.error, str) else ""
    if manifest.status != "running":
        return manifest.status, told
    if process_lives(manifest):
        return "running", "The run is still under way: this report shows what is known so far."
    return "killed", "The run's process is gone, and it recorded no end. `tenor train --resume` goes on with it."


def learns_briefly(content: RunContent) -> str:
    """What learned, from the weights themselves: `model.freeze` says only what was meant, and `model.keep_trainable`
    may make nearly all of the encoder learn under `base`."""
    return "what learned is not known" if isinstance(content.what_learns, Absent) else content.what_learns.brief()


def provenance(content: RunContent, rows: Mapping[str, LabelledText] | Absent) -> Provenance:
    """From the manifest, the configuration and the evaluation, as far as they are there."""
    manifest, config = content.manifest, content.config
    groups = [("Data", _data(manifest, config, rows)), ("Weights", _weights(content))]
    if isinstance(manifest, Manifest):
        groups += [("Run", _run(manifest)), ("Machine", _machine(manifest))]
    text = to_yaml(config) if isinstance(config, Config) else config.reason
    return Provenance(tuple((name, facts) for name, facts in groups if facts), text, _commands(content))


def _data(
    manifest: Manifest | Absent, config: Config | Absent, rows: Mapping[str, LabelledText] | Absent
) -> tuple[Fact, ...]:
    facts = []
    if isinstance(config, Config):
        data = config.data
        named = data.path or data.hub_name
        facts.append(Fact("source", f"{data.source}: {named}" if named else data.source))
        cut = f", a share of {data.head_share:g} from the beginning" if data.truncation == "head_tail" else ""
        facts.append(Fact("texts", f"cut to {data.max_length} tokens ({data.truncation}{cut})"))
    if not isinstance(rows, Absent):
        facts.append(Fact("rows", ", ".join(f"{len(split):,} {name}" for name, split in rows.items())))
    if isinstance(manifest, Manifest):
        facts.append(_digest("rows, SHA-256", manifest.fingerprints.get("data")))
        facts.append(_digest("tokenizer, SHA-256", manifest.fingerprints.get("tokenizer")))
    return tuple(facts)


def _weights(content: RunContent) -> tuple[Fact, ...]:
    manifest, config, evaluation = content.manifest, content.config, content.evaluation
    facts = []
    if isinstance(config, Config):
        facts.append(Fact("encoder", config.model.name))
    if isinstance(manifest, Manifest):
        facts.append(_digest("encoder at the start, SHA-256", manifest.fingerprints.get("encoder_weights")))
        facts += _learns(content.what_learns)
    if isinstance(evaluation, EvaluationNumbers):
        facts.append(Fact("evaluated checkpoint", f"step {evaluation.checkpoint.step:,}"))
        facts.append(_digest("its weights, SHA-256", evaluation.checkpoint.digest))
    if isinstance(manifest, Manifest) and "model" in manifest.digests:
        facts.append(_digest("folder model/ when this was written, SHA-256", manifest.digests["model"]))
    return tuple(facts)


def _learns(found: WhatLearns | Absent) -> tuple[Fact, ...]:
    if isinstance(found, Absent):
        return (Fact("learns", found.reason),)
    return Fact("learns", found.learning_told()), Fact("frozen", found.frozen_told())


def _run(manifest: Manifest) -> tuple[Fact, ...]:
    facts = [Fact("started", moment(manifest.started))]
    if isinstance(manifest.duration_sec, float | int):
        facts.append(Fact("took", duration(manifest.duration_sec)))
    phases = ", ".join(f"{name.replace('_', ' ')} {duration(s)}" for name, s in manifest.timings.items() if s >= 0.5)
    facts += [Fact("of which", phases)] if phases else []
    facts.append(Fact("seed", str(manifest.seed)))
    facts.append(Fact("command", shlex.join(map(str, manifest.command)), code=True))
    for name, found in manifest.commits.items():
        facts.append(Fact(f"commit of the {name}" if name == "project" else "commit of Tenor", _commit(found), True))
    return tuple(facts)


def _machine(manifest: Manifest) -> tuple[Fact, ...]:
    hardware = manifest.hardware
    memory = hardware.get("memory_bytes")
    facts = [
        Fact("processor", _told(hardware.get("cpu"))),
        Fact("cores", f"{_told(hardware.get('cores_at_hand'))} at hand; {_told(manifest.threads)} threads used"),
        Fact("memory", f"{memory / 2**30:.1f} GiB" if isinstance(memory, int | float) else _told(memory)),
        Fact("accelerators", ", ".join(map(str, hardware.get("accelerators") or ())) or "none"),
        Fact("system", manifest.os),
        Fact("versions", ", ".join(f"{name} {_told(version)}" for name, version in manifest.versions.items())),
    ]
    return tuple(facts)


def _commands(content: RunContent) -> tuple[str, ...]:
    run = content.run.reference
    given = isinstance(content.config, Config) and content.config.data.source == "given"
    known = isinstance(content.config, Config) and isinstance(content.manifest, Manifest)
    train = "tenor.train(tenor.load_config('config.yaml'), data=…)" if given else "tenor train config.yaml"
    found = [f"{train}  # trains anew with what is here: the configuration below, saved as config.yaml"]
    if known and not given:
        found.insert(0, f"tenor train --repeat {run}  # refuses other data, weights or versions; compares the result")
    if not isinstance(content.evaluation, Absent) and not given:
        split = "" if isinstance(content.evaluation.splits.get("test"), SplitNumbers) else " --split validation"
        found.append(f"tenor evaluate {run}{split}  # measures the saved model again")
    return (*found, f"tenor report {run}  # writes this file again")


def _digest(name: str, value: Any) -> Fact:
    return Fact(name, value, code=True) if isinstance(value, str) else Fact(name, _told(value))


def _commit(found: Any) -> str:
    if isinstance(found, dict) and "commit" in found:
        return f"{found['commit']}{' with uncommitted changes' if found.get('dirty') is True else ''}"
    return _told(found)


def _told(value: Any) -> str:
    if is_absent(value):
        return str(value["absent"])
    return "not recorded" if value is None else str(value)
