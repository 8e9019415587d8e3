"""A captured log without the control sequences of a terminal, and the epochs of Keras' progress bars.

A program that redraws its line writes it again after a carriage return, so that a captured log contains every state of
every bar. Those of Keras name running means over the epoch so far: only the last state of an epoch is a result.
"""

import re

from tenor.checks.diagnosis.history import is_metric

COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x08|\[A(?=\r?\n|\{|\r)")
EPOCH = re.compile(r"^\s*Epoch (?P<epoch>\d+)/(?P<of>\d+)\s*$")
STATE = re.compile(r"^\s*(?P<done>\d{1,12})/(?P<of>\d{1,12}|Unknown)\s")
ITEM = re.compile(
    r"(?:^|\s-\s|\s)(?P<name>[A-Za-z][\w]*): (?P<value>[+-]?(?:\d+\.?\d*(?:e[+-]?\d+)?|nan|inf))", re.IGNORECASE
)
SPEED = re.compile(r"\b\d+m?u?s/(?:step|epoch)\b|\bETA:|\[=*>?\.*\]|━")
BAR = re.compile(
    r"(?<!\d)(?P<done>\d{1,12})/(?P<of>\d{1,12}) \[[\d:]{1,20}<[\d:?]{1,20}, {1,9}[\d.?]{1,20} ?(?:it/s|s/it)"
)
"""A bar of tqdm that counts steps; those that count rows name another unit."""

Record = dict[str, float]


def without_colours(text: str) -> str:
    """The text without the control sequences of a terminal; carriage returns are kept."""
    return COLOURS.sub("", text)


def keras_epochs(text: str) -> list[Record]:
    """A record per epoch of the progress bars of Keras in a text without colours, from 1 on; empty if there are none.

    The epochs of a further `fit` in the same text are counted on. An epoch that was interrupted has no record.
    """
    records: list[Record] = []
    epoch, before = None, 0
    for line in re.split(r"[\r\n]+", text):
        if match := EPOCH.match(line):
            epoch = int(match["epoch"])
            before = len(records) if epoch == 1 else before
            continue
        if epoch is None or (state := STATE.match(line)) is None or not SPEED.search(line):
            continue
        if state["of"] not in ("Unknown", state["done"]):
            continue
        metrics = {item["name"].lower(): float(item["value"]) for item in ITEM.finditer(line)}
        metrics = {name: value for name, value in metrics.items() if is_metric(name) or "learning_rate" in name}
        if not metrics:
            continue
        if records and records[-1]["epoch"] == before + epoch:
            records[-1] |= metrics
        else:
            records.append({"epoch": float(before + epoch), **metrics})
    return records


def steps_per_epoch(text: str, epochs: float) -> float | None:
    """The optimizer steps of an epoch by the longest bar of tqdm of a training of `epochs`; None without one."""
    totals = {int(bar["of"]) for bar in BAR.finditer(text) if int(bar["of"]) > 0}
    return max(totals) / epochs if totals and epochs > 0 else None
