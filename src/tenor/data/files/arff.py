"""Weka's ARFF files: refused, with the command that writes them as CSV."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from tenor.data.files.commands import content_of, literal, new_name
from tenor.data.files.headers import likely_settings
from tenor.data.files.opening import open_bytes, other_encoding, set_path
from tenor.errors import UserError

SUFFIX = ".arff"
ATTRIBUTE = re.compile(r"@attribute\s+('(?:[^'\\]|\\.)*'|\"[^\"]*\"|\S+)", re.IGNORECASE)
QUOTED = re.compile(r"(?:^|,\s*)(['\"])")
MOST_CHARACTERS = 2**20


def arff_refusal(path: Path, required: Sequence[str]) -> UserError:
    """The error for an ARFF file: its columns become those of a CSV file. In it a quote is escaped by a backslash, as
    in Weka's own files; a sparse file has to be written by Weka as CSV."""
    names, quotes, first = [], "'", ""
    encoding = other_encoding(path)
    with io.TextIOWrapper(open_bytes(path), encoding or "utf-8", "replace") as lines:
        is_data = False
        for line in iter(lambda: lines.readline(MOST_CHARACTERS), ""):
            if (match := ATTRIBUTE.match(line.strip())) is not None and not is_data:
                names.append(match[1].strip("'\""))
            elif is_data and line.strip() and not line.startswith("%"):
                first = first or line
                if (mark := QUOTED.search(line)) is not None:
                    quotes = mark[1]
                    break
            is_data = is_data or line.lower().startswith("@data")
    if not names or not first or first.startswith("{"):
        return UserError(f"{path}: {SUFFIX} files are not read. Save it in Weka as CSV, and give that path.")
    new = new_name(path, suffix=".csv")
    options, _ = likely_settings(names, required)
    code = (
        f"import csv, itertools, sys; w = csv.writer(sys.stdout); w.writerow([{', '.join(map(literal, names))}]); "
        'below = itertools.dropwhile(lambda line: not line.lower().startswith("@data"), sys.stdin); next(below); '
        'rows = (line.replace(chr(92) + "n", " ") for line in below if line.strip() and line[0] != "%"); '
        f"w.writerows(csv.reader(rows, quotechar=chr({ord(quotes)}), escapechar=chr(92), skipinitialspace=True))"
    )
    to_utf8 = "" if encoding is None else f" | iconv -f {encoding} -t UTF-8"
    return UserError(
        f"{path}: {SUFFIX} files are not read. Write it as CSV and {set_path(new, options)}, for instance: "
        f"{content_of(path)}{to_utf8} | python -c {quote(code)} > {quote(str(new))}"
    )
