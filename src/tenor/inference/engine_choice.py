"""`engine="auto"`: the fastest engine that gives PyTorch's probabilities, on texts like the user's, remembered.

Int8 is not among them: it answers with other probabilities than the run's evaluation measured.
"""

import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from tenor.errors import TenorError, UserError
from tenor.inference.engines import Engine, EngineName, onnx_engine, onnx_installed, run_rows, torch_engine
from tenor.inference.onnx_files import cached_onnx
from tenor.inference.source import Source
from tenor.inference.texts import Framing
from tenor.measures.objective import class_probabilities
from tenor.model.device import DevicePlan
from tenor.runs.environment import hardware
from tenor.runs.files import cached_file, read_json, write_json

SAMPLE = 64
"""Texts that are timed, evenly over their lengths."""

ROUNDS = 2
"""Times that every engine runs them, in turns; the quickest counts."""

FLOAT_TOLERANCE = 1e-4
"""Largest difference of a probability between two engines in float32."""

AUTO_ENGINES: tuple[EngineName, ...] = ("torch", "onnx")
"""What `auto` chooses among."""

OTHER_PROBABILITIES = (
    "as asked for; its probabilities are not those that the run reports: `tenor export --quantize int8` measures the "
    "difference"
)
"""Why, and what to know of it, where int8 was asked for by name."""


@dataclass(frozen=True)
class Choice:
    """Which engine, and why."""

    engine: EngineName
    why: str


def build_engine(source: Source, name: EngineName, plan: DevicePlan, framing: Framing) -> Engine:
    """The engine of that name for a source; an ONNX file is made where there is none.

    Raises:
        UserError: an engine that the source can't have, or a package that is missing.
        TenorError: a kind of model that can't be exported.
    """
    if source.onnx is not None:
        if name != source.native:
            raise UserError(f"{source.origin} is an ONNX file for --engine {source.native}; found --engine {name}")
        return onnx_engine(source.onnx, name, plan.threads, len(source.labels))
    if name == "torch":
        return torch_engine(source.model, plan)
    path = cached_onnx(source.model, source.digest, name == "onnx-int8", framing.token_types is not None)
    return onnx_engine(path, name, plan.threads, len(source.labels))


def choose_engine(
    source: Source, plan: DevicePlan, framing: Framing, rows: Sequence[np.ndarray]
) -> tuple[Engine, Choice]:
    """Time the engines on `rows` of token ids, or take what an earlier call chose on this machine for such lengths."""
    native = source.native
    reason = _no_choice(source, plan, rows)
    if reason is not None:
        return build_engine(source, native, plan, framing), Choice(native, reason)
    rows = _sample(rows)
    chosen_now: list[tuple[Engine, Choice]] = []

    def choose(path: Path) -> None:
        engines, failures = _candidates(source, plan, framing)
        choice = _fastest(source, plan, framing, rows, engines, failures)
        write_json(path, asdict(choice))
        chosen_now.append((engines[choice.engine], choice))

    path = cached_file("engines", f"{_key(source, plan, rows)}.json", choose)
    if chosen_now:
        return chosen_now[0]
    stored = read_json(path)
    choice = Choice(stored["engine"], f"{stored['why']}; remembered for this machine and model")
    return build_engine(source, choice.engine, plan, framing), choice


def _no_choice(source: Source, plan: DevicePlan, rows: Sequence[np.ndarray]) -> str | None:
    if source.onnx is not None:
        return "the artefact's own"
    if plan.device != "cpu":
        return f"{plan.device}: ONNX Runtime is compared on a CPU only"
    if not onnx_installed():
        return "the extra onnx is not installed"
    if len(rows) < SAMPLE:
        return "too few texts to compare engines on"
    return None


def _sample(rows: Sequence[np.ndarray]) -> list[np.ndarray]:
    ordered = sorted(rows, key=len)
    return [ordered[at] for at in np.linspace(0, len(ordered) - 1, SAMPLE).round().astype(int)]


def _key(source: Source, plan: DevicePlan, rows: Sequence[np.ndarray]) -> str:
    """Engines, machine, packages, model, threads, and the texts' median length to the next power of two."""
    median = 2 ** math.ceil(math.log2(float(np.median([len(row) for row in rows]))))
    packages = {name: version(name) for name in ("torch", "transformers", "onnxruntime")}
    facts = [AUTO_ENGINES, hardware(), packages, source.digest, plan.threads, plan.prediction_tokens, median]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _candidates(
    source: Source, plan: DevicePlan, framing: Framing
) -> tuple[dict[EngineName, Engine], dict[EngineName, str]]:
    engines: dict[EngineName, Engine] = {}
    failures: dict[EngineName, str] = {}
    for name in AUTO_ENGINES:
        try:
            engines[name] = build_engine(source, name, plan, framing)
        except TenorError as error:
            failures[name] = str(error)
    return engines, failures


def _fastest(
    source: Source,
    plan: DevicePlan,
    framing: Framing,
    rows: list[np.ndarray],
    engines: dict[EngineName, Engine],
    failures: dict[EngineName, str],
) -> Choice:
    seconds: dict[EngineName, float] = {}
    found: dict[EngineName, np.ndarray] = {}
    for engine in engines.values():
        run_rows(engine, rows[:1], framing, plan.prediction_tokens)
    for _ in range(ROUNDS):
        for name, engine in engines.items():
            started = time.perf_counter()
            logits = run_rows(engine, rows, framing, plan.prediction_tokens)
            seconds[name] = min(seconds.get(name, math.inf), time.perf_counter() - started)
            found[name] = class_probabilities(logits, source.temperature)
    refused = {name: fault for name in engines if (fault := disagreement(found["torch"], found[name]))}
    best = min((name for name in engines if name not in refused), key=lambda name: seconds[name])
    told = [
        f"{name} {len(rows) / taken:.1f}/s" + (f" ({refused[name]})" if name in refused else "")
        for name, taken in seconds.items()
    ]
    return Choice(best, f"fastest on {len(rows)} of these texts: " + ", ".join([*told, *_failed(failures)]))


def _failed(failures: dict[EngineName, str]) -> list[str]:
    return [f"{name} failed ({why})" for name, why in failures.items()]


def disagreement(expected: np.ndarray, found: np.ndarray) -> str | None:
    """Why an engine's probabilities (n, K) are not near enough to PyTorch's, or None."""
    if not np.isfinite(found).all():
        return "not every probability is a number"
    difference = float(np.abs(expected - found).max())
    return None if difference <= FLOAT_TOLERANCE else f"probabilities differ by {difference:.3g}"
