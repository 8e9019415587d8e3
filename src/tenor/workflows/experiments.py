"""Several runs one after another: configurations, seeds, or the same run again."""

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
from tenor.errors import InterruptedRunError, RefusedError, TenorError, UserError, run_of
from tenor.runs.best_evaluation import read_evaluation
from tenor.runs.directory import DEFAULT_ROOT, RunDirectory, find_run
from tenor.runs.environment import hardware
from tenor.runs.manifest import Manifest, read_manifest
from tenor.runs.missing import missing_because
from tenor.runs.summary import SummaryRow, find_row
from tenor.workflows.prepare import (
    changed_device,
    changed_inputs,
    changed_versions,
    input_fingerprints,
    prepare,
    recorded_config,
    recorded_precision,
    recorded_threads,
    require_available,
)
from tenor.workflows.train import RunResult, as_source, start, train


def run_experiments(
    names: Sequence[str], overrides: Sequence[str], root: Path = DEFAULT_ROOT, console: Console | None = None
) -> list[SummaryRow]:
    """Train every configuration, each with the overrides; a failed one is reported, and the next one starts.

    Returns one row per configuration, in order, also for one that failed before there was a run.

    Raises:
        UserError: a configuration cannot be read, or names a missing rule or tracker; nothing is run then.
        InterruptedRunError: interrupted; later configurations are not started.
    """
    return run_configs([load_config(name, overrides) for name in names], root, console)


def run_configs(
    configs: Sequence[Config], root: Path = DEFAULT_ROOT, console: Console | None = None
) -> list[SummaryRow]:
    """Train every configuration; a failed one is reported, and the next one starts.

    Returns one row per configuration, in order, also for one that failed before there was a run.

    Raises:
        UserError: a configuration names a missing rule or tracker; nothing is run then.
        InterruptedRunError: interrupted; later configurations are not started.
    """
    for config in configs:
        require_available(config)
    console = console or Console(stderr=True, markup=False)
    rows: list[SummaryRow] = []
    for number, config in enumerate(configs, start=1):
        console.rule(f"{number} of {len(configs)}: {config.name}, seed {config.seed}")
        rows.append(_train_one(config, root, console))
        gc.collect()  # The hooks of a watched model keep it alive, and the next run needs its memory.
    return rows


def exit_status(rows: Sequence[SummaryRow], requested: int) -> int:
    """0 if all requested runs completed, 3 if checks refused all others, else 1."""
    stopped = {row.status for row in rows} - {"completed"}
    if len(rows) == requested and stopped <= {"refused"}:
        return RefusedError.exit_code if stopped else 0
    return TenorError.exit_code


def _train_one(config: Config, root: Path, console: Console) -> SummaryRow:
    """Train; the run's row of the summary. It keeps the error's text only: the error itself refers to the model, and
    the next run needs its memory."""
    text = ""
    try:
        run: Path | None = train(config, root, console).run.path
    except (InterruptedRunError, KeyboardInterrupt):
        raise
    except TenorError as error:
        console.print(f"{config.name} did not complete: {error}", style="red", soft_wrap=True, markup=False)
        run, text = error.run, f"{type(error).__name__}: {error}"
    except Exception as error:  # A defect in one run must not end the others; it is shown with its traceback.
        console.print(traceback.format_exc(), style="red", soft_wrap=True, markup=False)
        run, text = run_of(error), f"{type(error).__name__}: {error}"
    row = find_row(root, RunDirectory(run)) if run is not None else None
    return row or _row_of_failure(config, run, text)


def _row_of_failure(config: Config, run: Path | None, error: str) -> SummaryRow:
    """The row of a configuration that failed before there was a run, or whose run could not write its row."""
    none = missing_because("the run did not start" if run is None else "the run could not write its row")
    settings = config.model_dump(mode="json")
    return SummaryRow(run.name if run else "none", config.name, settings, "failed", 0.0, none, none, none, error=error)


MEASURES = {"accuracy": "{:.2%}", "macro_f1": "{:.4f}", "loss": "{:.4f}"}
SPLITS = ("validation", "test")
WHAT_VARIES = (
    "The spread is the standard deviation between runs. The seed determines the choice of training and validation "
    "rows, their order, the initial weights of the head, and dropout; the test rows are the same for all seeds."
)


@dataclass(frozen=True)
class SeedSpread:
    """Mean and standard deviation (n - 1 in the denominator) of n values; the deviation needs two."""

    n: int
    mean: float
    deviation: float | None


def train_seeds(config: Config, count: int, root: Path) -> list[SummaryRow]:
    """Ordinary runs with `count` consecutive seeds from the configuration's on; a failed run does not stop the others.

    Raises:
        UserError: `count` is below 2.
        InterruptedRunError: interrupted; later seeds are not started.
    """
    if count < 2:
        raise UserError(f"--seeds {count}: expected 2 or more, to measure a spread")
    return run_configs([config.model_copy(update={"seed": config.seed + k}) for k in range(count)], root)


def spreads(rows: Sequence[SummaryRow]) -> dict[str, dict[str, SeedSpread]]:
    """By split and measure, over the completed runs; only splits that have results."""
    result: dict[str, dict[str, SeedSpread]] = {}
    for split in SPLITS:
        metrics = [_metrics(row, split) for row in rows if row.status == "completed"]
        values = [one for one in metrics if "accuracy" in one]
        if values:
            result[split] = {name: _spread([float(one[name]) for one in values]) for name in MEASURES}
    return result


def seeds_record(rows: Sequence[SummaryRow]) -> dict[str, Any]:
    """The runs and their spread as plain data."""
    summary = {
        split: {
            name: {"n": one.n, "mean": one.mean, "deviation": missing_because("needs two completed runs")}
            if one.deviation is None
            else asdict(one)
            for name, one in measures.items()
        }
        for split, measures in spreads(rows).items()
    }
    return {"what_varies": WHAT_VARIES, "summary": summary, "runs": [asdict(row) for row in rows]}


def seeds_table(rows: Sequence[SummaryRow]) -> RenderableType:
    """One line per seed, then mean and spread."""
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
        run = Text(row.run_id) if done else Text(f"{row.run_id} {row.status}", style="red")
        table.add_row(str(row.config["seed"]), run, *cells)
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


def _spread(values: list[float]) -> SeedSpread:
    return SeedSpread(len(values), mean(values), stdev(values) if len(values) > 1 else None)


def _deviation(one: SeedSpread, name: str) -> str:
    return "-" if one.deviation is None else MEASURES[name].format(one.deviation)


def repeat(
    reference: str,
    root: Path = DEFAULT_ROOT,
    console: Console | None = None,
    data: LabelledText | SourceData | None = None,
) -> RunResult:
    """Start a new run with the configuration, the threads and the inputs of an earlier one.

    `data` must be given again if it was given to `train`.

    Raises:
        UserError: data, weights, tokenizer, versions or device differ from the run's; all differences are listed, and
            nothing is written.
        TenorError: the new run is complete, but its weights differ from those of the earlier one.
    """
    console = console or Console(stderr=True, markup=False)
    original = find_run(root, reference)
    manifest = read_manifest(original)
    if manifest.job != "train":
        raise UserError(
            f"{original.reference} is a run of `tenor {manifest.job}`, and only trainings can be repeated. Start a new "
            f"run with its configuration: tenor {manifest.job} {original.config}"
        )
    config = recorded_config(original, manifest)
    differing = changed_versions(manifest)
    prepared = prepare(config, as_source(data), recorded_threads(manifest), precision=recorded_precision(manifest))
    differing += changed_device(manifest, prepared)
    differing += [f"{name}: changed since the run" for name in changed_inputs(manifest, input_fingerprints(prepared))]
    if differing:
        listed = "".join(f"\n  {difference}" for difference in differing)
        raise UserError(
            f"{original.reference} can't be repeated here:{listed}\nRestore these, or start a new run: "
            f"tenor train {original.config}"
        )
    result = start(prepared, root, console)
    if manifest.status == "completed":
        _compare(original, manifest, result)
        console.print(f"weights are bit for bit those of {original.reference}", highlight=False, soft_wrap=True)
    return result


def _compare(original: RunDirectory, manifest: Manifest, result: RunResult) -> None:
    """Raises TenorError if the selected checkpoints of the two runs have different weights."""
    before = read_evaluation(original.evaluation).checkpoint.digest
    if before == result.checkpoint_sha256:
        return
    then, now = manifest.hardware.get("cpu"), hardware()["cpu"]
    if isinstance(manifest.device, str) and manifest.device != "cpu":
        processors = f"kernels on {manifest.device} are not deterministic"
    else:
        processors = f"it ran on {then}, this is {now}" if then != now else "the processor is the same"
    raise TenorError(
        f"{result.run.reference} is complete, but its weights differ from those of {original.reference}: SHA-256 "
        f"{result.checkpoint_sha256[:12]}…, before {before[:12]}… ({processors})"
    )
