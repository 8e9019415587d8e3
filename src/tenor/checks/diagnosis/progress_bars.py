"""A captured log without the control sequences of a terminal, the epochs of Keras' progress bars, and how far the bars
of tqdm came: the step that they show, and the end of a training that was killed.

A program that redraws its line writes it again after a carriage return, so that a captured log contains every state of
every bar. Those of Keras name running means over the epoch so far: only the last state of an epoch is a result.
"""

import re
from dataclasses import dataclass, replace

from tenor.checks.diagnosis.history import is_metric
from tenor.checks.evidence.training_evidence import StepEvidence

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
ANY_BAR = re.compile(r"(?<![\d./])(?P<done>\d{1,12})/(?P<of>\d{1,12}) \[[\d:]{1,20}<[\d:?]{1,20}")
"""A bar of tqdm, whatever follows its times."""
EPOCH_OF = re.compile(r"\bepoch\b[\s:=#\[(]{0,4}(?P<epoch>\d{1,6})\s*(?:/|of)\s*(?P<of>\d{1,6})\b", re.IGNORECASE)
KILLED = re.compile(
    r"CANCELLED AT|DUE TO (?:TIME LIMIT|PREEMPTION)|oom[-_ ]kill|out of memory|OutOfMemoryError|KeyboardInterrupt"
    r"|^\s*(?:Killed|Terminated)\b|SIGTERM|SIGKILL|Traceback \(most recent call last\)",
    re.IGNORECASE | re.MULTILINE,
)
"""What a cluster, a shell or Python writes of a program that did not end by itself."""
STOPPED_EARLY = re.compile(
    r"\bearly[ -]stop(?:ping|ped)?\b(?![ _-]*(?:patience|threshold|rounds)|\s*[=:])", re.IGNORECASE
)
FINISHED = re.compile(
    r"train_runtime|training (?:is |was |has )?(?:complete|finished|done|ended)|(?:finished|done|completed) training",
    re.IGNORECASE,
)
LAST_LINES = 60
"""In which a program that was killed says so, after its trace."""

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


@dataclass(frozen=True)
class Plan:
    """How far a training came, and how far it should."""

    last: int
    total: int
    unit: str
    """"step" or "epoch"."""
    stopped_because: str = ""


def plan_of(text: str) -> Plan | None:
    """The planned end that a log shows, where the training did not reach it, or stopped early; None otherwise.

    A bar over the whole training shows it by itself; the number of epochs in "Epoch 3/10" only if the log ends with a
    kill, since a program may stop early and not say so.
    """
    tail = "\n".join(re.split(r"[\r\n]+", text)[-LAST_LINES:])
    was_killed = KILLED.search(tail) is not None
    early = "early stopping" if STOPPED_EARLY.search(text) else ""
    if FINISHED.search(text) and not was_killed:
        return None
    if (bar := whole_bar(text)) is not None:
        return Plan(*bar, "step", early) if bar[0] < bar[1] else None
    epochs = [(int(match["epoch"]), int(match["of"])) for match in EPOCH_OF.finditer(text)]
    if not epochs or not was_killed:
        return None
    first, (last, total) = min(epoch for epoch, _ in epochs), epochs[-1]
    return Plan(last, total, "epoch", early) if first <= last < total else None


def whole_bar(text: str) -> tuple[int, int] | None:
    """The last state and the length of the longest bar, if it went once from its begin to its last state: a bar that
    begins anew belongs to an epoch."""
    states = [(int(bar["done"]), int(bar["of"])) for bar in ANY_BAR.finditer(text)]
    total = max((of for _, of in states), default=0)
    done = [at for at, of in states if of == total]
    return (done[-1], total) if len(done) > 1 and done == sorted(done) and done[-1] > done[0] else None


def with_plan(evidence: StepEvidence, plan: Plan | None) -> StepEvidence:
    """Steps with the end that was planned, where both are counted alike."""
    if plan is None or plan.unit != evidence.unit or not len(evidence.steps):
        return evidence
    last = max(plan.last if plan.unit == "step" else 0, int(evidence.steps[-1]))
    return replace(evidence, total_steps=plan.total, last_step=last, stopped_because=plan.stopped_because)
