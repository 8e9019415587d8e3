"""A model folder or an artefact of anyone: it predicts as it was trained, or one message names file and mend."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from classifiers import save_classifier
from exports import save_export
from small_runs import small_run
from tenor.cli.main import main
from tenor.errors import TenorError, UserError
from tenor.inference.predictor import Predictor

Spoil = Callable[[Path], object]
OWNED = "a\x1b]0;owned\x07"


def change(file: str, **keys: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**content, **keys}))

    return spoil


def write(file: str, text: str) -> Spoil:
    return lambda folder: (folder / file).write_text(text)


def renumber(word: str, token_id: int) -> Spoil:
    def spoil(folder: Path) -> None:
        content = json.loads((folder / "tokenizer.json").read_text())
        content["model"]["vocab"][word] = token_id
        (folder / "tokenizer.json").write_text(json.dumps(content))

    return spoil


LENGTH = ("tokenizer_config.json", "model_max_length")
NAMES = ("config.json", "id2label")
FOREIGN: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "a word for the length": (change(LENGTH[0], model_max_length="many"), (*LENGTH, "'many'", "remove the key")),
    "no length": (change(LENGTH[0], model_max_length=0), (*LENGTH, "more than the 2 special tokens")),
    "a length below none": (change(LENGTH[0], model_max_length=-5), (*LENGTH, "-5 tokens")),
    "a length of special tokens": (change(LENGTH[0], model_max_length=2), (*LENGTH, "more than the 2 special tokens")),
    "a truth for the length": (change(LENGTH[0], model_max_length=True), (*LENGTH, "True")),
    "classes with a gap": (change("config.json", id2label={"0": "a", "7": "b"}), (*NAMES, "0, 7", "0 … K-1")),
    "classes of one name": (change("config.json", id2label={"0": "a", "1": "a"}), (*NAMES, "'a'", "more than one")),
    "a class without a name": (change("config.json", id2label={"0": " ", "1": "a"}), (*NAMES, "is empty")),
    "a class that is a list": (change("config.json", id2label={"0": [1], "1": "a"}), (*NAMES, "is list")),
    "a name of a page": (change("config.json", id2label={"0": "a" * 900, "1": "b"}), (*NAMES, "900 characters")),
    "a name that commands": (change("config.json", id2label={"0": OWNED, "1": "b"}), (*NAMES, "control character")),
    "a broken tokenizer": (write("tokenizer.json", '{"version": '), ("tokenizer.json, line 1", "ends too early")),
    "a kind that commands": (change("config.json", model_type=OWNED), ("\\x1b]0;owned",)),
    "fewer layers than weights": (
        change("config.json", n_layers=1),
        ("config.json describes 1 layers in distilbert.transformer.layer", "16 tensors", "same model"),
    ),
    "tokens of another model": (
        renumber("superb", 99_999),  # Without a row in the embedding.
        ("the tokenizer gives token", "same model"),
    ),
}


def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `tenor predict` says of a folder, which it must refuse."""
    assert main(("predict", str(folder), "film was superb", "dull", "--device", "cpu")) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("tenor: ") == 1
    assert str(folder) in err
    assert "\x1b" not in err
    assert "\x07" not in err
    return err


@pytest.mark.parametrize("case", FOREIGN)
def test_a_folder_that_does_not_fit_is_refused(
    case: str, small_classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, words = FOREIGN[case]
    folder = Path(shutil.copytree(small_classifier, tmp_path / "mine"))
    spoil(folder)
    told = refused(folder, capsys)
    for word in words:
        assert word in told


def test_numbers_are_names(small_classifier: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small_classifier, tmp_path / "mine"))
    change("config.json", id2label={"1": 5, "0": "emoji 👩\u200d🚀"})(folder)
    assert Predictor.load(folder).labels == ("emoji 👩\u200d🚀", "5")


# Tensors without a place.


def with_tensors(folder: Path, **added: torch.Tensor) -> None:
    weights = folder / "model.safetensors"
    copies = {name: tensor.clone() for name, tensor in added.items()}
    save_file({**load_file(weights), **copies}, weights, metadata={"format": "pt"})


def test_what_belongs_to_pretraining_is_left_out(small_classifier: Path, small_bert: Path, tmp_path: Path) -> None:
    distilbert = Path(shutil.copytree(small_classifier, tmp_path / "distilbert"))
    expected = Predictor.load(distilbert).probabilities(["film was superb"])
    some = torch.ones(3)
    with_tensors(distilbert, **{"distilbert.embeddings.position_ids": some, "vocab_projector.bias": some})
    with_tensors(distilbert, **{"vocab_transform.0.weight": some, "distilbert.pooler.dense.weight": some})
    # Where tensors lie in the file decides their alignment, and that the last bit of a product.
    np.testing.assert_allclose(Predictor.load(distilbert).probabilities(["film was superb"]), expected, atol=1e-6)

    bert = save_classifier(small_bert, tmp_path / "bert", length=16)
    expected = Predictor.load(bert).probabilities(["film was superb"])
    with_tensors(bert, **{"cls.predictions.transform.dense.weight": some, "bert.embeddings.position_ids": some})
    np.testing.assert_allclose(Predictor.load(bert).probabilities(["film was superb"]), expected, atol=1e-6)


@pytest.mark.parametrize("prefix", ["bert.", ""])
def test_half_a_model_is_refused_whatever_the_prefix(prefix: str, small_bert: Path, tmp_path: Path) -> None:
    bert = save_classifier(small_bert, tmp_path / "bert", length=16)
    with_tensors(bert, **{f"{prefix}encoder.layer.2.output.dense.bias": torch.ones(3)})
    with pytest.raises(UserError, match=r"describes 2 layers in (bert\.)?encoder\.layer.*layer\.2\.output"):
        Predictor.load(bert)


# Exports.

NOTES = "export.json"
EXPORTS: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "a broken tokenizer": (write("tokenizer.json", "{"), ("tokenizer.json, line 1",)),
    "code of a tokenizer": (change("tokenizer_config.json", auto_map={"AutoTokenizer": ["t.T", None]}), ("auto_map",)),
    "a name that commands": (change(NOTES, labels=[OWNED, "b"]), (NOTES, "labels", "control character")),
    "classes of one name": (change(NOTES, labels=["a", "a"]), (NOTES, "'a'", "more than one")),
    "more names than outputs": (change(NOTES, labels=["a", "b", "c"]), ("2 outputs for 3", "export again")),
    "a word for names": (change(NOTES, labels="ab"), (NOTES, "key labels", "'ab'")),
    "no length": (change(NOTES, truncation={"max_length": 0, "strategy": "head", "head_share": 1}), (NOTES, "0")),
    "a word for the length": (
        change(NOTES, truncation={"max_length": "many", "strategy": "head", "head_share": 1}),
        (NOTES, "'many'"),
    ),
    "a length of special tokens": (
        change(NOTES, truncation={"max_length": 2, "strategy": "head", "head_share": 1}),
        (NOTES, "max_length", "more than the 2 special tokens"),
    ),
    "a length beyond the positions": (
        change(NOTES, truncation={"max_length": 10**6, "strategy": "head", "head_share": 1}),
        (NOTES, "1,000,000 tokens", "positions"),
    ),
    "an unknown truncation": (
        change(NOTES, truncation={"max_length": 16, "strategy": "middle", "head_share": 1}),
        (NOTES, "middle"),
    ),
    "a temperature of 0": (change(NOTES, temperature=0), (NOTES, "key temperature")),
    "unknown quantization": (change(NOTES, quantize="int4"), (NOTES, "int4")),
}


@pytest.mark.parametrize("case", EXPORTS)
def test_an_export_that_does_not_fit_is_refused(
    case: str, small_classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, words = EXPORTS[case]
    folder = save_export(small_classifier, tmp_path / "mine")
    assert Predictor.load(folder, device="cpu").probabilities(["film", "dull scene"]).tolist() == [[0.5, 0.5]] * 2
    spoil(folder)
    told = refused(folder, capsys)
    for word in words:
        assert word in told


def test_a_batch_that_onnx_runtime_refuses_is_no_traceback(small_classifier: Path, tmp_path: Path) -> None:
    import numpy as np

    predictor = Predictor.load(save_export(small_classifier, tmp_path / "mine"), device="cpu")
    with pytest.raises(TenorError, match=r"model\.onnx: ONNX Runtime can't compute: .*Unexpected input"):
        predictor.engine.run({"input_ids": np.zeros((1, 2), dtype=np.float32)})


# A run's own folder.


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("tenor.json", {"max_length": 0}, "max_length"),
        ("tenor.json", {"max_length": "16"}, "key max_length: Input should be a valid integer, observed '16'"),
        ("tenor.json", {"max_length": 2}, "more than the 2 special tokens"),
        ("tenor.json", {"max_length": 10**6}, "1,000,000 tokens"),
        ("tenor.json", {"truncation": "middle"}, "middle"),
        ("tenor.json", {"head_share": 7}, "key head_share: Input should be less than or equal to 1, observed 7"),
        ("config.json", {"id2label": {"0": OWNED, "1": "b"}}, "control character"),
        ("config.json", {"id2label": {"0": "a", "2": "b"}}, "0 … K-1"),
    ],
)
def test_a_run_s_model_that_someone_changed_is_refused(
    file: str,
    changes: dict[str, Any],
    words: str,
    own_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path(shutil.copytree(own_model, tmp_path / "mine"))
    change(file, **changes)(folder)
    told = refused(folder, capsys)
    assert file in told
    assert words in told


@pytest.fixture(scope="module")
def own_model(small_model: Path, session_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENOR_CACHE", str(session_cache))
        return small_run(tmp_path_factory.mktemp("own"), small_model, "training.epochs=1").run.model


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_an_export_of_what_gives_no_single_class_is_refused(
    problem: str, small_classifier: Path, tmp_path: Path
) -> None:
    artefact = save_export(small_classifier, tmp_path / "artefact")
    change("config.json", problem_type=problem)(artefact)
    with pytest.raises(UserError, match=problem):
        Predictor.load(artefact)
