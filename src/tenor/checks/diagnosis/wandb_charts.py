"""Charts of Weights & Biases, each exported as a CSV: those of one run are joined to its history."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tenor.checks.diagnosis.history import LOSS, History, Series, best_series, split_of
from tenor.checks.diagnosis.history_files import chart_in

OTHER_AXIS = "another axis than the chart of the training loss, of which the last value was read"


@dataclass(frozen=True)
class ExportedChart:
    """What a file contains of one run."""

    file: Path
    axis: str
    history: History


@dataclass
class JoinedCharts:
    """The charts of one run."""

    charts: list[ExportedChart] = field(default_factory=list)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of the charts, in their order."""
        return tuple(chart.file for chart in self.charts)

    def history(self) -> History:
        """One history. Steps of different axes do not compare: of a chart with another axis, the last value is kept."""
        main = next((one for one in self.charts if _has_training_loss(one.history)), self.charts[0])
        joined = [one for one in self.charts if one.axis == main.axis]
        others = [one for one in self.charts if one.axis != main.axis]
        series: dict[str, Series] = {}
        for chart in joined:
            for name, values in chart.history.series.items():
                series[name] = {**values, **series.get(name, {})}
        last = max((step for values in series.values() for step in values), default=0)
        for chart in others:
            for name, values in chart.history.series.items():
                if values and name not in series:
                    series[name] = {last: values[max(values)]}
        notes = dict.fromkeys(note for chart in joined for note in chart.history.notes)
        epochs = [chart.history.epochs for chart in joined if chart.history.epochs is not None]
        return History(
            series,
            per_epoch=all(chart.history.per_epoch for chart in joined),
            epochs=max(epochs, default=None),
            numbered=any(chart.history.numbered for chart in joined),
            notes=(*notes, *(f"{chart.file.name} has {OTHER_AXIS}" for chart in others)),
        )


def joined_charts(files: Iterable[Path]) -> dict[str, JoinedCharts]:
    """The charts of each run among these files, by the name of the run; files of another kind are left out.

    Raises UserError for a broken table.
    """
    runs: dict[str, JoinedCharts] = {}
    for file in files:
        axis, histories = chart_in(file) or ("", {})
        for run, history in histories.items():
            runs.setdefault(run, JoinedCharts()).charts.append(ExportedChart(file, axis, history))
    return runs


def _has_training_loss(history: History) -> bool:
    return bool(best_series({n: v for n, v in history.series.items() if split_of(n) in ("train", "")}, LOSS))
