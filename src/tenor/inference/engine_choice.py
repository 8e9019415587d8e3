"""`engine="auto"`: time the engines on the user's texts, choose the fastest that agrees with PyTorch, cache the choice.

Int8 is never chosen: its probabilities differ from those that the run's evaluation measured.
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
"""Number of timed texts, spread evenly over the lengths."""

PAYS_FROM = 1000
"""Texts from which a comparison of engines, which costs as much as a few hundred texts, can pay off."""

ROUNDS = 2
"""Timed rounds per engine, interleaved; the fastest counts."""

FLOAT_TOLERANCE = 1e-4
"""Largest accepted difference between the probabilities of two engines in float32."""

AUTO_ENGINES: tuple[EngineName, ...] = ("torch", "onnx")
"""Candidates of `auto`."""

OTHER_PROBABILITIES = (
    "as requested; its probabilities differ from those in the run's evaluation: `tenor export --quantize int8` "
    "measures the difference"
)
"""The reason, with a warning, for a request of int8."""


@dataclass(frozen=True)
class Choice:
    """The chosen engine and the reason."""

    engine: EngineName
    why: str


def build_engine(source: Source, name: EngineName, plan: DevicePlan, framing: Framing) -> Engine:
    """Build the engine `name` for a source, and first its ONNX file if that is needed and not cached.

    Raises:
        UserError: an engine that the source doesn't support, or a missing package.
        TenorError: a kind of model that can't be exported.
    """
    if source.onnx is not None:
        if name != source.native:
            raise UserError(
                f"{source.origin} is an ONNX file, which needs --engine {source.native}, observed --engine {name}"
            )
        return onnx_engine(source.onnx, name, plan.threads, len(source.labels))
    if name == "torch":
        return torch_engine(source.model, plan)
    path = cached_onnx(source.model, source.digest, name == "onnx-int8", framing.token_types is not None)
    return onnx_engine(path, name, plan.threads, len(source.labels))


def choose_engine(
    source: Source, plan: DevicePlan, framing: Framing, rows: Sequence[np.ndarray]
) -> tuple[Engine, Choice]:
    """Time the engines on `rows` of token ids, or use the cached choice for this machine, model and text length."""
    native = source.native
    reason = _skip_reason(source, plan, rows)
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
    choice = Choice(stored["engine"], f"{stored['why']}; cached for this machine and model")
    return build_engine(source, choice.engine, plan, framing), choice


def _skip_reason(source: Source, plan: DevicePlan, rows: Sequence[np.ndarray]) -> str | None:
    if source.onnx is not None:
        return "the engine of the exported file"
    if plan.device != "cpu":
        return f"{plan.device}: ONNX Runtime is only compared on a CPU"
    if not onnx_installed():
        return "the extra onnx is not installed"
    if not len(rows):
        return f"without a comparison of engines, which pays off from {PAYS_FROM:,} texts on"
    if len(rows) < SAMPLE:
        return f"too few texts to compare engines: {len(rows)}, expected at least {SAMPLE}"
    return None


def _sample(rows: Sequence[np.ndarray]) -> list[np.ndarray]:
    ordered = sorted(rows, key=len)
    return [ordered[index] for index in np.linspace(0, len(ordered) - 1, SAMPLE).round().astype(int)]


def _key(source: Source, plan: DevicePlan, rows: Sequence[np.ndarray]) -> str:
    """Hash of engines, machine, packages, model, threads, and the median text length, rounded up to a power of two."""
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
    probabilities: dict[EngineName, np.ndarray] = {}
    for engine in engines.values():
        run_rows(engine, rows[:1], framing, plan.prediction_tokens)
    for _ in range(ROUNDS):
        for name, engine in engines.items():
            started = time.perf_counter()
            logits = run_rows(engine, rows, framing, plan.prediction_tokens)
            seconds[name] = min(seconds.get(name, math.inf), time.perf_counter() - started)
            probabilities[name] = class_probabilities(logits, source.temperature)
    expected = probabilities["torch"]
    refused = {name: fault for name in engines if (fault := disagreement(expected, probabilities[name]))}
    best = min((name for name in engines if name not in refused), key=lambda name: seconds[name])
    speeds = [
        f"{name} {len(rows) / taken:.1f}/s" + (f" ({refused[name]})" if name in refused else "")
        for name, taken in seconds.items()
    ]
    return Choice(best, f"fastest on {len(rows)} of these texts: " + ", ".join([*speeds, *_failed(failures)]))


def _failed(failures: dict[EngineName, str]) -> list[str]:
    return [f"{name} failed ({why})" for name, why in failures.items()]


def disagreement(expected: np.ndarray, observed: np.ndarray) -> str | None:
    """Why an engine's probabilities, shape (n, K), are too far from PyTorch's; None if they agree."""
    if not np.isfinite(observed).all():
        return "not all probabilities are finite"
    difference = float(np.abs(expected - observed).max())
    return None if difference <= FLOAT_TOLERANCE else f"probabilities differ by {difference:.3g}"
