"""Values that are missing although a file has something there: NULL of databases, merged cells, formulas."""

import csv
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from sheets import workbook
from tenor.data.sources.labels import read_table
from tenor.errors import UserError
from tenor.inference.file_job import survey

ROWS = [(f"film {at} was fine", ("good", "bad")[at % 2]) for at in range(12)]


def table(folder: Path, rows: list[tuple[str, str]], suffix: str = ".tsv") -> Path:
    path = folder / f"rows{suffix}"
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",").writerows([("text", "label"), *rows])
    return path


@pytest.mark.parametrize("suffix", [".tsv", ".csv"])
@pytest.mark.parametrize("place", [0, 1], ids=["text", "label"])
def test_null_of_a_database_is_missing_as_an_empty_cell_is(place: int, suffix: str, tmp_path: Path) -> None:
    told = {}
    for value in ("\\N", ""):
        odd = (value, ROWS[3][1]) if place == 0 else (ROWS[3][0], value)
        path = table(tmp_path, [*ROWS[:3], odd, *ROWS[4:]], suffix)
        left = read_table(path, faulty_rows="leave_out")
        assert left.class_names == ("bad", "good")
        assert list(left.texts) == [text for at, (text, _) in enumerate(ROWS) if at != 3]
        if value or place == 1:  # A blank text is judged by a rule.
            with pytest.raises(UserError, match=f"(?s)1 of 12 rows.*{('text', 'label')[place]} is missing") as caught:
                read_table(path)
            told[value] = str(caught.value)
        if place == 0:
            assert survey(path, "text").faults == 1
    assert len(set(told.values())) == 1


def test_null_within_a_text_is_text_and_a_class_if_the_user_says_so(tmp_path: Path) -> None:
    path = table(tmp_path, [(f"{text} \\N", label) for text, label in ROWS])
    assert all(text.endswith("\\N") for text in read_table(path).texts)
    assert survey(path, "text").faults == 0
    path = table(tmp_path, [*ROWS, ("odd", "\\N")])
    assert read_table(path, class_names=("good", "bad", "\\N")).class_names[2] == "\\N"
    assert len(read_table(path, relabel={"\\N": None}).texts) == len(ROWS)
    with pytest.raises(UserError, match="'label' is missing in all"):
        read_table(table(tmp_path, [(text, "\\N") for text, _ in ROWS]))


# Workbooks.


def changed(path: Path, *changes: tuple[str, str]) -> Path:
    """The workbook with other XML in its first sheet."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name).decode() for name in archive.namelist()}
    for old, new in changes:
        assert old in parts["xl/s1.xml"]
        parts["xl/s1.xml"] = parts["xl/s1.xml"].replace(old, new)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def merged(path: Path, *ranges: str) -> Path:
    cells = "".join(f'<mergeCell ref="{one}"/>' for one in ranges)
    return changed(path, ("</sheetData>", f"</sheetData><mergeCells>{cells}</mergeCells>"))


@pytest.mark.parametrize("above", [[], [["Reviews of films"], []]])
@pytest.mark.parametrize("margin", [0, 1])
def test_merged_labels_are_one_fault_and_the_printed_command_fills_them(
    margin: int, above: list[list[str]], tmp_path: Path
) -> None:
    pytest.importorskip("python_calamine")
    rows = [(f"film {at} was fine", "good" if at < 8 else "bad", "5") for at in range(12)]
    blank = [""] * margin
    cells = [[*blank, text, label if at in (0, 8) else "", number] for at, (text, label, number) in enumerate(rows)]
    path = workbook(tmp_path / "the films.xlsx", {"All": [*above, [*blank, "text", "label", "n"], *cells]})
    first, letter = len(above) + 2, "BC"[margin]
    ranges = [f"{letter}{first}:{letter}{first + 7}", f"{letter}{first + 8}:{letter}{first + 11}"]
    merged(path, *ranges)
    with pytest.raises(UserError, match="cells of column 'label' are merged") as caught:
        read_table(path)
    told = str(caught.value)
    assert ", ".join(ranges) in told
    assert "10 rows below have none" in told
    assert "leave_out" not in told
    assert survey(path, "text").faults == 0
    command = shlex.split(told.split("for instance: ")[1])
    subprocess.run([sys.executable, *command[1:]], check=True)
    read = read_table(tmp_path / "the films_filled.csv")
    assert list(read.texts) == [text for text, *_ in rows]
    assert [read.class_names[index] for index in read.labels] == [label for _, label, _ in rows]


def test_merged_cells_elsewhere_are_no_fault(tmp_path: Path) -> None:
    pytest.importorskip("python_calamine")
    cells = [["Reviews", "", ""], ["text", "label", "n"], *([*row, str(at)] for at, row in enumerate(ROWS))]
    path = merged(workbook(tmp_path / "a.xlsx", {"All": cells}), "A1:C1", "C3:C9")
    assert list(read_table(path).texts) == [text for text, _ in ROWS]
    cells[5][1] = cells[6][1] = ""
    path = merged(workbook(tmp_path / "b.xlsx", {"All": cells}), "B6:B7")
    with pytest.raises(UserError, match=r"(?s)2 of 12 rows.*label is missing"):
        read_table(path)


@pytest.mark.parametrize("value", ["<v />", "", "<v></v>"])
def test_formulas_that_were_never_computed_are_told_as_such(value: str, tmp_path: Path) -> None:
    pytest.importorskip("python_calamine")
    cells = [["text", "label"], *([text, f"F{at}"] for at, (text, _) in enumerate(ROWS))]
    formula = "<f>IF(C2&gt;3,1,0)</f>"
    path = workbook(tmp_path / "a.xlsx", {"All": cells, "Other": [["x"]]})
    texts = {at: f' t="inlineStr"><is><t>F{at}</t></is></c>' for at in range(len(ROWS))}
    changed(path, *((old, f">{formula}{value}</c>") for old in texts.values()))
    with pytest.raises(UserError, match="column 'label' has formulas that were never computed") as caught:
        read_table(f"{path}#All")
    told = str(caught.value)
    assert "in 12 rows (B2, B3, B4, …)" in told
    assert f"data.path={shlex.quote(str(tmp_path / 'computed' / 'a.xlsx#All'))}" in told
    assert f"soffice --headless --convert-to xlsx --outdir {tmp_path / 'computed'} {path}" in told
    computed = workbook(tmp_path / "b.xlsx", {"All": cells})
    changed(computed, *((old, f' t="str">{formula}<v>{ROWS[at][1]}</v></c>') for at, old in texts.items()))
    assert read_table(computed).class_names == ("bad", "good")
    cells[3][1] = ""
    with pytest.raises(UserError, match="label is missing"):
        read_table(workbook(tmp_path / "c.xlsx", {"All": cells[:1] + [[a, "bad" if b else b] for a, b in cells[1:]]}))
