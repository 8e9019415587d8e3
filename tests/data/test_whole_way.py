"""Files with several faults, and archives: the first message gives the whole way, and its commands work when pasted."""

import io
import json
import shlex
import subprocess
import tarfile
import zipfile
from pathlib import Path

import datasets
import pytest

from tenor.config import load_config
from tenor.data.dataset import LabelledText
from tenor.data.files.opening import open_text
from tenor.data.sources import SourceData, read_source
from tenor.errors import UserError
from tenor.inference.file_inputs import open_input, read_chunks

COMMANDS = (", for instance: ", "Extract it: ", "If each row is one line: ")


def source_of(*options: str) -> SourceData:
    return read_source(load_config("demo", ["data.source=file", *options]).data)


def read(*options: str) -> LabelledText:
    rows = source_of(*options).train
    assert isinstance(rows, LabelledText)
    return rows


def refusal(path: Path, *options: str) -> str:
    with pytest.raises(UserError) as caught:
        source_of(f"data.path={json.dumps(str(path))}", *options)
    return str(caught.value)


def pasted(told: str) -> list[str]:
    """Run the printed command, and return the printed settings as a shell reads them."""
    before, found, command = next(told.partition(one) for one in COMMANDS if one in told)
    command, _, after = command.partition("; then ")
    assert found
    subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)
    words = shlex.split((after or before.rpartition("set ")[2]).removesuffix(".").replace("(", " ( "))
    return [word for word in words if word.startswith("data.")]


def labels_of(rows: LabelledText) -> list[str]:
    return [rows.class_names[label] for label in rows.labels]


TWEETS = ["I hâted “it”", "what a day", "so, good", "fine"]


def sentiment140(encoding: str) -> bytes:
    rows = [
        f'"{0 if at < 2 else 4}","{at + 17}","Mon Apr 06 22:19:0{at} PDT 2009","NO_QUERY","user","{text}"\n'
        for at, text in enumerate(TWEETS)
    ]
    return "".join(rows).encode(encoding)


@pytest.mark.parametrize("content", [sentiment140("cp1252"), sentiment140("utf-8")])
def test_sentiment140_is_read_as_it_is_published(content: bytes, tmp_path: Path) -> None:
    """No copy of 1.6 million rows: without a header, and in its own encoding."""
    path = tmp_path / "training.1600000.csv"
    path.write_bytes(content)
    told = refusal(path)
    assert "This looks like Sentiment140" in told
    options = shlex.split(told.split(". Set ")[1].removesuffix("."))
    rows = read(f"data.path={path}", *options)
    assert (list(rows.texts), labels_of(rows)) == (TWEETS, ["negative"] * 2 + ["positive"] * 2)
    assert "in the format of Sentiment140, without a header" in rows.notes[0]
    chunks = list(read_chunks(open_input(path, "text", False), "text", False))
    assert [text for chunk in chunks for text in chunk.texts] == TWEETS
    path.rename(tmp_path / "a.txt")
    with open_text(tmp_path / "a.txt") as lines:
        assert lines.readline().startswith('"0","17"'), "lines of text stay as they are"


def test_a_mixture_of_encodings_in_sentiment140_is_read_byte_by_byte(tmp_path: Path) -> None:
    """The published file has lines of UTF-8, lines of WINDOWS-1252, and bytes that this lacks."""
    path = tmp_path / "a.csv"
    lines = sentiment140("utf-8").splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b"what", b"caf\xe9 \x80 \x81") + b"".join(lines[2:]))
    rows = read(f"data.path={path}", "data.label_column=target", 'data.class_names=["0", "4"]')
    assert list(rows.texts)[:2] == [TWEETS[0], "café € \x81 a day"]


def mixed_faults(encoding: str, header: str, labels: list[str]) -> bytes:
    rows = "".join(f'{label},"très bien, le film numéro {at} était là",x{at}\n' for at, label in enumerate(labels))
    return (header + rows).encode(encoding)


@pytest.mark.parametrize(
    ("content", "options", "classes"),
    [
        (mixed_faults("cp1252", "", ["0"] * 6 + ["4"] * 6), (), ("0", "4")),
        (mixed_faults("utf-8", "", ["0"] * 6 + ["4"] * 6), (), ("0", "4")),
        (mixed_faults("cp1252", "stars,review,id\n", ["0"] * 6 + ["4"] * 6), (), ("0", "4")),
        (mixed_faults("cp1252", "a,b,id\n", ["2", "7"] * 6), ("data.text_column=b", "data.label_column=a"), ("2", "7")),
        (mixed_faults("cp1252", "label,text,id\n", ["0", "1"] * 6), (), ("0", "1")),
        (mixed_faults("cp1252", "", ["bad"] * 6 + ["good"] * 6), ("data.text_column=x",), ("bad", "good")),
    ],
)
def test_encoding_header_columns_and_scale_are_told_at_once(
    content: bytes, options: tuple[str, ...], classes: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "my file.csv"
    path.write_bytes(content)
    rows = read(*options, *pasted(refusal(path, *options)))
    assert (len(rows), rows.class_names) == (12, classes)
    assert rows.texts[0] == "très bien, le film numéro 0 était là"


def test_what_cannot_be_known_yet_is_left_to_the_next_message(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes('label,text\n0,"café\n'.encode("latin-1"))
    told = refusal(path)
    assert "It looks like WINDOWS-1252" in told
    assert "header" not in told
    assert pasted(told) == [f"data.path={tmp_path / 'a.utf8.csv'}"]


WRITING: dict[str, bytes] = {
    "sep.csv": b"sep=,\ntext,label\n" + b"fine,a\ndull,b\n" * 3,
    "sep, in another encoding.csv": ("sep=;\nNr;Kundenmeinung;Urteil\n" + "1;schön;gut\n2;öde;schlecht\n" * 3).encode(
        "cp1252"
    ),
    "title.csv": b"My reviews,\n,\ntext,label\n" + b"fine,a\ndull,b\n" * 3,
    "lines.txt": b"a fine film.\ta\nit is dull\tb\n" * 3,
    "header.txt": b"text,label\n" + b"fine,a\ndull,b\n" * 3,
    "keys.json": json.dumps({"a": [{"text": "fine", "label": "a"}] * 3, "b": [{"text": "x", "label": "b"}]}).encode(),
    "utf32.csv": ("text,label\n" + "fine,a\ndull,b\n" * 3).encode("utf-32"),
    "some.csv": "text,label\nfiné,a\n".encode() + b"dull,b\nx\xff,a\n" * 3,
}


@pytest.mark.parametrize("name", WRITING)
def test_a_command_that_writes_a_file_comes_with_the_path_to_give_then(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(WRITING[name])
    told = refusal(tmp_path / name).replace("python -c", f"{shlex.quote(__import__('sys').executable)} -c")
    assert len(read(*pasted(told))) >= 3


@pytest.mark.parametrize("with_readme", [False, True])
@pytest.mark.parametrize("name", ["keys.json", "sep.csv", "sep, in another encoding.csv", "title.csv"])
def test_the_command_reads_the_file_of_data_in_an_archive(name: str, with_readme: bool, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(f"data [1]/{name}", WRITING[name])
        if with_readme:
            archive.writestr("README.md", "How these were gathered.")
    told = refusal(tmp_path / "a.zip").replace("python -c", f"{shlex.quote(__import__('sys').executable)} -c")
    assert len(read(*pasted(told))) >= 3


def test_the_classes_below_a_sep_line_are_those_of_all_rows(tmp_path: Path) -> None:
    """A file that is sorted by class begins with hundreds of rows of one."""
    path = tmp_path / "a.csv"
    path.write_text("sep=;\ntext;label\n" + "dull;0\n" * 300 + "fine;4\n" * 300)
    assert read(*pasted(refusal(path))).class_names == ("0", "4")


def test_columns_that_cannot_be_known_are_named_in_the_same_message(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("sep=;\nNr;Aussage;Art\n1;schön;gut\n2;öde;schlecht\n".encode("cp1252"))
    told = refusal(path)
    assert "Its columns are 'Nr', 'Aussage', 'Art'." in told
    assert "data.text_column=NAME data.label_column=NAME" in told


@pytest.mark.parametrize(
    "content", [b'sep="\ntext"label\na"1\n', b'sep=;\ntext;label\n"a" b;1\n', b"sep=;\n", b"sep=\n\n"]
)
def test_a_separator_that_is_none_and_malformed_rows_are_refused_like_the_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    assert "is for Excel and is not a header" in refusal(path)
    path.write_bytes(content + "é;1\n".encode("latin-1"))
    assert "is for Excel and is not a header" in refusal(path)


@pytest.mark.parametrize("kind", ["folders", "files", "save_to_disk", "archive", "column"])
def test_a_published_validation_split_that_stays_unused_is_named(kind: str, tmp_path: Path) -> None:
    names, rows = ("train", "validation", "test"), "text,label\nfine,pos\ndull,neg\n"
    path = tmp_path / "d"
    match kind:
        case "folders":
            for name in names:
                for label in ("pos", "neg"):
                    (path / name / label).mkdir(parents=True)
                    (path / name / label / "1.txt").write_text("fine")
        case "files":
            path.mkdir()
            for name in names:
                (path / f"{name}.csv").write_text(rows)
        case "save_to_disk":
            split = datasets.Dataset.from_dict({"text": ["fine", "dull"], "label": [1, 0]})
            datasets.DatasetDict(dict.fromkeys(names, split)).save_to_disk(str(path))
        case "archive":
            path = pack(tmp_path / "d.zip", {f"d/{name}.csv": rows for name in names})
        case "column":
            path = tmp_path / "d.csv"
            path.write_text("text,label,split\n" + "".join(f"fine {name},pos,{name}\n" for name in names * 20))
    assert "'validation' stays unused" in refusal(path) or "'validation.csv' stays unused" in refusal(path)


FOLDERS: dict[str, dict[str, str]] = {
    "classes": {"pos/1.txt": "fine", "neg/1.txt": "dull"},
    "splits of classes": {
        f"d/{split}/{kind}/1.txt": text
        for split in ("train", "test")
        for kind, text in (("pos", "fine"), ("neg", "dull"), ("unsup", "x"))
    }
    | {"d/README": "x", "d/imdbEr.txt": "0.5\n", "d/imdb.vocab": "the\n"},
    "splits": {f"{split}.csv": "text,label\nfine,pos\ndull,neg\n" for split in ("train", "test", "sample")},
    "folders of splits": {f"{split}/data.csv": "text,label\nfine,pos\ndull,neg\n" for split in ("train", "test")},
    "shards": {f"s/part-{at}.csv": f"text,label\n{text}\n" for at, text in enumerate(("fine,pos", "dull,neg"))},
    "a table": {"s/a.csv": "text,label\nfine,pos\ndull,neg\n", "s/README.md": "x", "s/paper.pdf": "x"},
}


def pack(path: Path, files: dict[str, str]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in {**files, "__MACOSX/._x.txt": "\0", ".DS_Store": "\0"}.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content.encode()))
    return path


@pytest.mark.parametrize("kind", FOLDERS)
@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_an_archive_is_told_with_the_command_and_the_settings_that_read_it(
    kind: str, suffix: str, tmp_path: Path
) -> None:
    options = pasted(refusal(pack(tmp_path / f"my data{suffix}", FOLDERS[kind])))
    source = source_of(*options)
    has_test = "split" in kind
    for rows in (source.train, source.test) if has_test else (source.train,):
        assert isinstance(rows, LabelledText)
        assert sorted(zip(rows.texts, labels_of(rows), strict=True)) == [("dull", "neg"), ("fine", "pos")]
    assert ("data.test_size=null" in options) == has_test


def test_an_archive_of_one_table_and_a_readme_is_read(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"a.csv": "text,label\nfine,pos\ndull,neg\n", "README.md": "x"})
    assert list(read(f"data.path={path}").texts) == ["fine", "dull"]


@pytest.mark.parametrize("name", ["/etc/a.txt", "x/../../a.txt", "."])
def test_names_that_lead_out_of_an_archive_are_not_followed(name: str, tmp_path: Path) -> None:
    told = refusal(pack(tmp_path / "a.zip", {name: "x", "b/c.txt": "y", "d/e.txt": "z"}))
    assert "etc" not in told.replace("/etc/a.txt", "")
    assert "data.path=" not in told or f"data.path={tmp_path / 'a'} " in told


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_tar_archive_that_cannot_be_listed_is_refused_without_settings(is_damaged: bool, tmp_path: Path) -> None:
    """Damaged, or with a header that would fill the memory."""
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo("x")
        info.type, info.size = tarfile.XHDTYPE, 2**22
        archive.addfile(info, io.BytesIO(b" " * info.size))
    if is_damaged:
        path.write_bytes(path.read_bytes()[:100])
    assert "archives are not read. Extract it (tar -xf" in refusal(path)
