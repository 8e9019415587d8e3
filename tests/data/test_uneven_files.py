"""Files whose lines or shards are unlike one another: each is read as it is meant, or the printed command mends it."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tenor.data.dataset import LabelledText
from tenor.data.sources.labels import read_table
from tenor.errors import UserError
from tenor.inference import file_inputs
from tenor.inference.file_job import survey


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def trained(path: Path | str) -> LabelledText:
    return read_table(path)


def labels_of(rows: LabelledText) -> list[str]:
    return [rows.class_names[label] for label in rows.labels]


def predicted(path: Path | str) -> list[object]:
    found = survey(Path(path), "text")
    assert not found.faults, found.first_fault
    return [text for chunk in file_inputs.read_chunks(found.file, "text") for text in chunk.texts]


def refusal(path: Path | str) -> str:
    with pytest.raises(UserError) as caught:
        read_table(path)
    return str(caught.value)


def run(told: str) -> str:
    """Run the command at the end of a message; it is returned."""
    command = told.split("for instance: ")[1]
    subprocess.run(command.replace("python ", f"{sys.executable} ", 1), shell=True, check=True)
    return command


OTHERS = {
    "WINDOWS-1252": "Le café était fermé, déçu",
    "WINDOWS-1251": "Очень плохой фильм",
    "CP932": "①この映画は髙評価、とても面白かったです。",
}
UTF8_LINES = ["un café agréable, n° 5", "Очень плохой фильм", "とても面白かった", "plain"] * 6


@pytest.mark.parametrize("encoding", OTHERS)
@pytest.mark.parametrize("at", [0, 12, 24])
def test_lines_in_another_encoding_are_counted_and_converted(encoding: str, at: int, tmp_path: Path) -> None:
    """Wherever they are, also before all others; the printed command works with any path."""
    others = [OTHERS[encoding]] * 7
    texts = [*UTF8_LINES[:at], *others, *UTF8_LINES[at:]]
    lines = [f'"{text}",{n % 2}\n' for n, text in enumerate(texts)]
    raw = [line.encode(encoding if at <= n < at + 7 else "utf-8") for n, line in enumerate(lines)]
    folder = tmp_path / "it's my data"
    path = put(folder / "a.csv", b"text,label\n" + b"".join(raw))
    told = refusal(path)
    listed = ", ".join(str(number) for number in range(at + 2, at + 7))
    assert f"7 lines ({listed}, …) are not UTF-8 and may be {encoding}" in told
    assert survey(path, "text").fix.endswith(run(told))
    assert list(trained(folder / "a.utf8.csv").texts) == predicted(folder / "a.utf8.csv") == texts


def test_a_line_in_two_encodings_is_converted_byte_by_byte(tmp_path: Path) -> None:
    both = "À bientôt ".encode() + "l’été".encode("cp1252")
    path = put(tmp_path / "a.csv", b"text,label\n" + both + b",1\nplain,0\n")
    told = refusal(path)
    assert "1 line (2) is not UTF-8 and may be WINDOWS-1252" in told
    run(told)
    assert list(trained(tmp_path / "a.utf8.csv").texts) == ["À bientôt l’été", "plain"]


def test_a_file_that_is_utf8_by_chance_in_one_line_is_not_mixed(tmp_path: Path) -> None:
    lines = "".join(f"déçu {n},{n % 2}\n" for n in range(99))
    path = put(tmp_path / "a.csv", f"text,label\n{lines}UN CLICHÉ»,1\n".encode("cp1252"))
    assert "It looks like WINDOWS-1252. Save it as UTF-8" in refusal(path)


def commas(count: int, delimiter: str = ",") -> list[str]:
    texts = [f"Slow{delimiter} dull{delimiter} and {n} minutes too long" for n in range(count)]
    texts[1:4] = [f'"Her Lover" is old{delimiter} and so "am" I', f'The "real{delimiter}" genre', "no comma"]
    texts[4] = f'"The Cat{delimiter}" he said, "is back"'
    return texts


@pytest.mark.parametrize("delimiter", [",", "\t"])
@pytest.mark.parametrize("header", ["text,label", "label,text", "id,text,label"])
def test_unquoted_commas_are_named_before_faulty_quotes(header: str, delimiter: str, tmp_path: Path) -> None:
    """Some rows are enclosed as they must be: the command leaves these as they are."""
    texts = commas(60, delimiter)
    labels = ["good", "bad"] * 30
    enclosed = [text if n < 50 else f'"{text} ""so"" it is"' for n, text in enumerate(texts)]
    columns = {"text": enclosed, "label": labels, "id": [str(n) for n in range(60)]}
    rows = zip(*(columns[name] for name in header.split(",")), strict=True)
    lines = [header.replace(",", delimiter), *map(delimiter.join, rows)]
    path = put(tmp_path / "it's" / ("a.csv" if delimiter == "," else "a.tsv"), "\n".join([*lines, ""]))
    told = refusal(path)
    assert "49 of 60 rows have more fields than the header" in told
    run(told)
    read = trained(path.with_name("a_quoted.csv"))
    expected = [text if n < 50 else f'{text} "so" it is' for n, text in enumerate(texts)]
    assert (list(read.texts), labels_of(read)) == (expected, labels)
    if header == "text,label":
        with pytest.raises(UserError) as caught:
            survey(path, "text")
        assert str(caught.value) == told


def test_faulty_quotes_of_enclosed_texts_are_no_unquoted_commas(tmp_path: Path) -> None:
    texts = [f'"Slow, dull, and {n} minutes"' for n in range(20)]
    for spoilt in ('"Slow, \\"dull\\", and long', '"Slow" is, dull'):
        lines = [f"{text},{n % 2}" for n, text in enumerate([*texts[:9], spoilt, *texts[9:]])]
        told = refusal(put(tmp_path / "a.csv", "\n".join(["text,label", *lines, ""])))
        assert "line 11 is malformed" in told
        assert "more fields than the header" not in told
    backslashes = [f'"Slow, \\"dull\\", and {n} minutes"' for n in range(20)]
    lines = [f"{text},{n % 2}" for n, text in enumerate([*backslashes, '"Slow" is, dull'])]
    assert "is malformed" in refusal(put(tmp_path / "a.csv", "\n".join(["text,label", *lines, ""])))


def test_only_spaces_that_rows_have_are_said_to_be_skipped(tmp_path: Path) -> None:
    for header in ("text , label", 'text, "label"', ' "text", label'):
        rows = trained(put(tmp_path / "a.csv", f"{header}\n" + '"a film, fine",good\ndull,bad\n' * 5))
        assert (list(rows.texts), labels_of(rows)) == (["a film, fine", "dull"] * 5, ["good", "bad"] * 5)
        assert not any("are skipped" in note for note in rows.notes)
    rows = trained(put(tmp_path / "a.csv", "text, label\n" + '"a film, fine", good\ndull, bad\n' * 5))
    assert any("are skipped" in note for note in rows.notes)


TEXTS = ["a fine film", "dull", "so so"]
INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint32(), pa.uint64()]
STRINGS = [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())]


def shards(folder: Path, types: list[tuple[pa.DataType, pa.DataType]], labels: list[object]) -> str:
    """One shard per pair of types, those of texts and labels."""
    for number, (of_text, of_label) in enumerate(types):
        columns = [pa.array(TEXTS).cast(of_text), pa.array(labels).cast(of_label)]
        pq.write_table(pa.table(columns, names=["text", "label"]), folder / f"train-{number}.parquet")
    return f"{folder}/train-*.parquet"


@pytest.mark.parametrize("kinds", [INTEGERS, INTEGERS[::-1], STRINGS, STRINGS[::-1]])
def test_shards_whose_types_differ_in_width_are_read_as_one(kinds: list[pa.DataType], tmp_path: Path) -> None:
    texts = (STRINGS * 3)[: len(kinds)]
    labels: list[object] = [1, 0, 1] if kinds[0] in INTEGERS else ["good", "bad", "good"]
    pattern = shards(tmp_path, list(zip(texts, kinds, strict=True)), labels)
    rows = trained(pattern)
    assert list(rows.texts) == predicted(pattern) == TEXTS * len(kinds)
    assert labels_of(rows) == [str(label) for label in labels] * len(kinds)
    assert list(trained(f"{tmp_path}/train-0.parquet").texts) == TEXTS


def test_shards_of_other_types_are_refused(tmp_path: Path) -> None:
    pattern = shards(tmp_path, [(pa.string(), pa.int64()), (pa.string(), pa.string())], [1, 0, 1])
    assert "Write all files with the same types." in refusal(pattern)
    assert predicted(f"{tmp_path}/train-0.parquet") == TEXTS


@pytest.mark.parametrize("kinds", [(pa.int64(), pa.int32()), (pa.string(), pa.large_string())])
def test_partitions_whose_types_differ_in_width_are_read_as_one(
    kinds: tuple[pa.DataType, pa.DataType], tmp_path: Path
) -> None:
    for label, kind in zip(("good", "bad"), kinds, strict=True):
        (tmp_path / f"label={label}").mkdir()
        table = pa.table({"text": pa.array(TEXTS), "more": pa.array(["1", "2", "3"]).cast(kind)})
        pq.write_table(table, tmp_path / f"label={label}" / "part.parquet")
    assert sorted(trained(tmp_path).texts) == sorted(predicted(tmp_path)) == sorted(TEXTS * 2)
