"""An ONNX file in the cache is what was written, byte for byte, or it is made anew."""

from pathlib import Path

import pytest

from tenor.inference import onnx_files
from tenor.inference.onnx_files import cached_onnx


@pytest.fixture
def made(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was written, in order; no exporter runs."""
    found: list[str] = []

    def write(model: object, path: Path, token_types: bool = False) -> None:
        found.append("float")
        path.write_bytes(b"float" * 100)

    def quantize(path: Path, target: Path) -> None:
        found.append("int8")
        target.write_bytes(b"int8 of " + path.read_bytes())

    monkeypatch.setattr(onnx_files, "write_onnx", write)
    monkeypatch.setattr(onnx_files, "quantize_onnx", quantize)
    return found


def test_each_file_is_written_once(made: list[str]) -> None:
    path, quantized = cached_onnx(object(), "a", int8=False), cached_onnx(object(), "a", int8=True)
    assert (cached_onnx(object(), "a", int8=True), cached_onnx(object(), "a", int8=False)) == (quantized, path)
    assert made == ["float", "int8"]
    assert cached_onnx(object(), "b", int8=False) != path
    assert cached_onnx(object(), "a", int8=False, token_types=True) != path


@pytest.mark.parametrize(("int8", "again"), [(False, ["float"]), (True, ["int8"])])
def test_a_file_that_was_changed_is_made_anew(int8: bool, again: list[str], made: list[str]) -> None:
    path = cached_onnx(object(), "a", int8)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\x00")
    made.clear()
    assert cached_onnx(object(), "a", int8).read_bytes() == whole
    assert made == again


def test_int8_is_never_made_from_a_float_file_that_was_changed(made: list[str]) -> None:
    cached_onnx(object(), "a", int8=False).write_bytes(b"another model")
    assert cached_onnx(object(), "a", int8=True).read_bytes() == b"int8 of " + b"float" * 100
    assert made == ["float", "float", "int8"]
