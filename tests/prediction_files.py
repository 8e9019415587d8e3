"""Files of texts, in every format that is read and written, for tests of their prediction."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

from tenor.inference.file_job import FileJob, FileResult, predict_file, survey
from tenor.inference.file_outputs import is_text
from tenor.inference.predictor import Predictor

WORDS = ("film", "was", "superb", "dull", "and", "scene", "movie")
FORMATS = [".csv", ".tsv", ".jsonl", ".parquet"]


def texts_of(count: int) -> list[str]:
    """Different lengths, quotes, line breaks, commas, other scripts."""
    random = np.random.default_rng(5)
    odd = ['a "quoted", film', "two\nlines", "映画 😀", "tab\there", "=SUM(1)"]
    plain = [" ".join(random.choice(WORDS, size=1 + number % 30)) for number in range(count)]
    return [odd[number // 7 % 5] if number % 7 == 3 else text for number, text in enumerate(plain)]


def write_input(path: Path, texts: list[Any], **columns: list[Any]) -> Path:
    """The texts, a running number and more columns, in the format of the suffix."""
    names = {"number": list(range(len(texts))), "text": texts, **columns}
    rows = [dict(zip(names, values, strict=True)) for values in zip(*names.values(), strict=True)]
    match path.suffix:
        case ".gz":
            plain = write_input(path.with_suffix(""), texts, **columns)
            path.write_bytes(gzip.compress(plain.read_bytes()))
            plain.unlink()
        case ".json":
            path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
        case ".arrow":
            feather.write_feather(pa.table(names), str(path), chunksize=8)
        case ".csv" | ".tsv":
            with open(path, "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
                writer.writerows([list(names), *(row.values() for row in rows)])
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        case ".parquet":
            pq.write_table(pa.table(names), path)
        case ".txt":
            path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def read_output(path: Path) -> list[dict[str, Any]]:
    match path.suffix:
        case ".csv" | ".tsv":
            with open(path, newline="", encoding="utf-8") as file:
                return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
        case ".jsonl":
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return pq.read_table(path).to_pylist()


def done(predictor: Predictor, job: FileJob) -> FileResult:
    return predict_file(predictor, job, survey(job.input, job.text_column, is_text(job.output)))
