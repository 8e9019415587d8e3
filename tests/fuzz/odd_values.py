"""Every value in a run's JSON files replaced by an odd one, which bytes at random hardly hit: python odd_values.py."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from predicting import exports_and_jobs, read_export_or_job
from run_folders import FILES, read_run_folder, run_files
from targets import foreign_seeds, read_foreign_file

ODD: tuple[Any, ...] = (None, -1, "x", [], {}, 10**30)
LEVELS = 5
"""Of a file's keys that are tried; what lies deeper only repeats."""


def odd_documents(document: Any) -> Iterator[Any]:
    """The document once for each of its values and each odd one."""
    for path in _places(document, ()):
        for value in ODD:
            copy = json.loads(json.dumps(document))
            section = copy
            for name in path[:-1]:
                section = section[name]
            section[path[-1]] = value
            yield copy


def _places(held: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    for name, value in held.items() if isinstance(held, dict) else enumerate(held):
        yield (*path, name)
        if isinstance(value, dict | list) and len(path) + 1 < LEVELS:
            yield from _places(value, (*path, name))


def main() -> None:
    tried = 0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as place:
        folder = Path(place)
        for kind, name in enumerate(FILES):
            text = run_files()[name]
            if name.endswith(".jsonl"):
                for odd in odd_documents([json.loads(line) for line in text.splitlines()]):
                    read_run_folder(folder, kind, "".join(json.dumps(line) + "\n" for line in odd).encode())
                    tried += 1
            elif name.endswith(".json"):
                for odd in odd_documents(json.loads(text)):
                    read_run_folder(folder, kind, json.dumps(odd).encode())
                    tried += 1
    with tempfile.TemporaryDirectory() as place:
        for kind, seed in enumerate(exports_and_jobs()[:2]):
            for odd in odd_documents(json.loads(seed)):
                read_export_or_job(Path(place), kind, json.dumps(odd).encode())
                tried += 1
    with tempfile.TemporaryDirectory() as place:
        for seed in foreign_seeds()[:4]:
            for odd in odd_documents(json.loads(seed)):
                read_foreign_file(Path(place), 0, json.dumps(odd).encode())
                tried += 1
    print(tried)


if __name__ == "__main__":
    main()
