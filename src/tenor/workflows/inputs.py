"""What a run rests on, and whether it is still the same: configuration, data, weights, tokenizer, versions, device."""

from dataclasses import asdict
from typing import Any

from tenor.config.loading import load_config
from tenor.config.schema import Config
from tenor.data.splits import data_fingerprint, data_notes
from tenor.data.tokenization import tokenizer_digest
from tenor.errors import UserError
from tenor.model.classifier import weights_digest
from tenor.model.freezing import anatomy
from tenor.runs.directory import RunDirectory
from tenor.runs.environment import is_absent, package_versions
from tenor.runs.files import sha256_file
from tenor.runs.manifest import Manifest, read_manifest, update_manifest
from tenor.workflows.prepare import Prepared


def record_inputs(run: RunDirectory, prepared: Prepared, fingerprints: dict[str, str]) -> None:
    """Write into the manifest what the run is made of, what of it learns, and what computes it."""
    plan = prepared.plan
    update_manifest(
        run,
        fingerprints={"config": sha256_file(run.config), **fingerprints},
        threads=plan.threads,
        device=plan.device,
        precision=plan.precision,
        timings=prepared.timings,
        data_notes=list(data_notes(prepared.splits)),
        what_learns=asdict(prepared.learning.what_learns()),
        hardware={**read_manifest(run).hardware, "accelerators": list(plan.accelerators)},
    )


def input_fingerprints(prepared: Prepared) -> dict[str, str]:
    """SHA-256 of data, encoder weights and tokenizer."""
    model = prepared.classifier.model
    body = anatomy(model).body
    return {
        "data": data_fingerprint(prepared.splits),
        "encoder_weights": weights_digest({name: p for name, p in model.named_parameters() if name in body}),
        "tokenizer": tokenizer_digest(prepared.classifier.tokenizer),
    }


def recorded_config(run: RunDirectory, manifest: Manifest) -> Config:
    """The configuration that a run kept. Raises UserError where the file is not the one that the run wrote."""
    config = load_config(run.config)
    written = manifest.fingerprints.get("config")
    if isinstance(written, str) and sha256_file(run.config) != written:
        raise UserError(
            f"{run.config} was changed since the run began; restore it, or start a new run with it: "
            f"tenor train {run.config}"
        )
    return config


def recorded_threads(manifest: Manifest) -> int | None:
    """The CPU threads that a run computed with: another number gives other roundings."""
    return manifest.threads if isinstance(manifest.threads, int) else None


def changed_inputs(manifest: Manifest, fingerprints: dict[str, str]) -> list[str]:
    """Which of data, encoder_weights and tokenizer are not those of the run."""
    known = {name: digest for name, digest in manifest.fingerprints.items() if isinstance(digest, str)}
    return [name for name, digest in fingerprints.items() if known.get(name, digest) != digest]


def changed_versions(manifest: Manifest) -> list[str]:
    """In words, every package whose version is another one here than in the run."""
    here, then = package_versions(), manifest.versions
    changed = [name for name in then if _known(then[name]) != _known(here.get(name))]
    return [f"{name} was {_known(then[name])}, here it is {_known(here.get(name))}" for name in changed]


def changed_device(manifest: Manifest, prepared: Prepared) -> list[str]:
    """In words, where another device, number type or number of threads computes here."""
    plan = prepared.plan
    here = {"device": plan.device, "precision": plan.precision, "threads": plan.threads}
    then: dict[str, Any] = {name: getattr(manifest, name) for name in here}
    if isinstance(named := manifest.hardware.get("accelerators"), list):
        here["GPU"], then["GPU"] = (", ".join(map(str, names)) or "none" for names in (plan.accelerators, named))
    return [
        f"{name} was {then[name]}, here it is {here[name]}"
        for name in here
        if not is_absent(then[name]) and then[name] != here[name]
    ]


def _known(version: Any) -> str:
    return str(version)[:12] if isinstance(version, str) else "not installed"
