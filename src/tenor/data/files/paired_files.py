"""Texts and labels in files of their own: line by line in two files, or a file of the label next to each text.

What they are, and the command that writes them as JSON Lines.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath
from shlex import quote

from tenor.data.files.commands import ALL_TEST_ROWS, literal
from tenor.data.files.opening import compression_of, open_bytes, set_path

TEXT_WORDS = ("text", "texts", "sentence", "sentences", "review", "reviews", "tweet", "tweets", "data", "input", "x")
LABEL_WORDS = ("label", "labels", "target", "targets", "class", "classes", "sentiment", "y")
WORD = re.compile(r"[^\W_]+")
PLAIN = (".txt", ".text", ".label", ".labels", "")
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
PART_BYTES = 2**20
LABEL_FILES = (".cls", ".label", ".lbl", ".json")
"""Suffixes of a file with the label of the text next to it, as in WebDataset's archives."""
MOSTLY = 0.9
FEWEST_TEXTS = 2
JOIN = (
    'import json, sys; [print(json.dumps({"text": text.rstrip("\\r\\n"), "label": label.strip()})) '
    'for label, _, text in (line.partition("\\t") for line in sys.stdin)]'
)


def parallel_files(files: Iterable[Path]) -> dict[Path, Path]:
    """The file of labels for each file of texts: their names differ in a word such as `text` and `labels`, and they
    have the same number of lines. Neither is compressed."""
    by_name = {path.name: path for path in files if path.suffix.lower() in PLAIN and not compression_of(path)}
    pairs = {}
    for name, path in by_name.items():
        for word in WORD.finditer(name):
            if word[0].lower() in TEXT_WORDS:
                others = [f"{name[: word.start()]}{one}{name[word.end() :]}" for one in LABEL_WORDS]
                other = next((by_name[one] for one in others if one in by_name), None)
                if other is not None and 0 < _lines(path) == _lines(other):
                    pairs[path] = other
    return pairs


def how_to_paste(pairs: dict[Path, Path]) -> str:
    """What pairs of files with texts and labels are, the settings and the command that writes them."""
    new = {path: path.with_name(_name(path)) for path in pairs}
    commands = [
        f"paste {quote(str(labels))} {quote(str(texts))} | python -c {quote(JOIN)} > {quote(str(new[texts]))}"
        for texts, labels in pairs.items()
    ]
    by_split = {SPLITS.get(word, ""): new[path] for path in pairs for word in _words(path) if word in SPLITS}
    train = by_split.get("train", next(iter(new.values())))
    test = by_split.get("test", train)
    more = "" if test == train else f" data.test_path={quote(str(test))} {ALL_TEST_ROWS}"
    shown = ", ".join(f"{texts.name} and {labels.name}" for texts, labels in pairs.items())
    return (
        f"The labels of the texts are in another file, line by line ({shown}). Write them together and "
        f"{set_path(train, more)}, for instance: {' && '.join(commands)}"
    )


def pairs_of(path: Path) -> dict[Path, Path]:
    """The pair that a file of texts or of labels belongs to; empty for another file."""
    found = parallel_files(sorted(one for one in path.parent.iterdir() if one.is_file()))
    return {texts: labels for texts, labels in found.items() if path.name in (texts.name, labels.name)}


def _name(path: Path) -> str:
    """The name of the new file: without the word for the texts, if another one remains."""
    rest = [word for word in WORD.findall(path.stem) if word.lower() not in TEXT_WORDS]
    return f"{'_'.join(rest) or 'rows'}.jsonl"


def _words(path: Path) -> list[str]:
    return [word.lower() for word in WORD.findall(path.stem)]


def _lines(path: Path) -> int:
    """The count of line ends, and of the rest after the last one."""
    count, last = 0, b"\n"
    with open_bytes(path) as content:
        while part := content.read(PART_BYTES):
            count, last = count + part.count(b"\n"), part[-1:]
    return count + (last != b"\n")


# A file of the label next to each text.


def label_suffix(names: Sequence[PurePath]) -> str:
    """The suffix of the files that have the label of each .txt file of the same name; empty if there are none."""
    texts = {name.with_suffix("") for name in names if name.suffix == ".txt"}
    if len(texts) < FEWEST_TEXTS:
        return ""
    suffixes = Counter(name.suffix for name in names if name.suffix in LABEL_FILES and name.with_suffix("") in texts)
    suffix, count = next(iter(suffixes.most_common(1)), ("", 0))
    return suffix if count >= MOSTLY * len(texts) else ""


def how_to_join_archive(archive: Path, names: Sequence[PurePosixPath], suffix: str) -> str:
    """The settings and the command that writes texts and labels of a tar archive, whose files are called so."""
    new = archive.with_name(f"{archive.name.partition('.')[0]}.jsonl")
    code = (
        f"import json, tarfile; a = tarfile.open({literal(archive)}); names = a.getnames(); "
        f"read = lambda name: a.extractfile(name).read().decode(); {_rows(suffix, 'names')}"
    )
    return _told(suffix, code, new)


def how_to_join_folder(folder: Path, suffix: str) -> str:
    """The same for a folder."""
    new = folder.with_name(f"{folder.resolve().name}.jsonl")
    code = (
        f'import json, pathlib; names = sorted(map(str, pathlib.Path({literal(folder)}).rglob("*.txt"))); '
        f'read = lambda name: open(name, encoding="utf-8").read(); {_rows(suffix, "names")}'
    )
    return _told(suffix, code, new)


def _rows(suffix: str, names: str) -> str:
    other = f'read(name[:-4] + "{suffix}")'
    label = f"**json.loads({other})" if suffix == ".json" else f'"label": {other}.strip()'
    return f'[print(json.dumps({{"text": read(name), {label}}})) for name in {names} if name.endswith(".txt")]'


def _told(suffix: str, code: str, new: Path) -> str:
    what = "fields are" if suffix == ".json" else "label is"
    return (
        f"The {what} in a {suffix} file next to each .txt file. Write them as JSON Lines and {set_path(new)}, for "
        f"instance: python -c {quote(code)} > {quote(str(new))}"
    )
