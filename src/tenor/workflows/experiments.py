"""Several runs one after the other: configurations, seeds, or a run repeated."""

import gc
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tenor.config.loading import load_config
from tenor.config.schema import Config
from tenor.data.dataset import LabelledText, SourceData
from tenor.errors import InterruptedRunError, RefusedError, TenorError, UserError
from tenor.runs.directory import DEFAULT_ROOT, RunDirectory, find_run
from tenor.runs.environment import hardware, missing_because
from tenor.runs.files import read_json
from tenor.runs.manifest import Manifest, read_manifest
from tenor.runs.summary import SummaryRow, read_summary
from tenor.workflows.prepare import (
    changed_device,
    changed_inputs,
    changed_versions,
    input_fingerprints,
    prepare,
    recorded_config,
    recorded_threads,
    require_available,
)
from tenor.workflows.train import RunResult, as_source, start, train


def run_experiments(
    names: Sequence[str], overrides: Sequence[str], root: Path = DEFAULT_ROOT, console: Console | None = None
) -> list[SummaryRow]:
    """Train every configuration, each with the overrides; if one fails, report it and continue with the next.

    Returns the rows of these runs, in their order, including a row for each run that ended before it had a folder.

    Raises:
        UserError: a configuration can't be read, or names an unknown rule or a missing tracker; nothing is run.
        InterruptedRunError: the user interrupted; later configurations are not started.
    """
    return run_configs([load_config(name, overrides) for name in names], root, console)


def run_configs(
    configs: Sequence[Config], root: Path = DEFAULT_ROOT, console: Console | None = None
) -> list[SummaryRow]:
    """Train every configuration; if one fails, report it and continue with the next.

    Returns the rows of these runs, in their order.

    Raises:
        UserError: a configuration names an unknown rule or a missing tracker; nothing is run.
        InterruptedRunError: the user interrupted; later configurations are not started.
    """
    for config in configs:
        require_available(config)
    console = console or Console(stderr=True, markup=False)
    rows: list[SummaryRow] = []
    for number, config in enumerate(configs, start=1):
        console.rule(f"{number} of {len(configs)}: {config.name}, seed {config.seed}")
        before = {(row.config_name, row.run_id) for row in read_summary(root)}
        error = _train_one(config, root, console)
        gc.collect()  # The watchdog's hooks keep the model alive, and the next run needs its memory.
        # Another process may have added its runs in the meantime.
        ours = config.model_dump(mode="json")
        new = [row for row in read_summary(root) if (row.config_name, row.run_id) not in before and row.config == ours]
        rows += new or ([_not_started(config, error)] if error is not None else [])
    return rows


def exit_status(rows: Sequence[SummaryRow], expected: int) -> int:
    """0 if all `expected` runs completed, 3 if a check refused all runs that did not complete, else 1."""
    stopped = {row.status for row in rows} - {"completed"}
    if len(rows) == expected and stopped <= {"refused"}:
        return RefusedError.exit_code if stopped else 0
    return TenorError.exit_code


def _train_one(config: Config, root: Path, console: Console) -> str | None:
    """Train and return the error as text: the exception would keep the run's memory while the next one trains."""
    try:
        train(config, root, console)
    except (InterruptedRunError, KeyboardInterrupt):
        raise
    except TenorError as error:
        console.print(f"{config.name} did not complete: {error}", style="red", soft_wrap=True, markup=False)
        return f"{type(error).__name__}: {error}"
    except Exception as error:  # A bug in one run must not end the others; show the traceback.
        console.print(traceback.format_exc(), style="red", soft_wrap=True, markup=False)
        return f"{type(error).__name__}: {error}"
    return None


def _not_started(config: Config, error: str) -> SummaryRow:
    """The row of a configuration that failed before its run started, and so has none in the summary."""
    none = missing_because("the run did not start")
    settings = config.model_dump(mode="json")
    return SummaryRow("none", config.name, settings, "failed", 0.0, none, none, none, error=error)


MEASURES = {"accuracy": "{:.2%}", "macro_f1": "{:.4f}", "loss": "{:.4f}"}
SPLITS = ("validation", "test")
WHAT_VARIES = (
    "The spread is the standard deviation between runs. The seed determines the validation and training rows, the "
    "order of examples, the head's initial weights and dropout, so the spread includes all of these; the test rows are "
    "the same."
)


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1 in the denominator, so it needs two values) of n values."""

    n: int
    mean: float
    deviation: float | None


def train_seeds(config: Config, count: int, root: Path) -> list[SummaryRow]:
    """Train with `count` consecutive seeds, starting from the configuration's; if one fails, the others continue.

    Raises:
        UserError: fewer than 2 seeds.
        InterruptedRunError: the user interrupted; later seeds are not started.
    """
    if count < 2:
        raise UserError(f"--seeds {count}: expected 2 or more, because a standard deviation needs two runs")
    return run_configs([config.model_copy(update={"seed": config.seed + k}) for k in range(count)], root)


def spreads(rows: Sequence[SummaryRow]) -> dict[str, dict[str, Spread]]:
    """The spread by split and measure over the completed runs; a split without results is omitted."""
    by_split: dict[str, dict[str, Spread]] = {}
    for split in SPLITS:
        metrics = [_metrics(row, split) for row in rows if row.status == "completed"]
        values = [one for one in metrics if "accuracy" in one]
        if values:
            by_split[split] = {name: _spread([float(one[name]) for one in values]) for name in MEASURES}
    return by_split


def seeds_record(rows: Sequence[SummaryRow]) -> dict[str, Any]:
    """The runs and their spread as plain data."""
    summary = {
        split: {
            name: {"n": one.n, "mean": one.mean, "deviation": missing_because("needs two runs that completed")}
            if one.deviation is None
            else asdict(one)
            for name, one in measures.items()
        }
        for split, measures in spreads(rows).items()
    }
    return {"what_varies": WHAT_VARIES, "summary": summary, "runs": [asdict(row) for row in rows]}


def seeds_table(rows: Sequence[SummaryRow]) -> RenderableType:
    """One line per seed, followed by the mean and the spread."""
    by_split = spreads(rows)
    columns = [(split, name) for split in by_split for name in ("accuracy", "macro_f1")]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("seed", justify="right")
    table.add_column("run", overflow="fold")
    for split, name in columns:
        table.add_column(f"{split}\n{name.replace('_f1', ' F1')}", justify="right", no_wrap=True)
    for row in rows:
        metrics = [(_metrics(row, split), name) for split, name in columns]
        cells = [MEASURES[name].format(one[name]) if name in one else "-" for one, name in metrics]
        done = row.status == "completed"
        label = Text(row.run_id) if done else Text(f"{row.run_id} {row.status}", style="red")
        table.add_row(str(row.config["seed"]), label, *cells)
        if not done and isinstance(row.error, str):
            table.add_row("", Text(row.error, style="red"))
    if columns:
        n = next(iter(by_split[columns[0][0]].values())).n
        table.add_section()
        table.add_row(
            "", f"mean, n = {n}", *(MEASURES[m].format(by_split[s][m].mean) for s, m in columns), style="bold"
        )
        table.add_row(
            "", "± spread", *(_deviation(by_split[split][name], name) for split, name in columns), style="bold"
        )
    return Group(table, Text(WHAT_VARIES, style="dim"))


def _metrics(row: SummaryRow, split: str) -> Any:
    return row.test_metrics if split == "test" else row.val_metrics


def _spread(values: list[float]) -> Spread:
    return Spread(len(values), mean(values), stdev(values) if len(values) > 1 else None)


def _deviation(one: Spread, name: str) -> str:
    return "-" if one.deviation is None else MEASURES[name].format(one.deviation)


def repeat(
    reference: str,
    root: Path = DEFAULT_ROOT,
    console: Console | None = None,
    data: LabelledText | SourceData | None = None,
) -> RunResult:
    """Start a new run with the configuration, threads and inputs of an earlier one.

    `data` must be given again where it was given to `train`.

    Raises:
        UserError: data, weights, tokenizer, versions or device differ from those of the run; all differences are
            listed, and nothing is written.
        TenorError: the new run is complete, but its weights differ from those of the earlier one.
    """
    console = console or Console(stderr=True, markup=False)
    original = find_run(root, reference)
    manifest = read_manifest(original)
    config = recorded_config(original, manifest)
    differing = changed_versions(manifest)
    prepared = prepare(config, as_source(data), recorded_threads(manifest))
    differing += changed_device(manifest, prepared)
    differing += [f"{name}: changed since the run" for name in changed_inputs(manifest, input_fingerprints(prepared))]
    if differing:
        listed = "".join(f"\n  {difference}" for difference in differing)
        raise UserError(
            f"{original.reference} cannot be repeated here:{listed}\nRestore these, or start a new run without them: "
            f"tenor train {original.config}"
        )
    result = start(prepared, root, console)
    if manifest.status == "completed":
        _compare(original, manifest, result)
        console.print(f"same weights as {original.reference}, bit for bit", highlight=False, soft_wrap=True)
    return result


def _compare(original: RunDirectory, manifest: Manifest, result: RunResult) -> None:
    """Raises TenorError if the weights of the two selected checkpoints differ."""
    before = read_json(original.evaluation)["checkpoint"]["digest"]
    if before == result.checkpoint_sha256:
        return
    then, now = manifest.hardware.get("cpu"), hardware()["cpu"]
    if isinstance(manifest.device, str) and manifest.device != "cpu":
        processors = f"kernels on {manifest.device} may give other bits each time"
    else:
        processors = f"that run used {then}, this machine is {now}" if then != now else "the processor is the same"
    raise TenorError(
        f"{result.run.reference} is complete, but its weights differ from those of {original.reference}: SHA-256 "
        f"{result.checkpoint_sha256[:12]}…, expected {before[:12]}… ({processors})"
    )
