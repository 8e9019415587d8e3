"""Files are written completely or not at all, damaged ones are refused, and digests change with every change."""

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenor.errors import UserError
from tenor.runs.files import (
    append_line,
    atomic_path,
    digest_folder,
    read_json,
    remove_leftovers,
    sha256_file,
    write_json,
    write_text,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(JSON)
def test_json_reads_back_equal_unless_it_is_not_unicode(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("json") / "value.json"
    try:
        write_json(path, value)
    except UnicodeEncodeError:
        assert not path.exists()
    else:
        assert read_json(path) == value
        assert path.read_text("utf-8").endswith("\n")


def test_a_truncated_file_is_always_refused_with_its_place(tmp_path):
    path = tmp_path / "value.json"
    text = json.dumps({"a": [1, {"b": "c"}], "d": None}, indent=1)
    for length in range(len(text)):
        path.write_text(text[:length])
        with pytest.raises(UserError, match=r"value\.json, line \d+, column \d+"):
            read_json(path)


@pytest.mark.parametrize("content", [b"NaN", b"[Infinity]", b"\xff", b"[" * 100_000, b"9" * 5000])
def test_invalid_json_is_refused(tmp_path, content):
    path = tmp_path / "value.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"value\.json"):
        read_json(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_json(tmp_path / "none.json")


def test_nan_is_not_written(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", float("nan"))
    assert read_json(tmp_path / "a.json") == 1
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("kind", ["file", "folder", "nothing"])
def test_an_error_leaves_the_old_file_and_no_temporary(tmp_path, kind):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:  # noqa: PT012
        if kind == "file":
            temporary.write_text("new")
        if kind == "folder":
            temporary.mkdir()
            (temporary / "x").write_text("new")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_nothing_is_at_the_target_until_the_block_ends(tmp_path):
    path = tmp_path / "deep" / "plot.png"
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".png"
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"


def test_a_block_that_writes_nothing_is_an_error_and_keeps_the_old_file(tmp_path):
    write_text(tmp_path / "a", "old")
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        pass
    assert (tmp_path / "a").read_text() == "old"


def test_a_folder_replaces_a_folder_whole(tmp_path):
    for name in ("one", "two"):
        with atomic_path(tmp_path / "model") as temporary:
            (temporary / "deep").mkdir(parents=True)
            (temporary / "deep" / name).write_text(name)
    assert os.listdir(tmp_path / "model" / "deep") == ["two"]
    assert os.listdir(tmp_path) == ["model"]


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"))))
def test_appended_lines_read_back(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    for line in lines:
        append_line(path, line)
    assert (path.read_bytes().decode().split("\n")[:-1] if lines else []) == lines


def test_an_unfinished_line_does_not_damage_the_next(tmp_path):
    (tmp_path / "a").write_text('{"x": 1}\n{"x"')
    append_line(tmp_path / "a", '{"x": 2}')
    assert (tmp_path / "a").read_text().splitlines() == ['{"x": 1}', '{"x"', '{"x": 2}']
    with pytest.raises(ValueError):
        append_line(tmp_path / "a", "two\nlines")


def test_a_folders_digest_sees_names_and_contents_and_nothing_else(tmp_path):
    def digest(**contents):
        folder = tmp_path / str(len(os.listdir(tmp_path)))
        for name, content in contents.items():
            write_text(folder / name.replace("__", "/"), content)
        return digest_folder(folder)

    base = digest(a="1", b__c="2")
    assert base == digest(b__c="2", a="1")
    others = [digest(a="1", b__c="3"), digest(a="1", c="2"), digest(a="2", b__c="1"), digest(a="1"), digest(a="12")]
    assert len({base, *others}) == 6
    (tmp_path / "0" / ".tmp-1234-a").write_text("left over")
    assert digest_folder(tmp_path / "0") == base
    with pytest.raises(NotADirectoryError):
        digest_folder(tmp_path / "0" / "a")


def test_sha256_is_the_known_one(tmp_path):
    write_text(tmp_path / "a", "abc")
    assert sha256_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_leftovers_go_and_the_rest_stays(tmp_path):
    write_text(tmp_path / "a" / "keep", "x")
    write_text(tmp_path / "a" / ".tmp-1-file", "x")
    write_text(tmp_path / ".tmp-1-folder" / "file", "x")
    assert len(remove_leftovers(tmp_path)) == 2
    assert [str(p.relative_to(tmp_path)) for p in sorted(tmp_path.rglob("*"))] == ["a", "a/keep"]
