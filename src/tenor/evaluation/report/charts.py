"""The report's charts, drawn as SVG in one style."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10, nan

from markupsafe import Markup, escape

from tenor.evaluation.formatting import interval, percent
from tenor.measures.calibration import ReliabilityBin
from tenor.measures.intervals import Interval, wilson_interval
from tenor.measures.selective import Answered

WIDTH = 440
"""Of every chart, in its own units: about one pixel each on a wide screen, and still legible on a phone."""


@dataclass(frozen=True)
class Scale:
    """Values `low` … `high` on pixels `start` … `end`."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def scale(values: Iterable[float], start: float, end: float, ticks: int = 5, include: tuple[float, ...] = ()) -> Scale:
    """A scale over the finite values and those of `include`, widened to round numbers."""
    finite = [value for value in (*values, *include) if isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if high - low < 1e-12 * max(abs(high), 1e-300):
        low, high = (0.0, 1.0) if max(abs(low), abs(high)) < 1e-300 else (low - abs(low) / 2, high + abs(high) / 2)
    step = _round_step((high - low) / max(ticks - 1, 1))
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    marks = tuple(number * step for number in range(first, last + 1))
    return Scale(marks[0], marks[-1], start, end, marks)


def tag(name: str, *content: object, **attributes: object) -> Markup:
    """An element. All that is not markup yet is escaped; `kind` becomes `class`, `_` in a name becomes `-`."""
    named = {("class" if key == "kind" else key.replace("_", "-")): value for key, value in attributes.items()}
    written = Markup("").join(Markup(' {}="{}"').format(Markup(key), _number(value)) for key, value in named.items())
    inner = Markup("").join(escape(one) for one in content)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), written, inner)


def drawing(height: float, description: str, *content: Markup) -> Markup:
    """The whole picture; `description` is the text for screen readers."""
    return tag(
        "svg", *content, viewBox=f"0 0 {WIDTH} {height:g}", role="img", aria_label=description, focusable="false"
    )


def text(x: float, y: float, words: object, kind: str = "tick", anchor: str = "start") -> Markup:
    """One line of text; `anchor` is start, middle or end."""
    return tag("text", words, x=x, y=y, kind=kind, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, kind=kind)


def dot(x: float, y: float, kind: str, tooltip: str, radius: float = 4) -> Markup:
    """A point with a tooltip."""
    return tag("circle", tag("title", tooltip), cx=x, cy=y, r=radius, kind=kind)


def curve(points: Iterable[tuple[float, float]], x: Scale, y: Scale, kind: str) -> Markup:
    """A line through the points, broken where a value is not finite."""
    steps, pen_down = [], False
    for one, other in points:
        if not (isfinite(one) and isfinite(other)):
            pen_down = False
            continue
        steps.append(f"{'L' if pen_down else 'M'}{x(one):.1f},{y(other):.1f}")
        pen_down = True
    return tag("path", d="".join(steps), kind=kind)


def rows_axis(x: Scale, bottom: float, top: float, label: str) -> Markup:
    """Ticks in percent below the plot, with vertical grid lines."""
    marks = [
        line(x(t), top, x(t), bottom, "grid") + text(x(t), bottom + 18, f"{100 * t:g}%", anchor="middle")
        for t in x.ticks
    ]
    return Markup("").join(marks) + text((x.start + x.end) / 2, bottom + 38, label, "label", "middle")


def _round_step(step: float) -> float:
    power = 10.0 ** floor(log10(step))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= step * (1 - 1e-9))


def _number(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


LEFT, RIGHT, TOP = 48, 12, 44
MOST_POINTS = 300
"""A line with more points is drawn through the means of neighbours."""


@dataclass(frozen=True)
class Series:
    """A line over optimizer steps; `kind` is its look in the style sheet: quiet, main or second."""

    name: str
    kind: str
    points: tuple[tuple[float, float], ...]
    dots: bool = False


@dataclass(frozen=True)
class Estimate:
    """A share in 0 … 1 with its interval, and a note next to it."""

    name: str
    value: float
    interval: Interval
    note: str = ""
    kind: str = "main"


@dataclass(frozen=True)
class Chart:
    """A picture, its caption, and its numbers as a table."""

    title: str
    picture: Markup
    caption: str
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def line_chart(
    series: Sequence[Series],
    unit: str,
    description: str,
    from_zero: bool = False,
    best: tuple[int, float] | None = None,
) -> Markup:
    """Lines over optimizer steps; `best` rings one point. Values are drawn in the unit that they come in."""
    height, bottom = 290, 240
    drawn = [Series(one.name, one.kind, _thinned(one.points), one.dots) for one in series]
    x = scale((p[0] for one in drawn for p in one.points), LEFT, WIDTH - RIGHT, 5, (0.0,))
    values = [p[1] for one in drawn for p in one.points]
    y = scale(values, bottom, TOP, 5, (0.0,) if from_zero else ())
    power = _power(y)
    parts = [text(0, 14, f"{unit} ×10{_superscript(power)}" if power else unit, "label")]
    for tick in y.ticks:
        parts.append(line(LEFT, y(tick), WIDTH - RIGHT, y(tick), "grid"))
        parts.append(text(LEFT - 8, y(tick) + 4, f"{tick / 10**power:.6g}", anchor="end"))
    parts += [text(x(tick), bottom + 20, f"{tick:,.0f}", anchor="middle") for tick in x.ticks if tick == int(tick)]
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, bottom + 42, "optimizer step", "label", "middle"))
    for one in drawn:
        parts.append(curve(one.points, x, y, f"curve {one.kind}"))
        for step, value in one.points if one.dots else ():
            if isfinite(value):
                parts.append(_mark(one.kind, x(step), y(value), f"{one.name}, step {step:,.0f}: {value:.4g}"))
    if best is not None and isfinite(best[1]):
        parts.append(tag("circle", cx=x(best[0]), cy=y(best[1]), r=9, kind="ring"))
    return drawing(height, description, *parts, _legend(drawn))


def interval_chart(rows: Sequence[Estimate], label: str, description: str, name_width: float = 124) -> Markup:
    """One row per estimate: its name, its interval around its dot, and its note at the right."""
    pitch, top, note_width = 34, 12, 64
    bottom = top + pitch * len(rows)
    ends = [bound for row in rows for bound in (row.interval.low, row.interval.high)]
    x = scale(ends, name_width, WIDTH - note_width - 14, 6)
    parts = [rows_axis(x, bottom, top, label)]
    for number, row in enumerate(rows):
        y = top + pitch * (number + 0.5)
        tooltip = f"{row.name}: {percent(row.value)} ({interval(row.interval.low, row.interval.high)})"
        parts.append(text(name_width - 14, y + 4, row.name, "name", "end"))
        parts.append(line(x(row.interval.low), y, x(row.interval.high), y, f"range {row.kind}"))
        parts.append(_mark(row.kind, x(row.value), y, tooltip, 4))
        parts.append(text(WIDTH, y + 4, row.note, "value", "end"))
    return drawing(bottom + 46, description, *parts)


def reliability_chart(bins: Sequence[ReliabilityBin], confidence: float, description: str) -> Markup:
    """Accuracy over confidence with intervals, the line of perfect calibration, and the number of rows in each bin."""
    right, top, bottom, floor_ = WIDTH - RIGHT, 26, 292, 362
    intervals = [wilson_interval(round(one.accuracy * one.n), one.n, confidence) for one in bins]
    lowest = min([one.low for one in bins] + [one.accuracy for one in bins])
    low = floor(lowest * 10 + 1e-9) / 10
    x, y = (scale((), *ends, 6, (low, 1.0)) for ends in ((LEFT, right), (bottom, top)))
    parts = [text(0, 14, "accuracy", "label")]
    for tick in y.ticks:
        parts.append(line(LEFT, y(tick), right, y(tick), "grid"))
        parts.append(text(LEFT - 8, y(tick) + 4, f"{100 * tick:g}%", anchor="end"))
        parts.append(text(x(tick), floor_ + 20, f"{100 * tick:g}%", anchor="middle"))
    parts.append(
        text((LEFT + right) / 2, floor_ + 42, "confidence: probability of the predicted class", "label", "middle")
    )
    parts.append(line(x(low), y(low), x(1), y(1), "agree"))
    parts.append(text(x(low) + 12, y(1) + 18, "underconfident", "hint"))
    parts.append(text(right - 8, y(low) - 10, "overconfident", "hint", "end"))
    most = max(one.n for one in bins)
    parts.append(text(LEFT - 8, floor_ - 2, "rows", anchor="end"))
    for one, bounds in zip(bins, intervals, strict=True):
        tooltip = (
            f"{one.n:,} rows with confidence {interval(one.low, one.high, 0)}: mean "
            f"{percent(one.mean_confidence, 1)}, accuracy {percent(one.accuracy, 1)}"
        )
        left, width = x(max(one.low, low)), x(one.high) - x(max(one.low, low))
        tall = max(1.0, (floor_ - bottom - 22) * one.n / most)
        parts.append(
            tag("rect", tag("title", tooltip), x=left + 1, y=floor_ - tall, width=width - 2, height=tall, kind="bar")
        )
        at = x(max(one.mean_confidence, low))
        parts.append(line(at, y(max(bounds.low, low)), at, y(bounds.high), "range main"))
        parts.append(dot(at, y(one.accuracy), "mark main", tooltip, 5))
    return drawing(floor_ + 52, description, *parts)


def coverage_chart(points: Sequence[Answered], confidence: float, description: str) -> Markup:
    """Accuracy among the answered rows over their share of all rows, with intervals."""
    right, top, bottom = WIDTH - RIGHT, 26, 240
    estimates = [
        (one, one.right / one.answered, wilson_interval(one.right, one.answered, confidence)) for one in points
    ]
    x = scale((), LEFT, right, 6, (0.0, 1.0))
    y = scale((bound for _, _, bounds in estimates for bound in (bounds.low, bounds.high)), bottom, top, 5)
    parts = [text(0, 14, "accuracy of the answered rows", "label")]
    parts.append(text((LEFT + right) / 2, bottom + 42, "coverage: share of rows answered", "label", "middle"))
    for tick in y.ticks:
        parts.append(line(LEFT, y(tick), right, y(tick), "grid"))
        parts.append(text(LEFT - 8, y(tick) + 4, f"{100 * tick:.6g}%", anchor="end"))
    parts += [text(x(tick), bottom + 20, f"{100 * tick:g}%", anchor="middle") for tick in x.ticks]
    parts.append(curve(((one.coverage, accuracy) for one, accuracy, _ in estimates), x, y, "curve main"))
    for one, accuracy, bounds in estimates:
        tooltip = (
            f"abstains below {one.threshold:.4f}: {percent(one.coverage, 1)} of the rows answered, "
            f"accuracy {percent(accuracy)} ({interval(bounds.low, bounds.high)})"
        )
        parts.append(line(x(one.coverage), y(bounds.low), x(one.coverage), y(bounds.high), "range main"))
        parts.append(dot(x(one.coverage), y(accuracy), "mark main", tooltip))
    return drawing(bottom + 52, description, *parts)


def histogram_chart(rows: Sequence[int], marked: Sequence[int], names: tuple[str, str], label: str) -> Markup:
    """Counts of rows over shares in 0 … 1 in bins of equal width, with the `marked` rows in front."""
    bottom, right = 210, WIDTH - RIGHT
    x = scale((), LEFT, right, 6, (0.0, 1.0))
    y = scale((), bottom, TOP, 5, (0.0, float(max(1, *rows))))
    parts = [text(0, 14, "rows", "label"), text((LEFT + right) / 2, bottom + 42, label, "label", "middle")]
    for tick in y.ticks:
        parts.append(line(LEFT, y(tick), right, y(tick), "grid"))
        parts.append(text(LEFT - 8, y(tick) + 4, f"{tick:,.0f}", anchor="end"))
    parts += [text(x(tick), bottom + 20, f"{100 * tick:g}%", anchor="middle") for tick in x.ticks]
    width = (right - LEFT) / len(rows)
    for number, (n, of_these) in enumerate(zip(rows, marked, strict=True)):
        tooltip = (
            f"{interval(number / len(rows), (number + 1) / len(rows), 0)}: {n:,} {names[0]}, {of_these:,} {names[1]}"
        )
        for count, kind in ((n, "bar"), (of_these, "bar second")):
            tall = bottom - y(count)
            box = {"x": LEFT + number * width + 1, "y": bottom - tall, "width": width - 2, "height": tall}
            parts.append(tag("rect", tag("title", tooltip), kind=kind, **box))
    legend = [tag("tspan", "■", kind=f"sign {kind}") for kind in ("light", "second")]
    words = (legend[0], f"\u2002{names[0]}\u2003", legend[1], f"\u2002{names[1]}")
    parts.append(tag("text", *words, x=right, y=14, kind="label", text_anchor="end"))
    return drawing(bottom + 52, f"{sum(rows):,} {names[0]} and {sum(marked):,} {names[1]} by {label}.", *parts)


def strip(row: Estimate, shared: Scale, reference: float | None) -> Markup:
    """A single estimate in a table's cell, on a scale that the whole column shares; a tick marks the reference."""
    parts = [line(shared.start, 10, shared.end, 10, "grid")]
    if reference is not None:
        tooltip = tag("title", f"text baseline {percent(reference)}")
        parts.append(tag("path", tooltip, d=f"M{shared(reference):.1f},3v14", kind="reference"))
    parts.append(line(shared(row.interval.low), 10, shared(row.interval.high), 10, "range main"))
    parts.append(dot(shared(row.value), 10, "mark main", f"{percent(row.value)}", 4))
    view = f"0 0 {shared.end + 6:g} 20"
    return tag("svg", *parts, viewBox=view, kind="strip", aria_hidden="true", focusable="false")


def _mark(kind: str, x: float, y: float, tooltip: str, radius: float = 4) -> Markup:
    """Circles, squares and diamonds: the shape shows the kind without colour."""
    if kind == "main":
        return dot(x, y, "mark main", tooltip, radius)
    side = radius * 0.9
    turn = {"transform": f"rotate(45 {x:.1f} {y:.1f})"} if kind == "second" else {}
    box = {"x": x - side, "y": y - side, "width": 2 * side, "height": 2 * side}
    return tag("rect", tag("title", tooltip), kind=f"mark {kind}", **box, **turn)


def _legend(series: Sequence[Series]) -> Markup:
    """Above the plot, at the right; empty for a single line. Its signs are text, so that no width must be measured."""
    if len(series) < 2:
        return Markup("")
    parts = []
    for one in series:
        sign = tag("tspan", {"main": "●", "second": "◆", "quiet": "━"}[one.kind], kind=f"sign {one.kind}")
        parts += [sign, f"\u2002{one.name}", "\u2003"]
    return tag("text", *parts[:-1], x=WIDTH - RIGHT, y=14, kind="label", text_anchor="end")


def _thinned(points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    if len(points) <= MOST_POINTS:
        return points
    size = -(-len(points) // MOST_POINTS)
    groups = (points[k : k + size] for k in range(0, len(points), size))
    return tuple((group[-1][0], _mean([value for _, value in group])) for group in groups)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if all(map(isfinite, values)) else nan


def _power(y: Scale) -> int:
    """The power of ten that is factored out of very small values."""
    largest = max(abs(y.low), abs(y.high))
    return floor(log10(largest)) if 0 < largest < 0.01 else 0


def _superscript(number: int) -> str:
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
