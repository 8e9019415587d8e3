"""The few parts that every chart is drawn with. Colours and fonts belong to the page's style sheet."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

from markupsafe import Markup, escape

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
    """The whole picture; `description` is what someone hears who cannot see it."""
    return tag(
        "svg", *content, viewBox=f"0 0 {WIDTH} {height:g}", role="img", aria_label=description, focusable="false"
    )


def text(x: float, y: float, words: object, kind: str = "tick", anchor: str = "start") -> Markup:
    """One line of text; `anchor` is start, middle or end."""
    return tag("text", words, x=x, y=y, kind=kind, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, kind=kind)


def dot(x: float, y: float, kind: str, told: str, radius: float = 4) -> Markup:
    """A point that tells its values when it is pointed at."""
    return tag("circle", tag("title", told), cx=x, cy=y, r=radius, kind=kind)


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
    """Ticks in percent below the plot, with faint upright lines."""
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
