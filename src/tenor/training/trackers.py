"""Which trackers are there."""

from collections.abc import Sequence


def missing_trackers(names: Sequence[str]) -> list[str]:
    """Those of Accelerate's trackers, by name, whose package is not installed."""
    from accelerate.tracking import get_available_trackers

    available = {str(kind.value) for kind in get_available_trackers()}
    return [name for name in names if name not in available]
