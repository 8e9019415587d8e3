"""How a run trained: loss, validation metrics, learning rate and gradient norm over its steps."""

from collections.abc import Mapping, Sequence
from typing import Any

from tenor.evaluation.report.charts import Chart, Series, line_chart
from tenor.evaluation.words import percent

Records = Sequence[Mapping[str, Any]]


def curves_section(records: Records, select_by: str | None, kept_step: int | None) -> tuple[Chart, ...]:
    """Loss, validation metrics, learning rate and gradient norm: as many of them as were recorded.

    `kept_step` is that of the checkpoint that was chosen by the metric `select_by`, where both are known.
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
    told = "; ".join(f"{s.name} from {s.points[0][1]:.3f} to {s.points[-1][1]:.3f}" for s in series)
    picture = line_chart(
        series,
        "nats",
        f"Loss: {told}.",
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
    told = "; ".join(f"{one.name} {one.points[-1][1]:.2f}% at the end" for one in series)
    picture = line_chart(series, "%", f"On validation rows: {told}.", best=(best[0], 100 * best[1]) if best else None)
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
