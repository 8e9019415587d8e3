"""CSV and TSV with double quotes: training and prediction alike lose no line, and read well-written files as before."""

import contextlib
import csv
import io
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tenor.data.sources import row_files as blocks
from tenor.data.sources.labels import read_table
from tenor.errors import UserError
from tenor.inference import file_inputs
from tenor.inference.file_job import survey

TEXTS = ("a dull film", "a fine film , and funny", "it never ends", "he said it's good", "so so")


@dataclass(frozen=True)
class Read:
    """What a reader made of a file."""

    texts: list[object]
    notes: str
    faults: int = 0


def trained(path: Path) -> Read:
    rows = read_table(path, class_names=("0", "1", "2", "3", "4"))
    return Read(list(rows.texts), " ".join(rows.notes))


def predicted(path: Path) -> Read:
    found = survey(path, "text")
    chunks = list(file_inputs.read_chunks(found.file))
    texts = [text for chunk in chunks for text in chunk.texts]
    assert len(texts) == found.rows
    return Read(texts, " ".join(found.notes), found.faults)


Reader = Callable[[Path], Read]
readers = pytest.mark.parametrize("reader", [trained, predicted])


def plain(count: int, delimiter: str = "\t", texts: tuple[str, ...] = TEXTS) -> list[str]:
    """Lines without a quote, the label last."""
    return [f"{texts[number % len(texts)]} {number}{delimiter}{number % 2}" for number in range(count)]


def written(path: Path, lines: list[str], end: str = "\n") -> Path:
    path.write_bytes((end.join(lines) + end).encode())
    return path


def texts_of(lines: list[str], delimiter: str = "\t") -> list[str]:
    return [line.rsplit(delimiter, 1)[0] for line in lines if line]


def refusal(reader: Reader, path: Path) -> str:
    with pytest.raises(UserError) as caught:
        reader(path)
    return str(caught.value)


LETTERS: dict[str, dict[int, str]] = {
    "a pair that swallows lines": {9: '"awful , he said\t0', 19: 'it never ends"\t1'},
    "one stray quote at the beginning": {9: '"awful , he said\t0'},
    "one stray quote at the end": {9: 'awful , he said"\t0'},
    "one within": {9: 'the 12" single\t0'},
    "two within": {9: 'the "best" film\t0'},
    "a quoted word at the beginning": {9: '"Great" movie , loved it\t1'},
    "a quoted word that swallows": {9: '"awful , he said\t0', 12: 'fine "\t1', 20: '"Great" movie\t1', 25: '"open\t1'},
    "a quote alone": {9: '"\t0', 11: '"\t1'},
    "in the last line": {29: '"awful\t0'},
    "in the first line": {0: '"awful\t0', 3: 'ends"\t1'},
}


@readers
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("case", LETTERS)
def test_quotes_that_are_letters_in_a_tsv_lose_no_row(case: str, end: str, reader: Reader, tmp_path: Path) -> None:
    lines = plain(30)
    for at, line in LETTERS[case].items():
        lines[at] = line
    read = reader(written(tmp_path / "rows.tsv", ["text\tlabel", *lines], end))
    assert read.texts == texts_of(lines)
    joined = case not in ("one stray quote at the end", "one within", "two within")
    assert ("double quotes are read as part of the texts" in read.notes) == joined


@readers
@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_quotes_escaped_by_backslashes_end_no_field(
    suffix: str, delimiter: str, reader: Reader, tmp_path: Path
) -> None:
    """As Spark, MySQL and R write them; other backslashes are part of the texts."""
    told = ['He said "no", and left', 'a 5" screen, "fine"', "C:\\new, or \\n", "ends in two \\\\", '"', "plain"] * 2
    cells = [f'"{text.replace(chr(34), chr(92) + chr(34))}"' if '"' in text or "," in text else text for text in told]
    lines = [f"{cell}{delimiter}{at % 2}" for at, cell in enumerate(cells)]
    read = reader(written(tmp_path / f"rows{suffix}", [f"text{delimiter}label", *lines]))
    assert read.texts == told
    assert "escaped by backslashes (first in line 2)" in read.notes


@readers
def test_blank_lines_and_a_missing_line_end_change_nothing(reader: Reader, tmp_path: Path) -> None:
    lines = [*plain(10), '"awful\t0', "", *plain(5), 'ends"\t1', "", "", *plain(3)]
    path = tmp_path / "rows.tsv"
    path.write_text("\n\ntext\tlabel\n\n" + "\n".join(lines), encoding="utf-8")
    assert reader(path).texts == texts_of(lines)


@readers
def test_more_columns_and_quoted_headers(reader: Reader, tmp_path: Path) -> None:
    lines = [f"{n}\t{text}\tuser {n}" for n, text in enumerate(texts_of(plain(20)))]
    lines[4], lines[9] = '4\t"open\tuser 4', '9\tends"\tuser 9'
    read = reader(written(tmp_path / "rows.tsv", ['"label"\t"text"\t"user"', *[f"{n % 2}{x}" for n, x in rest(lines)]]))
    assert read.texts == [line.split("\t")[1] for line in lines]


def rest(lines: list[str]) -> list[tuple[int, str]]:
    """Lines without their first field, and their numbers."""
    return [(number, line[line.index("\t") :]) for number, line in enumerate(lines)]


@readers
def test_lines_that_are_wrong_in_themselves_are_reported_and_hide_no_other(reader: Reader, tmp_path: Path) -> None:
    lines = plain(40)
    lines[9], lines[15], lines[19] = '"awful\t0', "one\ttab more\t1", 'never ends"\t1'
    path = written(tmp_path / "rows.tsv", ["text\tlabel", *lines])
    if reader is trained:
        assert "1 of 40 rows cannot be used:\n  row 16 (not counting the header): has 3 fields" in refusal(reader, path)
    else:
        read = reader(path)
        assert (len(read.texts), read.faults) == (40, 1)


@readers
def test_quotes_that_are_letters_in_a_csv_without_other_commas(reader: Reader, tmp_path: Path) -> None:
    lines = plain(20, ",", ("dull", "fine", "so so"))
    lines[3], lines[9], lines[12] = '"Great" movie,1', '"awful,0', 'ends",1'
    read = reader(written(tmp_path / "rows.csv", ["text,label", *lines]))
    assert read.texts == texts_of(lines, ",")
    assert "first in line 5" in read.notes


WELL_WRITTEN = [
    ["Loved it", "1"],
    ["Good, really good", "0"],
    ["two\nlines", "1"],
    ["a list:\n1, plot\n2, actors, and more\n\n3, music", "0"],
    ['he said "no", twice\nand "yes"', "1"],
    ['"all of it quoted"', "0"],
    ['"', "1"],
    ["", "0"],
    ["ends with a comma,\nand another,", "1"],
    ["\nbegins with a line end", "0"],
    ["windows\r\nlines, with\r\ncommas", "1"],
    ["tab\there\nand\tthere", "0"],
]


@readers
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("columns", ["text label", "label text", "number text label", "label text other", "text other"])
@pytest.mark.parametrize("count", [1, 3, 12, 60])
def test_what_is_well_written_is_read_as_it_is(
    suffix: str, quoting: int, columns: str, count: int, reader: Reader, tmp_path: Path
) -> None:
    if reader is trained and "label" not in columns:
        return
    rows = [WELL_WRITTEN[(7 * number) % 12] for number in range(count)]
    values = {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
    values |= {"number": [str(n) for n in range(count)], "other": [f"x, {n}\n{n}" for n in range(count)]}
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, delimiter="," if suffix == ".csv" else "\t", quoting=quoting)
    writer.writerow(columns.split())
    writer.writerows(zip(*(values[name] for name in columns.split()), strict=True))
    (tmp_path / f"rows{suffix}").write_bytes(sink.getvalue().encode())
    read = reader(tmp_path / f"rows{suffix}")
    assert read.texts == values["text"]
    # One of the texts is empty; the reader for training says where.
    notes = re.sub(r"\S*, column 'text': [0-9,]+ rows? without a text \([^.]*\)\.", "", read.notes).strip()
    assert notes == "" or ("is read as one text" in notes and columns == "label text"), "a numbered list"


def reviews(count: int) -> list[str]:
    """Sound CSV lines, every other one quoted for its comma."""
    return [f'"Good, really {number}",1' if number % 2 else f"fine {number},0" for number in range(count)]


@readers
@pytest.mark.parametrize(
    ("wrong", "line", "words"),
    [
        ({6: '"unclosed text,0'}, 8, "closed in line 9 before 'Good, really 7"),
        ({6: '"unclosed, text,0'}, 8, "closed in line 9"),
        ({6: '"Great" movie, loved it,1'}, 8, "closed before ' movie, loved it,1'"),
        ({6: '"awful he said,0', 8: 'never ends",0', 7: "fine,1"}, 8, "joins the lines 8 to 10"),
        ({6: '"awful he said,0', 9: 'never ends",0', 7: "x,1", 8: "y, or z,1"}, 8, "joins the lines 8 to 11"),
        ({6: '"awful he said,0', 7: "fine,1", 8: 'never ends",0', 12: '"Great" film,1'}, 8, "way: line 14."),
        ({6: '"awful he said,0', 7: 'never, ends",1'}, 8, "joins the lines 8 to 9"),
        ({6: '"He said \\"no\\", then left",1', 9: '"Great" film,1'}, 8, "by another quote, not by a backslash"),
        ({19: '"cut off in the mid'}, 21, "never closed"),
        ({6: '"one" a,0', 12: '"two" b,0', 16: '"three" c,0'}, 8, "Malformed in the same way: 2 lines, 14, 18."),
    ],
)
def test_a_stray_quote_in_a_csv_is_refused_by_the_line_where_it_opens(
    wrong: dict[int, str], line: int, words: str, reader: Reader, tmp_path: Path
) -> None:
    lines = reviews(20)
    for at, text in wrong.items():
        lines[at] = text
    found = refusal(reader, written(tmp_path / "rows.csv", ["text,label", *lines]))
    assert f"rows.csv: line {line} is malformed: " in found
    assert words in found
    assert len(found) < 900


@readers
def test_all_malformed_lines_are_named_at_once_so_that_fixing_them_ends(reader: Reader, tmp_path: Path) -> None:
    lines = reviews(40)
    for at in (3, 12, 22, 31):
        lines[at] = f'"Great" movie, number {at},1'
    rounds = 0
    with contextlib.suppress(StopIteration):
        while True:
            rounds += 1
            try:
                read = reader(written(tmp_path / "rows.csv", ["text,label", *lines]))
                break
            except UserError as error:
                first = str(error).split("line ")[1].split()[0]
                others = str(error).partition("in the same way: 3 lines, ")[2].partition(".")[0]
                for number in [first, *others.split(", ")]:
                    text, label = lines[int(number) - 2].rsplit(",", 1)
                    lines[int(number) - 2] = '"' + text.replace('"', '""') + '",' + label
    assert rounds == 2
    assert len(read.texts) == 40


@readers
def test_a_numbered_list_in_a_review_is_no_row(reader: Reader, tmp_path: Path) -> None:
    """The label stands first, so that any line that begins with a number and a comma looks like a row."""
    lines = [f'{n % 5},"Good, really {n}"' if n % 3 else f"{n % 5},fine {n}" for n in range(60)]
    lines[7] = '3,"My list\n1, plot\n2, actors\n4, music"'
    read = reader(written(tmp_path / "rows.csv", ["label,text", *lines]))
    assert len(read.texts) == 60
    assert read.texts[7] == "My list\n1, plot\n2, actors\n4, music"
    assert "begins in line 9 is read as one text that spans the lines 9 to 12" in read.notes


def test_row_numbers_that_go_on_within_a_field_are_rows(tmp_path: Path) -> None:
    lines = [f'{n},"Good, really {n}"' if n % 3 else f"{n},fine {n}" for n in range(60)]
    lines[7:11] = ['7,"awful', "8,fine", "9,dull", '10,ends"']
    assert "line 9 is malformed" in refusal(predicted, written(tmp_path / "rows.csv", ["number,text", *lines]))


@readers
def test_the_stray_quote_may_stand_far_into_a_large_file(
    reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "IN_MEMORY", 1000)
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 7)
    monkeypatch.setattr(file_inputs, "CHUNK_ROWS", 8)
    monkeypatch.setenv("TENOR_CACHE", str(tmp_path / "cache"))
    lines = plain(20_000)
    lines[19_000], lines[19_007] = '"awful\t0', 'never ends"\t1'
    read = reader(written(tmp_path / "rows.tsv", ["text\tlabel", *lines]))
    assert read.texts == texts_of(lines)
    assert "first in line 19,002" in read.notes
    lines[19_003] += "\t\t"
    lines[3:2_300] = ["three\tfields\t1"] * 2_297
    found = refusal(reader, written(tmp_path / "rows.tsv", ["text\tlabel", *lines]))
    assert "line 19,002 is malformed" in found
    assert "2,298 of 20,000 lines have another number, first in line 5" in found


@readers
def test_spaces_after_the_delimiter_belong_to_no_field(reader: Reader, tmp_path: Path) -> None:
    lines = [f'"{n % 2}", "{text}, and more"' for n, text in enumerate(TEXTS * 4)]
    expected = [f"{text}, and more" for text in TEXTS * 4]
    for header in ('"label", "text"', '"label","text"', "label, text"):
        read = reader(written(tmp_path / "rows.csv", [header, *lines]))
        assert read.texts == expected
        assert "the spaces after each ',' are skipped" in read.notes


@readers
@pytest.mark.parametrize(
    ("name", "header", "words"),
    [
        ("rows.csv", "id\ttext\tlabel", "separated by '\\t'"),
        ("rows.csv", "id;text;label", "separated by ';'"),
        ("rows.csv", "id|text|label", "separated by '|'"),
        ("rows.tsv", "id,text,label", "separated by ','"),
        ("rows.csv", "# made by a program, in 2026", "begins with the comment"),
    ],
)
def test_a_header_that_will_not_do_says_why(name: str, header: str, words: str, reader: Reader, tmp_path: Path) -> None:
    assert words in refusal(reader, written(tmp_path / name, [header, "1 2 3"]))


def test_one_text_per_line_in_a_csv_is_read_or_refused_with_the_way_out(tmp_path: Path) -> None:
    lines = ["text", "fine", '"Great" movie', "dull"]
    assert "use the suffix .txt" in refusal(predicted, written(tmp_path / "rows.csv", lines))
    lines = ["text", "fine", 'the 12" single', '"open', "fine", 'ends"', "dull"]
    read = predicted(written(tmp_path / "rows.csv", lines))
    assert read.texts == ["fine", 'the 12" single', "open\nfine\nends", "dull"]
    assert "begins in line 4 is read as one text that spans the lines 4 to 6" in read.notes


@readers
@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_no_line_is_lost_silently_wherever_quotes_stand(delimiter: str, reader: Reader, tmp_path: Path) -> None:
    """Letters of texts, drawn at random: all rows are read, or a line is named on which a quote opens."""
    draw = random.Random(5)
    path = tmp_path / ("rows.csv" if delimiter == "," else "rows.tsv")
    for _ in range(60):
        lines = []
        for number in range(draw.randrange(5, 40)):
            words = [draw.choice(["a", "film", '"', 'b"', '"c"', "d", "e", "f"]) for _ in range(draw.randrange(1, 6))]
            lines.append(" ".join(words) + delimiter + str(number % 2))
        try:
            read = reader(written(path, [f"text{delimiter}label", *lines]))
        except UserError as error:
            number = int(str(error).split("is malformed")[0].split("line ")[1].replace(",", ""))
            assert lines[number - 2].startswith('"')
        else:
            assert len(read.texts) == len(lines)


@readers
@pytest.mark.parametrize(
    "lines",
    [
        [
            '0,"A ""fine"" film, w",1',
            '1,"There are few films,0',
            '2,the menu , but never dull .",1',
            "3,Good ,1",
            "4,x,1",
        ],
        ['0,a,"0"', '1,"few films,1', '2,and dull .",0', "3,Good ,0", '4,"one, two",0', "5,x,0"],
    ],
)
def test_a_class_that_is_in_no_other_row_hides_none_silently(lines: list[str], reader: Reader, tmp_path: Path) -> None:
    """Few rows of one class don't say that there is no other."""
    path = written(tmp_path / "rows.csv", ["id,text,name" if reader is predicted else "id,text,label", *lines])
    assert "begins in line 3 is read as one text that spans the lines 3 to 4" in reader(path).notes


def test_lines_of_one_column_that_quotes_join_are_named(tmp_path: Path) -> None:
    read = predicted(written(tmp_path / "rows.csv", ["text", "fine", '"open', "fine", 'ends"', "dull"]))
    assert "begins in line 3 is read as one text that spans the lines 3 to 5" in read.notes


@readers
def test_texts_of_several_lines_are_not_asked_about_where_the_lines_are_no_rows(reader: Reader, tmp_path: Path) -> None:
    lines = [f'r{n},"Good,\nreally, {n}\nand long, too",{n % 2}' for n in range(12)]
    assert reader(written(tmp_path / "rows.csv", ["id,text,label", *lines])).notes == ""


@readers
def test_a_list_within_a_text_is_no_row_where_all_fields_are_enclosed(reader: Reader, tmp_path: Path) -> None:
    lines = [f'"fine, {n}","{n % 2}"' if n % 2 else f'"fine {n}","{n % 2}"' for n in range(12)]
    lines[6] = '"my list:\n1,0\n2,1\nand more","1"'
    read = reader(written(tmp_path / "rows.csv", ['"text","label"', *lines]))
    assert (len(read.texts), read.texts[6]) == (12, "my list:\n1,0\n2,1\nand more")


@readers
def test_a_quoted_title_before_a_text_of_several_lines_makes_it_no_row(reader: Reader, tmp_path: Path) -> None:
    lines = [f"a title {n}\t{n % 2}\tfine {n}" for n in range(12)]
    lines[6] = '"""Title"" of it"\t0\t"\nand its text"'
    read = reader(written(tmp_path / "rows.tsv", ["title\tlabel\ttext", *lines]))
    assert (len(read.texts), read.texts[6]) == (12, "\nand its text")


@readers
def test_a_row_with_a_text_behind_the_last_column_is_named(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rows = "".join(f"{text},{at % 2}\n" for at, text in enumerate(("dull", "fine", "bad", "good")))
    path.write_text(f'text,label\n{rows}so,0,so,"a\nb,c,d,e"\n')
    if reader is trained:
        with pytest.raises(UserError, match=r"row 5 \(not counting the header\): has 4 fields, expected 2"):
            reader(path)
    else:
        read = reader(path)
        assert (len(read.texts), read.faults) == (5, 1)
