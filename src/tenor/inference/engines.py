"""Engines that compute logits: PyTorch, and ONNX Runtime in float32 or int8."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from tenor.data.batching import least_padding
from tenor.errors import TenorError, UserError
from tenor.inference.logits import compute_rows
from tenor.inference.onnx_files import cached_onnx
from tenor.inference.source import Source
from tenor.inference.texts import Framing
from tenor.measures.objective import class_probabilities
from tenor.model.device import DevicePlan, full_precision
from tenor.model.speed import with_first_token_layer
from tenor.runs.environment import hardware
from tenor.runs.files import cached_file, read_json, write_json

TOLERANCE = 1e-5
"""Relative to the largest logit: the rounding error of float32 when a few layers sum in another order."""


def fast_model(model: Any) -> Any:
    """`model` with the last layer computed only for the first token, or `model` itself if that changes the logits.

    `model` must be in evaluation mode and is not changed; the result shares its weights.
    """
    shorter = with_first_token_layer(model)
    return shorter if shorter is not model and _agree(model, shorter) else model


def _agree(model: Any, other: Any) -> bool:
    """Whether both models give the same logits for two rows of arbitrary tokens, one of them padded."""
    device = next(model.parameters()).device
    ids = torch.arange(16, device=device).remainder(model.get_input_embeddings().num_embeddings).view(2, 8)
    mask = torch.ones_like(ids)
    if model.config.pad_token_id is None:
        ids, mask = ids[:1], mask[:1]
    else:
        mask[1, 5:] = 0
    with torch.inference_mode():
        expected, observed = (each(input_ids=ids, attention_mask=mask).logits for each in (model, other))
    return bool((observed - expected).abs().max() <= TOLERANCE * max(1.0, float(expected.abs().max())))


EngineName = Literal["torch", "onnx", "onnx-int8"]
INSTALL_ONNX = 'pip install "tenor[onnx]"'
PASSES_PER_BUDGET = 64
"""The fixed cost of a forward pass is about 1/64 of the cost of a full one: measured on a CPU, where a pass of 64
tokens takes as long as 90 tokens of a large pass."""

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Engine:
    """Computes the logits of one batch.

    `run` maps inputs, int64, shape (rows, longest), to logits, float32, shape (rows, K). The inputs have no
    `attention_mask` if no row is padded.
    """

    name: EngineName
    run: Callable[[dict[str, np.ndarray]], np.ndarray]
    side_by_side: int = 1
    """Forward passes that may run at once and share the planned CPU threads; ONNX Runtime has separate threads."""
    rows_alone: bool = False
    """Whether a row's logits depend on its batch, so that every row needs a batch to itself."""


def torch_engine(model: Any, plan: DevicePlan) -> Engine:
    """PyTorch on the planned device, with the fastest form of the model."""
    tokens = model.get_input_embeddings().num_embeddings
    fast = fast_model(model.eval().to(plan.device))

    def run(inputs: dict[str, np.ndarray]) -> np.ndarray:
        if (largest := int(inputs["input_ids"].max())) >= tokens:
            raise UserError(
                f"{model.name_or_path}: the tokenizer gives token id {largest:,}, expected less than {tokens:,}, the "
                "number of the model's token embeddings. Use tokenizer and weights from the same model"
            )
        with torch.inference_mode(), full_precision(plan.device):
            tensors = {name: torch.from_numpy(array).to(plan.device) for name, array in inputs.items()}
            return fast(**tensors).logits.float().cpu().numpy()

    return Engine("torch", run, plan.passes_side_by_side)


def onnx_engine(path: Path, name: EngineName, threads: int, classes: int) -> Engine:
    """An ONNX file on the CPU.

    In int8 every row is a batch to itself: the last bits of a number depend on the shape of the batch and can change a
    rounding by a whole step (measured: up to 0.0014 in a probability). So a row gets the same result with any others.

    Raises:
        UserError: ONNX Runtime is missing or can't load the file, or the file does not have `classes` outputs.
    """
    require_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    alone = name == "onnx-int8"
    options.intra_op_num_threads = 1 if alone else threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class
        raise UserError(f"{path}: ONNX Runtime can't load it: {str(error).splitlines()[0]}. Export again") from error
    outputs = session.get_outputs()[0].shape[-1]
    if outputs != classes:
        raise UserError(
            f"{path}: the model has {outputs} outputs for {classes} class names. Restore the folder, or export again"
        )
    input_names = {node.name for node in session.get_inputs()}

    def run(inputs: dict[str, np.ndarray]) -> np.ndarray:
        full = {"attention_mask": np.ones_like(inputs["input_ids"]), **inputs}
        try:
            return session.run(None, {name: array for name, array in full.items() if name in input_names})[0]
        except Exception as error:  # As above.
            raise TenorError(f"{path}: ONNX Runtime can't compute: {str(error).splitlines()[0]}") from error

    return Engine(name, run, threads if alone else 1, rows_alone=alone)


def onnx_installed() -> bool:
    """Whether all packages of the extra `onnx` are installed."""
    return all(find_spec(name) is not None for name in ONNX_PACKAGES)


def require_onnx() -> None:
    """Raises UserError, with the command to install it, if a package of the extra `onnx` is missing."""
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(
            f"ONNX needs packages that are not installed: {', '.join(missing)}. Install them: {INSTALL_ONNX}"
        )


def run_rows(
    engine: Engine,
    rows: Sequence[np.ndarray],
    framing: Framing,
    token_budget: int,
    advance: Callable[[int], None] = lambda rows: None,
) -> np.ndarray:
    """Logits of all rows, float32, shape (rows, K), in the order of `rows`; shape (0, 0) without rows.

    `advance` is called with the number of rows of each batch.
    """
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    batches = _batches(lengths, engine.rows_alone or framing.pad_id is None, token_budget)

    def compute(batch: np.ndarray) -> np.ndarray:
        return engine.run(padded([rows[index] for index in batch], framing))

    logits = compute_rows(compute, batches, engine.side_by_side, advance)
    return np.empty((0, 0), dtype=np.float32) if logits is None else logits


def padded(rows: Sequence[np.ndarray], framing: Framing) -> dict[str, np.ndarray]:
    """The model's inputs for `rows`, padded on the right to the longest row."""
    lengths = np.array([len(row) for row in rows])
    longest = int(lengths.max())
    mask = np.arange(longest) < lengths[:, None]
    input_ids = np.full((len(rows), longest), framing.pad_id or 0, dtype=np.int64)
    input_ids[mask] = np.concatenate(rows)
    inputs = {"input_ids": input_ids}
    if framing.token_types is not None:
        types = np.zeros_like(input_ids)
        types[mask] = np.concatenate([framing.types_of(length) for length in lengths])
        inputs["token_type_ids"] = types
    # Without padding no mask is needed, and attention is faster without one.
    return inputs if mask.all() else {**inputs, "attention_mask": mask.astype(np.int64)}


def _batches(lengths: np.ndarray, rows_alone: bool, token_budget: int) -> list[np.ndarray]:
    budget = 1 if rows_alone else token_budget
    return least_padding(lengths, budget, pass_cost=token_budget // PASSES_PER_BUDGET)


SAMPLE = 64
"""Number of timed texts, spread evenly over the lengths."""

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
