"""`engine="auto"` and `"fastest"`: time engines on the user's texts, and choose the fastest that agrees with PyTorch.

`auto` agrees to the rounding error of float32: the probabilities are those that the run's evaluation measured.
`fastest` also tries 16 and 8 bits, and accepts probabilities that differ by up to a hundredth. The choice is cached.
"""

import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from tenor.errors import TenorError, UserError
from tenor.inference.engines import Engine, EngineName, onnx_engine, onnx_installed, run_rows, torch_engine
from tenor.inference.onnx_files import cached_onnx
from tenor.inference.source import Source
from tenor.inference.texts import Framing
from tenor.measures.objective import class_probabilities
from tenor.model.device import DevicePlan, native_bf16
from tenor.runs.environment import hardware
from tenor.runs.files import cached_file, read_json, write_json

SAMPLE = 64
"""Number of timed texts, spread evenly over the lengths."""

PAYS_FROM = 1000
"""Texts from which a comparison of engines, which costs as much as a few hundred texts, can pay off."""

ROUNDS = 2
"""Timed rounds per engine, interleaved; the fastest counts."""

Compared = Literal["auto", "fastest"]
COMPARED: tuple[Compared, ...] = get_args(Compared)
FLOAT_TOLERANCE = 1e-4
"""Largest difference between the probabilities of two engines in float32."""
TOLERANCES: dict[Compared, float] = {"auto": FLOAT_TOLERANCE, "fastest": 1e-2}
"""Largest accepted difference between a probability and PyTorch's in float32."""
LEAST_EQUAL = 0.995
"""Least accepted share of texts with the same most probable class."""

CANDIDATES: dict[Compared, tuple[EngineName, ...]] = {
    "auto": ("torch", "onnx"),
    "fastest": ("torch", "torch-bf16", "onnx", "onnx-int8"),
}

OTHER_PROBABILITIES: dict[EngineName, str] = {
    "torch-bf16": "as requested; its probabilities differ from those in the run's evaluation by some thousandths: "
    "`--engine fastest` measures the difference on your texts",
    "onnx-int8": "as requested; its probabilities differ from those in the run's evaluation: `tenor export --quantize "
    "int8` measures the difference",
}
"""The reason, with a warning, for a request of an engine with 16 or 8 bits."""


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
    if name == "torch-bf16":
        return torch_engine(source.model, plan, "bf16")
    path = cached_onnx(source.model, source.digest, name == "onnx-int8", framing.token_types is not None)
    return onnx_engine(path, name, plan.threads, len(source.labels))


def choose_engine(
    source: Source, plan: DevicePlan, framing: Framing, rows: Sequence[np.ndarray], compared: Compared = "auto"
) -> tuple[Engine, Choice]:
    """Time the engines on `rows` of token ids, or use the cached choice for this machine, model and text length."""
    native = source.native
    names, failures = _available(compared, plan)
    reason = _skip_reason(source, rows, names, failures)
    if reason is not None:
        return build_engine(source, native, plan, framing), Choice(native, reason)
    rows = _sample(rows)
    chosen_now: list[tuple[Engine, Choice]] = []

    def choose(path: Path) -> None:
        engines = _built(names, source, plan, framing, failures)
        choice = _fastest(source, plan, framing, rows, engines, failures, compared)
        write_json(path, asdict(choice))
        chosen_now.append((engines[choice.engine], choice))

    path = cached_file("engines", f"{_key(source, plan, rows, names)}.json", choose)
    if chosen_now:
        return chosen_now[0]
    stored = read_json(path)
    choice = Choice(stored["engine"], f"{stored['why']}; cached for this machine and model")
    return build_engine(source, choice.engine, plan, framing), choice


def _available(compared: Compared, plan: DevicePlan) -> tuple[list[EngineName], dict[EngineName, str]]:
    """The candidates that can run here, and why the others can't."""
    failures: dict[EngineName, str] = {}
    for name in CANDIDATES[compared]:
        if name.startswith("onnx") and plan.device != "cpu":
            failures[name] = f"{plan.device}: ONNX Runtime is only compared on a CPU"
        elif name.startswith("onnx") and not onnx_installed():
            failures[name] = "the extra onnx is not installed"
        elif name == "torch-bf16" and plan.device == "cpu" and not native_bf16():
            failures[name] = "this processor only emulates it"
    return [name for name in CANDIDATES[compared] if name not in failures], failures


def _skip_reason(
    source: Source, rows: Sequence[np.ndarray], names: Sequence[EngineName], failures: dict[EngineName, str]
) -> str | None:
    if source.onnx is not None:
        return "the engine of the exported file"
    if len(names) == 1:
        return "; ".join(dict.fromkeys(failures.values()))
    if not len(rows):
        return f"without a comparison of engines, which pays off from {PAYS_FROM:,} texts on"
    if len(rows) < SAMPLE:
        return f"too few texts to compare engines: {len(rows)}, expected at least {SAMPLE}"
    return None


def _sample(rows: Sequence[np.ndarray]) -> list[np.ndarray]:
    ordered = sorted(rows, key=len)
    return [ordered[index] for index in np.linspace(0, len(ordered) - 1, SAMPLE).round().astype(int)]


def _key(source: Source, plan: DevicePlan, rows: Sequence[np.ndarray], names: Sequence[EngineName]) -> str:
    """Hash of engines, machine, packages, model, threads, and the median text length, rounded up to a power of two."""
    median = 2 ** math.ceil(math.log2(float(np.median([len(row) for row in rows]))))
    packages = {name: version(name) for name in ("torch", "transformers", "onnxruntime")}
    facts = [list(names), hardware(), packages, source.digest, plan.threads, plan.prediction_tokens, median]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _built(
    names: Sequence[EngineName], source: Source, plan: DevicePlan, framing: Framing, failures: dict[EngineName, str]
) -> dict[EngineName, Engine]:
    """The engines; the reason of one that can't be built is added to `failures`."""
    engines: dict[EngineName, Engine] = {}
    for name in names:
        try:
            engines[name] = build_engine(source, name, plan, framing)
        except TenorError as error:
            failures[name] = str(error)
    return engines


def _fastest(
    source: Source,
    plan: DevicePlan,
    framing: Framing,
    rows: list[np.ndarray],
    engines: dict[EngineName, Engine],
    failures: dict[EngineName, str],
    compared: Compared,
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
    found = {name: agreement(expected, probabilities[name], TOLERANCES[compared]) for name in engines}
    best = min((name for name in engines if found[name].agrees), key=lambda name: seconds[name])
    speeds = [f"{name} {len(rows) / taken:.1f}/s{found[name].note}" for name, taken in seconds.items()]
    return Choice(best, f"fastest on {len(rows)} of these texts: " + ", ".join([*speeds, *_failed(failures)]))


def _failed(failures: dict[EngineName, str]) -> list[str]:
    return [f"{name} failed ({why})" for name, why in failures.items()]


@dataclass(frozen=True)
class Agreement:
    """How an engine's probabilities compare with PyTorch's in float32."""

    agrees: bool
    note: str = ""
    """For the reason of a choice; empty where they are equal but for the rounding error of float32."""


def agreement(expected: np.ndarray, observed: np.ndarray, tolerance: float) -> Agreement:
    """Whether probabilities, shape (n, K), agree with the expected ones within the tolerance."""
    if not np.isfinite(observed).all():
        return Agreement(False, " (not all probabilities are finite)")
    difference = float(np.abs(expected - observed).max())
    if difference <= FLOAT_TOLERANCE:
        return Agreement(True)
    equal = float((expected.argmax(axis=1) == observed.argmax(axis=1)).mean())
    agrees = difference <= tolerance and equal >= LEAST_EQUAL
    note = f"probabilities differ by {difference:.2g}, {equal:.1%} equal labels"
    return Agreement(agrees, f" ({note})" if agrees else f" ({note}: too far from float32)")
