"""A training log as programs print it, read into records: lines of names and numbers, in any usual form.

Tables and progress bars in it are read by modules of their own.

`{'loss': 0.69, 'learning_rate': 2e-05, 'epoch': 0.1}` (transformers.Trainer), `loss: 0.69 - val_accuracy: 0.5` (Keras),
`Epoch 3/10 | Train Loss: 0.69 | Val Acc: 50.00%`, `step 30 loss=0.69 lr=2e-5`, `Train loss 0.69 accuracy 0.5`,
`| valid | epoch 001 | loss 0.69 | num_updates 100` (fairseq).
"""

import re
from collections.abc import Iterator, Mapping

from tenor.checks.diagnosis.history import ACCURACY, NORM, RATE, is_metric, measure_of, split_of
from tenor.checks.diagnosis.history_files import is_increasing_by_metric
from tenor.checks.diagnosis.pasted_tables import pasted_records
from tenor.checks.diagnosis.progress_bars import ANY_BAR, keras_epochs, steps_per_epoch, whole_bar, without_colours

NUMBER = r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|(?:nan|inf(?:inity)?)\b)"
AXIS = re.compile(
    r"\b(?P<name>(?:global[ _])?step|num_update|iter(?:ation)?|batch|epoch)s?['\"]?"
    r"\s*[:=#\[(]*\s*['\"]?(?P<value>\d+(?:\.\d+)?)(?:\s*(?:/|of)\s*\d+)?",
    re.IGNORECASE,
)
METRIC = re.compile(
    rf"(?<![A-Za-z])(?P<name>[A-Za-z][A-Za-z0-9_./]{{0,60}}(?:[ -][A-Za-z][A-Za-z0-9_./]{{0,60}}){{0,3}})['\"]?\)?"
    rf"\s{{0,20}}[:=]?\s{{0,20}}['\"]?(?:tensor\()?"
    rf"(?P<value>{NUMBER})(?:(?P<percent>\s?%)|/(?P<of>\d{{1,12}})\b)?",
    re.IGNORECASE,
)
SPLIT_WORD = re.compile(
    r"^\W*(?P<word>train(?:ing)?|val(?:id(?:ation)?)?|eval(?:uation)?|dev|test(?:ing)?)\b[ :=]", re.IGNORECASE
)
LOGGER = re.compile(
    r"^\W{0,3}(?:\d{1,4}[-/]\d\d[-/]\d{2,4}[ T])?(?:\d\d:\d\d:\d\d\S*)?[\s|:\]-]{0,8}"
    r"(?:\[?(?:DEBUG|INFO|WARNING|ERROR)\b[\s|:\]-]*)?"
    r"(?!(?:epoch|step|iter|batch|train|val|test|eval|dev|loss|acc)\w*\b)"
    r"(?:\[?[A-Za-z_][\w.]{0,60}\]?(?::[\w<>]{0,60}){0,2}(?: - |:\s?(?=[A-Z\[{])| \| ))?",
    re.IGNORECASE,
)
"""The time, the level and the name of a logger before a message."""
LOGGED = re.compile(r"^\W{0,3}(?:\d{1,4}[-/]\d\d[-/]\d{2,4}|\d\d:\d\d:\d\d|(?:DEBUG|INFO|WARNING|ERROR)\b)")
SETTINGS = re.compile(
    r"\b(?:batch[ _]?size|seed|weight[ _]decay|(?:num|n|max|total|number of)[ _](?:train[ _])?epochs|epochs"
    r"|warm[ _]?up\w*|dropout|max[ _](?:seq[ _])?len\w*|optimi[sz]er|scheduler|model(?:[ _]name\w*)?)['\"]?\s*[=:]",
    re.IGNORECASE,
)
OBJECT = re.compile(r"\b[A-Za-z_]\w*\([A-Za-z_]\w*=")
"""An object as Python prints it, such as `Namespace(lr=0.01, epochs=30)`."""
DICTIONARY = re.compile(r"^\W*epoch\s*[:=#]?\s*\d+\s*:\s*\{", re.IGNORECASE)
"""As the example programs of transformers without Trainer print the metrics of a validation."""
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
    section, count = "", 0
    for line in re.split(r"[\r\n]+", text):
        if len(line) > LONGEST_LINE:
            continue  # No line of a log: a row of numbers, or a file of another kind.
        message = LOGGER.sub("", line, count=1) if LOGGED.match(line) else line
        section = _section(message, section)
        axes = {_axis_name(m["name"]): float(m["value"]) for m in AXIS.finditer(message)}
        place = "val" if DICTIONARY.match(message) else section
        metrics = {_in_section(name, place): value for name, value in _metrics(AXIS.sub(" | ", message))}
        if _is_settings(message, metrics):
            continue
        epoch = axes.get("epoch", epoch)
        is_setting = not axes and epoch is None and not records and not any(map(is_metric, metrics))
        if not metrics or is_setting:
            continue
        count += 1
        if not axes and records and _is_result_after(metrics, records[-1]):
            records[-1] |= metrics  # A result of the test is that of the last step, and no step of its own.
            continue
        if "step" not in axes and (bar := ANY_BAR.search(message)):
            axes["bar"] = float(bar["done"])
            axes["of"] = float(bar["of"])
        records.append({**({} if epoch is None else {"epoch": epoch}), **axes, **metrics})
    records = _with_trainer_steps(_with_bar_steps(_as_shares(records)), text)
    return _numbered(records) if count >= LEAST_RECORDS else []


def _is_settings(line: str, metrics: Mapping[str, float]) -> bool:
    """Whether a line prints the settings of the training, and no result."""
    if OBJECT.search(line):
        return True
    return SETTINGS.search(line) is not None and not any(map(is_metric, metrics))


def _is_result_after(metrics: Mapping[str, float], record: Record) -> bool:
    """Whether these are results of the test alone that a record does not have yet."""
    return all(split_of(name) == "test" for name in metrics) and not metrics.keys() & record.keys()


def _with_bar_steps(records: list[Record]) -> list[Record]:
    """Records with the steps of the bars that show them, counted over the epochs; those after a bar have its step."""
    totals = {record["of"] for record in records if "of" in record}
    epochs = [record["epoch"] for record in records if "of" in record and "epoch" in record]
    has_steps = len(totals) == 1 and not any("step" in record for record in records)
    filled: list[Record] = []
    step = 0.0
    for record in records:
        one = {name: value for name, value in record.items() if name not in ("bar", "of")}
        if has_steps:
            before = record.get("epoch", 0.0) - min(epochs, default=0.0)
            step = before * record["of"] + record["bar"] if "bar" in record else step
            one["step"] = step
        if has_steps and filled and filled[-1]["step"] == step and "bar" in record:
            filled[-1] |= one  # A bar that was drawn again.
        else:
            filled.append(one)
    return filled


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
    if len(epochs) < len(records) or any("step" in record for record in records) or not has_fractions:
        return records
    bar = None if is_trainer else whole_bar(text)  # Without the mean loss, which comes at the end, it is a part.
    per_epoch = bar[0] / max(epochs) if bar and max(epochs) > 0 else None
    per_epoch = steps_per_epoch(text, max(epochs)) if is_trainer else per_epoch
    if per_epoch is None:
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
        found = list(METRIC.finditer(part))
        heading = (
            SPLITS[word["word"].lower()[:4]] if word and not found and word["word"].lower()[:4] in SPLITS else heading
        )
        for match in found:
            name = match["name"].strip()
            if not _is_known(name):
                continue
            if word is not None and not split_of(name):
                name = f"{word['word']} {name}"
            name = _in_section(name, heading)
            yield name.lower(), float(match["value"]) / (100 if match["percent"] else _rows(match))


def _rows(match: re.Match[str]) -> float:
    """The number of rows in "Accuracy: 9912/10000"; 1 where there is none."""
    return (
        float(match["of"]) if match["of"] and set(measure_of(match["name"])) & ACCURACY and float(match["of"]) else 1.0
    )


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
    is_ordered = steps == sorted(steps) or is_increasing_by_metric(steps, records)
    has_steps = len(steps) == len(records) and is_ordered
    if has_steps or (not steps and len(set(places)) == len(places)):
        return records
    return [{**record, "step": float(number)} for number, record in enumerate(records, start=1)]


def _names(record: Mapping[str, float]) -> list[str]:
    return [name for name in record if name not in ("step", "epoch")]
