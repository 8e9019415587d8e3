"""Files larger than memory: read block by block into a mapped file, and the rows are those that memory would hold."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_sources_tabular import message, write

from tenor.data.dataset import LabelledText
from tenor.data.files import dialect, opening
from tenor.data.sources import row_files as blocks
from tenor.data.sources import row_files as files
from tenor.data.sources.labels import read_table
from tenor.errors import TenorError

ROWS: list[dict[str, object]] = [
    {"text": f"film {number} é\n" * (number % 5 + 1), "label": ["good", "bad"][number % 2], "key": number * 3}
    for number in range(50)
]


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Every file counts as larger than memory, and is read a few rows and bytes at a time."""
    monkeypatch.setattr(blocks, "IN_MEMORY", 0)
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 7)
    monkeypatch.setattr(files, "BLOCK_ROWS", 7)
    monkeypatch.setattr(opening, "PART_BYTES", 3)
    monkeypatch.setenv("TENOR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rows"


def same(one: LabelledText, other: LabelledText) -> bool:
    return one.table.equals(other.table) and one.class_names == other.class_names


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_mapped_file_has_the_rows_of_one_in_memory(
    tmp_path: Path, suffix: str, request: pytest.FixtureRequest
) -> None:
    path = write(tmp_path / f"rows{suffix}", ROWS)
    in_memory = read_table(path, id_column="key")
    folder: Path = request.getfixturevalue("mapped")
    before = pa.total_allocated_bytes()
    found = read_table(path, id_column="key")
    assert same(found, in_memory)
    assert found.table["text"].num_chunks > 1, "it was read in blocks"
    assert pa.total_allocated_bytes() - before < found.table["text"].nbytes, "the texts are not in memory"
    assert not list(folder.iterdir()), "the file has no name that could be left behind"
    chosen = [40, 3, 3, 17]
    assert list(found.select(chosen).texts) == list(in_memory.select(chosen).texts)


def test_parquet_files_of_one_split_follow_one_another_and_must_be_alike(tmp_path: Path, mapped: Path) -> None:
    paths = [tmp_path / f"train-{part}.parquet" for part in range(2)]
    for part, path in enumerate(paths):
        pq.write_table(pa.table({"label": [part], "text": [f"part {part}"], "other": [0.5]}), path)
    read = files.read_parquet_files(paths, files.Columns(), "train-*.parquet")
    assert read.table.to_pydict() == {"text": ["part 0", "part 1"], "label": [0, 1]}
    pq.write_table(pa.table({"text": ["part 1"], "label": ["1"]}), paths[1])
    with pytest.raises(
        files.UserError, match=r"train-1\.parquet: its columns are .*label \(string\).* label \(int64\)"
    ):
        files.read_parquet_files(paths, files.Columns(), "train-*.parquet")


def test_faults_have_their_places_whatever_the_block(tmp_path: Path, mapped: Path) -> None:
    rows = [dict(row) for row in ROWS]
    rows[16]["text"], rows[33]["label"] = 5, None
    lines = [json.dumps(row) + "\n" for row in rows]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(["", *lines[:20]]) + "".join(lines[20:]), encoding="utf-8")
    told = message(path)
    assert "2 of 50 rows cannot be used" in told
    assert "line 34 (row 17): text is 5 (int)" in told
    assert "(row 34): label is missing" in told
    broken = "".join(f"text {row},good\n" if row != 30 else "a, b,good\n" for row in range(40))
    (tmp_path / "rows.csv").write_text("text,label\n" + broken)
    assert "row 31 (not counting the header): has 3 fields, expected 2 as in the header" in message(
        tmp_path / "rows.csv"
    )


@pytest.mark.parametrize(
    "content",
    [
        "text,label\nfine é,1\n".encode() + b"caf\xe9,0\n",
        "text,label\nfine é,1\ncut ".encode() + "é".encode()[:1],
        "text,label\nfine €,1\ncut ".encode() + "€".encode()[:2] + b",1\n",
        b"text,label\nfine\0,1\n",
        "text,label\nfine,1\n".encode("utf-16-le"),
    ],
)
def test_a_wrong_byte_has_its_place_whatever_the_part(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    whole = message(path)
    assert "byte" in whole
    for part_bytes in (2, 3, 5, 7):
        monkeypatch.setattr(opening, "PART_BYTES", part_bytes)
        assert message(path) == whole


def test_a_full_disk_says_where_and_how_to_mend_it(tmp_path: Path, mapped: Path) -> None:
    path = write(tmp_path / "rows.csv", [{**row, "text": "long " * 2000} for row in ROWS])
    resource = pytest.importorskip("resource", reason="files have no size limit here")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(
            TenorError, match=r"cache/rows: cannot write the rows, which are too many .* set TENOR_CACHE"
        ):
            read_table(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, mapped: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = write(tmp_path / f"rows{suffix}", ROWS)
    (tmp_path / "a file").touch()
    monkeypatch.setenv("TENOR_CACHE", str(tmp_path / "a file" / "cache"))
    with pytest.raises(TenorError, match=r"a file.*cannot write the rows.*: Not a directory\. Set TENOR_CACHE"):
        read_table(path)


def test_a_parquet_file_of_one_row_group_is_not_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    table = pa.table({"text": [random.bytes(2000).hex() for _ in range(5000)], "label": [0, 1] * 2500})
    pq.write_table(table, tmp_path / "rows.parquet", compression="none", use_dictionary=False, row_group_size=5000)
    before, held = pa.total_allocated_bytes(), []

    def listen(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
        texts = []
        for batch in batches:
            held.append(pa.total_allocated_bytes() - before)
            texts += batch["text"].to_pylist()
        return pa.table({"text": texts, "label": table["label"]})

    monkeypatch.setattr(files, "gather", listen)
    monkeypatch.setattr(files, "BLOCK_ROWS", 50)
    assert read_table(tmp_path / "rows.parquet").texts[:] == table["text"].to_pylist()
    assert max(held) < table.nbytes / 4


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (
            "rows.csv",
            'text,label\n"' + "never closed, " * 20_000,
            "line 2 is malformed: the field that begins there is longer than 200,000 characters, the most that is read",
        ),
        ("rows.jsonl", '{"text": ' + '{"text": "a", "label": 0}, ' * 20_000, "line 1 has 200,000 characters or more"),
        ("rows.json", '[{"text": "' + "never closed, " * 20_000, "a JSON value has 200,000 characters or more"),
        ("rows.txt", "__label__1 " + "never ends, " * 20_000, "line 1 has 200,000 characters or more"),
    ],
)
def test_a_record_without_an_end_is_not_read_to_the_end_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str, told: str
) -> None:
    (tmp_path / name).write_text(content)
    monkeypatch.setattr(dialect, "MOST_CHARACTERS", 200_000)
    assert told in message(tmp_path / name)


UNDER_A_LIMIT = """
import resource, sys
import numpy as np
from scipy.stats import ks_2samp
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.model_selection import train_test_split
from tenor.checks.evidence.data_evidence import DataEvidence, Rows
from tenor.checks.catalogue import run_rules
from tenor.config.schema import Data
from tenor.data.sources import read_source
from tenor.data.splits import data_fingerprint, make_splits, present_splits
from tenor.data.tokenization import Truncation, tokenize
from tiny_rows import WordCounter

def held():
    status = open("/proc/self/status").read()
    return int(status.split("VmData:")[1].split()[0]) * 1024

resource.setrlimit(resource.RLIMIT_DATA, (held() + int(sys.argv[2]), -1))
data = Data(source="file", path=sys.argv[1])
splits = make_splits(read_source(data), data, seed=0)
print(data_fingerprint(splits))
present = present_splits(splits)
print([int(tokenize(rows, WordCounter(), Truncation(128, "head", 0.5)).lengths.sum()) for rows in present.values()])
rows = {name: Rows(rows.labels, rows.texts) for name, rows in present.items()}
print(len(run_rules([DataEvidence(n_classes=2, **rows)], "preflight").checked))
try:
    np.ones(int(sys.argv[2]), dtype=np.uint8)
except MemoryError:
    print("the limit holds")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a limit counts mapped files too")
def test_reading_checking_and_tokenizing_take_a_part_of_the_memory_that_the_texts_would(tmp_path: Path) -> None:
    path, texts = tmp_path / "rows.jsonl", 0
    with path.open("w") as file:
        for number in range(24_000):
            text = f"{'good' if number % 2 else 'bad'} film {number} " + "x" * 20_000
            file.write(json.dumps({"text": text, "label": number % 2}) + "\n")
            texts += len(text)
    limit = texts // 2  # Blocks of rows and the rules need 200 MB for any number of texts.
    # The limit counts what an allocator sets aside: Arrow's takes a gigabyte of addresses at once.
    plain = {"ARROW_DEFAULT_MEMORY_POOL": "system", "TENOR_CACHE": str(tmp_path / "cache")}
    env = {**os.environ, **plain, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", UNDER_A_LIMIT, str(path), str(limit)]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    fingerprint, tokens, rules, held = ended.stdout.splitlines()
    assert len(fingerprint) == 64
    assert tokens == "[129600, 14400]"
    assert int(rules) > 10
    assert held == "the limit holds"
