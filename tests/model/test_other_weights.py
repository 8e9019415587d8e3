"""Weights that are not safetensors are never read; the command in the message converts them exactly."""

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from classifiers import save_classifier
from tenor.config.schema import Model
from tenor.errors import UserError
from tenor.inference.predictor import Predictor
from tenor.model.classifier import load_classifier

TEXTS = ["film was superb", "dull", "scene and movie"]
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def bare(small_model: Path, tmp_path: Path) -> tuple[Path, Tensors]:
    """A classifier's folder without its weights, and these."""
    folder = save_classifier(small_model, tmp_path / "a folder; $HOME 'quoted'", length=16)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    return folder, tensors


def refusals(folder: Path) -> list[str]:
    """What prediction and training say of a folder."""
    said = []
    for use in (
        lambda: Predictor.load(folder, device="cpu"),
        lambda: load_classifier(Model(name=str(folder)), ("a", "b"), 0, "cpu"),
    ):
        with pytest.raises(UserError) as caught:
            use()
        said.append(str(caught.value))
    return said


def whole(folder: Path, tensors: Tensors) -> None:
    torch.save(tensors, folder / "pytorch_model.bin")


def older_format(folder: Path, tensors: Tensors) -> None:
    torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def sharded(folder: Path, tensors: Tensors) -> None:
    names = sorted(tensors)
    parts = {"pytorch_model-00001-of-00002.bin": names[:9], "pytorch_model-00002-of-00002.bin": names[9:]}
    for file, part in parts.items():
        torch.save({name: tensors[name] for name in part}, folder / file)
    places = {name: file for file, part in parts.items() for name in part}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def sharing_memory(folder: Path, tensors: Tensors) -> None:
    flat = torch.cat([tensor.flatten() for tensor in tensors.values()])
    views, start = {}, 0
    for name, tensor in tensors.items():
        views[name] = flat[start : start + tensor.numel()].view(tensor.shape)
        start += tensor.numel()
    torch.save({**views, "a.tied.copy": views["classifier.weight"]}, folder / "pytorch_model.bin")


PICKLED = [whole, older_format, sharded, sharing_memory]


@pytest.mark.parametrize("pickle_them", PICKLED)
def test_pickled_weights_are_named_with_the_command(
    bare: tuple[Path, Tensors], pickle_them: Callable[[Path, Tensors], None]
) -> None:
    folder, tensors = bare
    pickle_them(folder, tensors)
    for said in refusals(folder):
        assert "pytorch_model" in said
        assert "never reads" in said
        assert "weights_only=True" in said
        assert "\n" not in said
        assert "train again" not in said


@pytest.mark.slow
@pytest.mark.parametrize("pickle_them", PICKLED)
def test_the_command_makes_the_same_model(
    bare: tuple[Path, Tensors], pickle_them: Callable[[Path, Tensors], None], tmp_path: Path
) -> None:
    folder, tensors = bare
    original = Path(shutil.copytree(folder, tmp_path / "original"))
    save_file(tensors, original / "model.safetensors", metadata={"format": "pt"})
    pickle_them(folder, tensors)
    command = refusals(folder)[0].split("it: ", 1)[1]
    subprocess.run(["sh", "-c", command], check=True)
    made = load_file(folder / "model.safetensors")
    assert all(torch.equal(made[name], tensor) for name, tensor in tensors.items())
    expected, found = (Predictor.load(one, device="cpu", threads=1).probabilities(TEXTS) for one in (original, folder))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_the_command_runs_no_code_of_a_pickle(bare: tuple[Path, Tensors], tmp_path: Path) -> None:
    folder, _ = bare

    class Hostile:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
            return Path.touch, (tmp_path / "executed",)  # type: ignore[return-value]

    torch.save({"classifier.weight": Hostile()}, folder / "pytorch_model.bin")
    command = refusals(folder)[0].split("it: ", 1)[1]
    assert subprocess.run(["sh", "-c", command], capture_output=True).returncode
    assert not (tmp_path / "executed").exists()
    assert not (folder / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("file", "option", "package"),
    [
        ("tf_model.h5", "from_tf=True", "tensorflow tf-keras"),
        ("tf_model-00001-of-00002.h5", "from_tf=True", "tensorflow tf-keras"),
        ("flax_model.msgpack", "from_flax=True", "flax jax"),
    ],
)
def test_weights_of_other_frameworks_are_named_with_the_command(
    bare: tuple[Path, Tensors], file: str, option: str, package: str
) -> None:
    folder, _ = bare
    (folder / file).write_bytes(b"\x89HDF")
    for said in refusals(folder):
        assert file in said
        assert f"pip install transformers==4.49.0 torch {package}" in said
        assert option in said
        assert shlex.quote(str(folder)) in said


def test_other_names_and_no_weights_at_all_are_named(bare: tuple[Path, Tensors]) -> None:
    folder, tensors = bare
    for said in refusals(folder):
        assert "no weights" in said
        assert "tokenizer.json" in said
    (folder / "training_args.bin").write_bytes(b"settings of a Trainer")
    assert all("training_args.bin contains training settings" in said for said in refusals(folder))
    save_file(tensors, folder / "weights.safetensors")
    assert all("weights.safetensors" in said and "Rename the file" in said for said in refusals(folder))


def test_pickles_next_to_safetensors_do_no_harm(bare: tuple[Path, Tensors]) -> None:
    folder, tensors = bare
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for name in ("training_args.bin", "pytorch_model.bin", "optimizer.pt"):
        (folder / name).write_bytes(b"no pickle at all")
    assert Predictor.load(folder, device="cpu").predict(TEXTS)
    assert load_classifier(Model(name=str(folder)), ("a", "b"), 0, "cpu").new_weights == ()


def test_a_model_of_the_hub_without_safetensors_is_fetched_first(
    bare: tuple[Path, Tensors], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, tensors = bare
    whole(folder, tensors)
    cached, commit = tmp_path / "hub" / "models--someone--pickled", "0" * 40
    shutil.copytree(folder, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for use in (
        lambda: Predictor.load("someone/pickled", device="cpu", root=tmp_path / "runs"),
        lambda: load_classifier(Model(name="someone/pickled"), ("a", "b"), 0, "cpu"),
    ):
        with pytest.raises(UserError, match=r"hf download someone/pickled --local-dir pickled") as caught:
            use()
        assert "use_safetensors" not in str(caught.value)
