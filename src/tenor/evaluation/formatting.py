"""Formats of numbers, the same in the report, the index, the model card and the terminal."""

_MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]<>#|"})


def percent(share: float, digits: int = 2) -> str:
    """A share in 0 … 1, such as 86.20%."""
    return f"{100 * share:.{digits}f}%"


def interval(low: float, high: float, digits: int = 2) -> str:
    """Bounds in 0 … 1, such as 84.62–87.64%."""
    return f"{100 * low:.{digits}f}–{100 * high:.{digits}f}%"


def points(difference: float) -> str:
    """A difference of two shares in percentage points, with its sign."""
    rounded = round(100 * difference, 2)
    return f"{'+' if rounded > 0 else '−' if rounded < 0 else '±'}{abs(rounded):.2f} points"


def signed(value: float, digits: int) -> str:
    """A number with its sign, such as −0.30; 0 has none."""
    text = f"{abs(value):.{digits}f}"
    return f"{'' if float(text) == 0 else '+' if value > 0 else '−'}{text}"


def duration(seconds: float) -> str:
    """A duration in s, min or h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def moment(iso: str) -> str:
    """An ISO 8601 time in UTC, to the minute: 2026-11-22 21:18 UTC."""
    return f"{iso[:16].replace('T', ' ')} UTC"


def markdown(text: object) -> str:
    """Foreign text for a Markdown file: on one line, with markup escaped."""
    return " ".join(str(text).split()).translate(_MARKDOWN)
