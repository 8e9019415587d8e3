"""Files whose lines or shards are unlike one another: each is read as it is meant, or the printed command mends it."""

import subprocess
import sys
from pathlib import Path

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
