"""The report's sections on training: curves over the steps, and the provenance of the result."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tenor.config.describe import to_yaml
from tenor.config.schema import Config
from tenor.data.dataset import LabelledText
from tenor.evaluation.formatting import duration, moment, percent
from tenor.evaluation.report.charts import Chart, Series, line_chart
from tenor.evaluation.report.run_content import EvaluationNumbers, RunContent
from tenor.model.freezing import TrainableSummary
from tenor.runs.best_evaluation import SplitNumbers
from tenor.runs.manifest import Manifest, process_lives
from tenor.runs.missing import Missing, is_missing

Records = Sequence[Mapping[str, Any]]


def curves_section(records: Records, select_by: str | None, kept_step: int | None) -> tuple[Chart, ...]:
    """Loss, validation metrics, learning rate and gradient norm: those that were recorded.

    `kept_step` is the step of the checkpoint that was selected by the metric `select_by`, if both are known.
    """
    train = [record for record in records if record.get("kind") == "train"]
    validation = [record for record in records if record.get("kind") == "validation"]
    return tuple(
        chart
        for chart in (
            _loss_chart(train, validation, kept_step if select_by == "loss" else None),
            _metrics_chart(validation, select_by, kept_step),
            _rate_chart(train),
            _norm_chart(train),
        )
        if chart is not None
    )


def _loss_chart(train: Records, validation: Records, kept_step: int | None) -> Chart | None:
    series = [
        Series("training batches", "quiet", _points(train, "loss")),
        Series("validation", "main", _points(validation, "loss"), dots=True),
    ]
    series = [one for one in series if one.points]
    if not series:
        return None
    ranges = "; ".join(f"{s.name} from {s.points[0][1]:.3f} to {s.points[-1][1]:.3f}" for s in series)
    picture = line_chart(
        series,
        "nats",
        f"Loss: {ranges}.",
        from_zero=True,
        best=_kept(validation, "loss", kept_step),
    )
    header = ("step", "validation loss")
    return Chart("Loss", picture, "Mean negative log-likelihood per row.", header, _number_rows(validation, ("loss",)))


def _metrics_chart(validation: Records, select_by: str | None, kept_step: int | None) -> Chart | None:
    names = {"accuracy": "accuracy", "macro_f1": "macro F1"}
    series = [
        Series(name, kind, tuple((step, 100 * value) for step, value in _points(validation, key)), dots=True)
        for (key, name), kind in zip(names.items(), ("main", "second"), strict=True)
    ]
    series = [one for one in series if one.points]
    if not series:
        return None
    chosen_by = names.get(select_by or "")
    best = _kept(validation, select_by, kept_step) if select_by and chosen_by else None
    last = "; ".join(f"{one.name} {one.points[-1][1]:.2f}% at the end" for one in series)
    picture = line_chart(series, "%", f"On validation rows: {last}.", best=(best[0], 100 * best[1]) if best else None)
    caption = f"The ring marks the checkpoint that was kept: the best {chosen_by}." if best else ""
    return Chart(
        "On validation rows", picture, caption, ("step", *names.values()), _number_rows(validation, tuple(names))
    )


def _rate_chart(train: Records) -> Chart | None:
    series = [
        Series("body", "main", _points(train, "learning_rate")),
        Series("head", "second", _points(train, "head_learning_rate")),
    ]
    if series[1].points in ((), series[0].points):
        series = [Series("all", "main", series[0].points)]
    if not series[0].points:
        return None
    peak = max(value for one in series for _, value in one.points)
    return Chart("Learning rate", line_chart(series, "learning rate", f"Learning rate, at most {peak:.2g}.", True), "")


def _norm_chart(train: Records) -> Chart | None:
    points = _points(train, "grad_norm")
    if not points:
        return None
    picture = line_chart([Series("norm", "main", points)], "norm, before clipping", "Gradient norm.", True)
    return Chart("Gradient norm", picture, "")


def _points(records: Records, name: str) -> tuple[tuple[float, float], ...]:
    return tuple((float(r["step"]), float(r[name])) for r in records if isinstance(r.get(name), int | float))


def _kept(validation: Records, name: str, step: int | None) -> tuple[int, float] | None:
    return next(((int(at), value) for at, value in _points(validation, name) if at == step), None)


def _number_rows(records: Records, names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    def cell(record: Mapping[str, Any], name: str) -> str:
        value = record.get(name)
        if not isinstance(value, int | float):
            return "–"
        return f"{value:.4f}" if name == "loss" else percent(value)

    return tuple((f"{record['step']:,.0f}", *(cell(record, name) for name in names)) for record in records)


@dataclass(frozen=True)
class Fact:
    """A name and a value; `code` marks values to copy, such as a digest."""

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


def status_of(manifest: Manifest | Missing) -> tuple[str, str]:
    """The status in one word, and an explanation if it needs one."""
    if isinstance(manifest, Missing):
        return "unknown", manifest.reason
    error = manifest.error if isinstance(manifest.error, str) else ""
    if manifest.status != "running":
        return manifest.status, error
    if process_lives(manifest):
        return "running", "The run is still running; this report shows its results so far."
    return "killed", "The run's process ended without recording a status. Resume it with `tenor train --resume`."


def trainable_briefly(content: RunContent) -> str:
    """Which parameters were trainable, from the weights themselves: with `model.freeze=base`, `model.keep_trainable`
    may still make nearly all of the encoder trainable."""
    return "trainable parameters unknown" if isinstance(content.trainable, Missing) else content.trainable.brief()


def provenance(content: RunContent, rows: Mapping[str, LabelledText] | Missing) -> Provenance:
    """From the manifest, the configuration and the evaluation, as far as they are available."""
    manifest, config = content.manifest, content.config
    groups = [("Data", _data(manifest, config, rows)), ("Weights", _weights(content))]
    if isinstance(manifest, Manifest):
        groups += [("Run", _run(manifest)), ("Machine", _machine(manifest))]
    text = to_yaml(config) if isinstance(config, Config) else config.reason
    return Provenance(tuple((name, facts) for name, facts in groups if facts), text, _commands(content))


def _data(
    manifest: Manifest | Missing, config: Config | Missing, rows: Mapping[str, LabelledText] | Missing
) -> tuple[Fact, ...]:
    facts = []
    if isinstance(config, Config):
        data = config.data
        named = data.path or data.hub_name
        facts.append(Fact("source", f"{data.source}: {named}" if named else data.source))
        share = f", {100 * data.head_share:g}% from the beginning" if data.truncation == "head_tail" else ""
        facts.append(Fact("texts", f"truncated to {data.max_length} tokens ({data.truncation}{share})"))
    if not isinstance(rows, Missing):
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
        facts += _trainable(content.trainable)
    if isinstance(evaluation, EvaluationNumbers):
        facts.append(Fact("evaluated checkpoint", f"step {evaluation.checkpoint.step:,}"))
        facts.append(_digest("its weights, SHA-256", evaluation.checkpoint.digest))
    if isinstance(manifest, Manifest) and "model" in manifest.digests:
        facts.append(_digest("folder model/ when this was written, SHA-256", manifest.digests["model"]))
    return tuple(facts)


def _trainable(summary: TrainableSummary | Missing) -> tuple[Fact, ...]:
    if isinstance(summary, Missing):
        return (Fact("trainable", summary.reason),)
    return Fact("trainable", summary.describe_trainable()), Fact("frozen", summary.describe_frozen())


def _run(manifest: Manifest) -> tuple[Fact, ...]:
    facts = [Fact("started", moment(manifest.started))]
    if isinstance(manifest.duration_sec, float | int):
        facts.append(Fact("duration", duration(manifest.duration_sec)))
    phases = ", ".join(f"{name.replace('_', ' ')} {duration(s)}" for name, s in manifest.timings.items() if s >= 0.5)
    facts += [Fact("phases", phases)] if phases else []
    facts.append(Fact("seed", str(manifest.seed)))
    facts.append(Fact("command", shlex.join(map(str, manifest.command)), code=True))
    for name, commit in manifest.commits.items():
        facts.append(Fact(f"commit of the {name}" if name == "project" else "commit of Tenor", _commit(commit), True))
    return tuple(facts)


def _machine(manifest: Manifest) -> tuple[Fact, ...]:
    hardware = manifest.hardware
    memory = hardware.get("memory_bytes")
    facts = [
        Fact("processor", _text(hardware.get("cpu"))),
        Fact("cores", f"{_text(hardware.get('cores_available'))} available; {_text(manifest.threads)} threads used"),
        Fact("memory", f"{memory / 2**30:.1f} GiB" if isinstance(memory, int | float) else _text(memory)),
        Fact("accelerators", ", ".join(map(str, hardware.get("accelerators") or ())) or "none"),
        Fact("system", manifest.os),
        Fact("versions", ", ".join(f"{name} {_text(version)}" for name, version in manifest.versions.items())),
    ]
    return tuple(facts)


def _commands(content: RunContent) -> tuple[str, ...]:
    run = content.run.reference
    given = isinstance(content.config, Config) and content.config.data.source == "given"
    known = isinstance(content.config, Config) and isinstance(content.manifest, Manifest)
    train = "tenor.train(tenor.load_config('config.yaml'), data=…)" if given else "tenor train config.yaml"
    commands = [f"{train}  # a new run with the configuration below, saved as config.yaml"]
    if known and not given:
        commands.insert(
            0, f"tenor train --repeat {run}  # refused if data, weights or versions changed; compares the result"
        )
    if not isinstance(content.evaluation, Missing) and not given:
        split = "" if isinstance(content.evaluation.splits.get("test"), SplitNumbers) else " --split validation"
        commands.append(f"tenor evaluate {run}{split}  # evaluates the saved model again")
    return (*commands, f"tenor report {run}  # writes this file again")


def _digest(name: str, value: Any) -> Fact:
    return Fact(name, value, code=True) if isinstance(value, str) else Fact(name, _text(value))


def _commit(commit: Any) -> str:
    if isinstance(commit, dict) and "commit" in commit:
        return f"{commit['commit']}{' with uncommitted changes' if commit.get('dirty') is True else ''}"
    return _text(commit)


def _text(value: Any) -> str:
    if is_missing(value):
        return str(value["missing"])
    return "not recorded" if value is None else str(value)
