"""A training log as programs print it, read into records: lines of names and numbers, in any usual form.

Tables and progress bars in it are read by modules of their own.

`{'loss': 0.69, 'learning_rate': 2e-05, 'epoch': 0.1}` (transformers.Trainer), `loss: 0.69 - val_accuracy: 0.5` (Keras),
`Epoch 3/10 | Train Loss: 0.69 | Val Acc: 50.00%`, `step 30 loss=0.69 lr=2e-5`, `Train loss 0.69 accuracy 0.5`,
`| valid | epoch 001 | loss 0.69 | num_updates 100` (fairseq).
"""

import re
from collections.abc import Iterator, Mapping

from tenor.checks.diagnosis.history import ACCURACY, NORM, RATE, is_metric, measure_of, split_of
from tenor.checks.diagnosis.pasted_tables import pasted_records
from tenor.checks.diagnosis.progress_bars import keras_epochs, steps_per_epoch, without_colours

NUMBER = r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|(?:nan|inf(?:inity)?)\b)"
AXIS = re.compile(
    r"\b(?P<name>(?:global[ _])?step|num_update|iter(?:ation)?|batch|epoch)s?['\"]?"
    r"\s*[:=#\[(]*\s*['\"]?(?P<value>\d+(?:\.\d+)?)(?:\s*(?:/|of)\s*\d+)?",
    re.IGNORECASE,
)
METRIC = re.compile(
    rf"(?<![A-Za-z])(?P<name>[A-Za-z][A-Za-z0-9_./]{{0,60}}(?:[ -][A-Za-z][A-Za-z0-9_./]{{0,60}}){{0,3}})['\"]?\)?"
    rf"\s{{0,20}}[:=]?\s{{0,20}}['\"]?(?:tensor\()?"
    rf"(?P<value>{NUMBER})(?P<percent>\s?%)?",
    re.IGNORECASE,
)
SPLIT_WORD = re.compile(
    r"^\W*(?P<word>train(?:ing)?|val(?:id(?:ation)?)?|eval(?:uation)?|dev|test)\b[ :]", re.IGNORECASE
)
PARTS = re.compile(r"\||;|\t")
"""Between them, a word such as "Val" holds for all metrics that follow: "Val loss 0.4 accuracy 0.8"."""
LONGEST_LINE = 2_000
LEAST_RECORDS = 3
"""Fewer lines with a metric are a result, not a log."""

Record = dict[str, float]


def log_records(text: str) -> tuple[list[Record] | list[dict[str, str]], str]:
    """Records of a log, and how it was read if there was a choice: epochs of Keras, rows of tables, else lines.

    Empty if fewer than three lines name a metric.
    """
    text = without_colours(text)
    if epochs := keras_epochs(text):
        return epochs, ""
    rows, note = pasted_records(text)
    return (rows, note) if rows else (records_of_lines(text), "")


def records_of_lines(text: str) -> list[Record]:
    """Records of the lines that name a metric, with their step or epoch if the line, or one before, has it."""
    records: list[Record] = []
    epoch: float | None = None
    section = ""
    for line in re.split(r"[\r\n]+", text):
        if len(line) > LONGEST_LINE:
            continue  # No line of a log: a row of numbers, or a file of another kind.
        section = _section(line, section)
        axes = {_axis_name(m["name"]): float(m["value"]) for m in AXIS.finditer(line)}
        epoch = axes.get("epoch", epoch)
        metrics = {_in_section(name, section): value for name, value in _metrics(AXIS.sub(" | ", line))}
        if metrics:
            records.append({**({} if epoch is None else {"epoch": epoch}), **axes, **metrics})
    records = _with_trainer_steps(_as_shares(records), text)
    return _numbered(records) if len(records) >= LEAST_RECORDS else []


SECTION = re.compile(
    r"\W*(?:running |starting |begin )?(?P<word>train(?:ing)?|valid(?:ation)?|evaluat(?:ion|ing)|test(?:ing)?)\W*",
    re.IGNORECASE,
)
"""A line of its own above the results of a split: "Running Validation..."."""


def _section(line: str, section: str) -> str:
    """The split that a heading names, until the next heading."""
    match = SECTION.fullmatch(line)
    return section if match is None else SPLITS[match["word"].lower()[:4]]


SPLITS = {"trai": "train", "vali": "val", "eval": "val", "test": "test"}


def _in_section(name: str, section: str) -> str:
    return f"{section} {name}" if section and section != "train" and not split_of(name) else name


def _with_trainer_steps(records: list[Record], text: str) -> list[Record]:
    """Records of `transformers.Trainer`, which prints fractions of epochs, with their steps by its progress bar."""
    epochs = [record["epoch"] for record in records if "epoch" in record]
    is_trainer = bool(records) and "train_loss" in records[-1] | records[-2 if len(records) > 1 else -1]
    has_fractions = any(not epoch.is_integer() for epoch in epochs)
    if len(epochs) < len(records) or any("step" in record for record in records) or not (is_trainer and has_fractions):
        return records
    if (per_epoch := steps_per_epoch(text, max(epochs))) is None:
        return records
    # The mean loss of the whole training, which is printed at its end, is no loss of the last step.
    return [
        {
            **{name: value for name, value in one.items() if name != "train_loss"},
            "step": float(round(one["epoch"] * per_epoch)),
        }
        for one in records
    ]


def _axis_name(name: str) -> str:
    return "epoch" if name.lower() == "epoch" else "step"


def _metrics(line: str) -> Iterator[tuple[str, float]]:
    heading = ""
    for part in PARTS.split(line):
        heading = _section(part, heading)  # "| valid | loss 0.69", as fairseq writes it.
        word = SPLIT_WORD.match(part)
        for match in METRIC.finditer(part):
            name = match["name"].strip()
            if not _is_known(name):
                continue
            if word is not None and not split_of(name):
                name = f"{word['word']} {name}"
            name = _in_section(name, heading)
            yield name.lower(), float(match["value"]) / (100 if match["percent"] else 1)


def _is_known(name: str) -> bool:
    return is_metric(name) or any(measure_of(name)[: len(words)] == words for words in (*RATE, *NORM))


def _as_shares(records: list[Record]) -> list[Record]:
    """Accuracies from 0 to 100 as shares."""
    names = {name for record in records for name in record if set(measure_of(name)) & ACCURACY}
    percent = {name for name in names if max(record.get(name, 0.0) for record in records) > 1}
    return [{name: value / 100 if name in percent else value for name, value in one.items()} for one in records]


def _numbered(records: list[Record]) -> list[Record]:
    """The records with their number as the step if neither step nor epoch distinguishes them."""
    places = [(record.get("step"), record.get("epoch"), name) for record in records for name in _names(record)]
    steps = [record["step"] for record in records if "step" in record]
    has_steps = len(steps) == len(records) and steps == sorted(steps)
    if has_steps or (not steps and len(set(places)) == len(places)):
        return records
    return [{**record, "step": float(number)} for number, record in enumerate(records, start=1)]


def _names(record: Mapping[str, float]) -> list[str]:
    return [name for name in record if name not in ("step", "epoch")]
