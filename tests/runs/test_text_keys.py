"""The keys of a run's texts are read back as written, and other files are refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from tenor.errors import UserError
from tenor.runs.text_keys import read_text_keys, write_text_keys

KEYS = {"train": np.array([1, 2**64 - 1, 7], dtype=np.uint64), "validation": np.array([], dtype=np.uint64)}


def test_they_come_back(tmp_path: Path) -> None:
    write_text_keys(tmp_path / "keys.safetensors", KEYS)
    found = read_text_keys(tmp_path / "keys.safetensors")
    assert found.keys() == KEYS.keys()
    for name, keys in KEYS.items():
        np.testing.assert_array_equal(found[name], keys)
        assert found[name].dtype == np.uint64
    assert [path.name for path in tmp_path.iterdir()] == ["keys.safetensors"]


def test_a_file_takes_eight_bytes_for_each_text(tmp_path: Path) -> None:
    many = {"train": np.arange(10_000, dtype=np.uint64), "validation": np.arange(5, dtype=np.uint64)}
    write_text_keys(tmp_path / "keys.safetensors", many)
    assert 0 <= (tmp_path / "keys.safetensors").stat().st_size - 8 * 10_005 < 500


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"keys\.safetensors is missing: earlier versions"):
        read_text_keys(tmp_path / "keys.safetensors")


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"train": KEYS["train"]},
        {**KEYS, "test": KEYS["train"]},
        {**KEYS, "train": KEYS["train"].astype(np.int64)},
        {**KEYS, "train": KEYS["train"][None]},
    ],
)
def test_other_tensors_are_refused(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "keys.safetensors")
    with pytest.raises(UserError, match="expected uint64 keys of train and validation"):
        read_text_keys(tmp_path / "keys.safetensors")


def test_keys_that_were_made_in_another_way_are_refused(tmp_path: Path) -> None:
    """They would match nothing, silently."""
    save_file(KEYS, tmp_path / "keys.safetensors")
    with pytest.raises(UserError, match="keys of kind 1, this version of Tenor compares kind 2"):
        read_text_keys(tmp_path / "keys.safetensors")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), at=st.integers(0, 200))
def test_any_bytes_are_read_or_refused(content: bytes, at: int, tmp_path: Path) -> None:
    path = tmp_path / "keys.safetensors"
    write_text_keys(path, KEYS)
    whole = path.read_bytes()
    for damaged in (content, whole[:at] + content + whole[at:], whole[:at], whole[:at] + content):
        path.write_bytes(damaged)
        try:
            read_text_keys(path)
        except UserError:
            continue
