"""What other libraries save is named as what it is, with a way on that works; nothing of it is loaded or guessed."""

import json
import pickle
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from classifiers import save_classifier
from tenor.cli.main import main
from tenor.config.schema import Model
from tenor.errors import UserError
from tenor.inference.predictor import Predictor
from tenor.model.classifier import load_classifier, quiet_transformers

TEXTS = ["film was superb", "dull", "scene and movie"]
Make = Callable[[Path], object]


@pytest.fixture(scope="module")
def classifier(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(small_model, tmp_path_factory.mktemp("foreign") / "classifier", length=16)


def said_of(path: Path, *, training: bool = False) -> str:
    """What prediction or training says of a file or folder, which it must refuse in one message."""
    load: Callable[[], object] = lambda: Predictor.load(path, device="cpu", root=path.parent / "runs")  # noqa: E731
    if training:
        load = lambda: load_classifier(Model(name=str(path)), ("a", "b"), 0, "cpu")  # noqa: E731
    with pytest.raises(UserError) as caught:
        load()
    assert str(path) in str(caught.value)
    assert "train again" not in str(caught.value)
    return str(caught.value)


def run_command(said: str) -> None:
    """Paste the command of a message into a shell."""
    line = next(line for line in said.splitlines() if "python -c " in line or "python3 -c " in line)
    words = line.split(": ", 1)[1]
    start = max(words.rfind(": /"), words.rfind(": python"))
    subprocess.run(["sh", "-c", words[start + 2 :]], check=True, capture_output=True)


def probabilities(folder: Path) -> np.ndarray:
    return Predictor.load(folder, device="cpu", threads=1).probabilities(TEXTS)


def holding(**contents: str | bytes) -> Make:
    """Makes a folder of files; `__` stands for a dot and `___` for a slash."""

    def make(folder: Path) -> None:
        for name, content in contents.items():
            path = folder / name.replace("___", "/").replace("__", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


PICKLED = pickle.dumps({"weights": 1})
FASTTEXT = bytes.fromhex("ba164f2f0c000000")
FOLDERS: dict[str, tuple[Make, tuple[str, ...]]] = {
    "scikit-learn": (holding(model__joblib=PICKLED), ("model.joblib", "scikit-learn", "never reads", "tenor diagnose")),
    "a pickle": (holding(model__pkl=PICKLED), ("model.pkl", "never reads")),
    "fastText": (holding(model__bin=FASTTEXT), ("model.bin", "fastText")),
    "spaCy": (holding(meta__json="{}", config__cfg="[nlp]", textcat___model=b"0"), ("spaCy",)),
    "Keras": (holding(model__keras=b"PK"), ("model.keras", "Keras")),
    "a SavedModel": (
        holding(saved_model__pb=b"0", variables___variables__index=b"0"),
        ("saved_model.pb", "TensorFlow"),
    ),
    "GGUF": (holding(model__gguf=b"GGUF"), ("model.gguf", "llama.cpp")),
    "ONNX": (holding(model__onnx=b"0"), ("model.onnx", "tenor export")),
    "ONNX in a folder": (holding(onnx___model__onnx=b"0"), ("onnx/model.onnx", "tenor export")),
    "flair": (holding(best__pt=PICKLED), ("best.pt", "never reads", "flair")),
    "Lightning": (
        holding(hparams__yaml="lr: 1", checkpoints___last__ckpt=PICKLED),
        ("checkpoints/last.ckpt", "never reads", "config.json"),
    ),
    "weights alone": (holding(model__safetensors=b"0"), ("no config.json", "model.safetensors")),
    "nothing": (holding(), ("no config.json", "no file")),
}


@pytest.mark.parametrize("training", [False, True], ids=["prediction", "training"])
@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_of_another_library_is_named(case: str, training: bool, tmp_path: Path) -> None:
    make, words = FOLDERS[case]
    folder = tmp_path / "model"
    folder.mkdir()
    make(folder)
    said = said_of(folder, training=training)
    for word in words:
        assert word in said


FILES = {
    "model.joblib": (PICKLED, "scikit-learn"),
    "model.bin": (FASTTEXT, "fastText"),
    "last.ckpt": (PICKLED, "never reads"),
    "model.onnx": (b"0", "ONNX"),
    "model.gguf": (b"GGUF", "llama.cpp"),
    "model.zip": (b"PK", "Unpack it"),
    "model.safetensors": (b"0", "config.json"),
    "reviews.csv": (b"text\nfilm\n", "--input"),
}


@pytest.mark.parametrize("training", [False, True], ids=["prediction", "training"])
@pytest.mark.parametrize("file", FILES)
def test_a_file_is_named_and_is_no_id_of_the_hub(file: str, training: bool, tmp_path: Path) -> None:
    content, word = FILES[file]
    (tmp_path / file).write_bytes(content)
    said = said_of(tmp_path / file, training=training)
    assert word in said
    assert "hub" not in said


def test_a_file_of_a_model_leads_to_its_folder(classifier: Path) -> None:
    for file in ("config.json", "model.safetensors"):
        assert said_of(classifier / file).endswith(f"Use {classifier}")


@pytest.mark.parametrize("place", ["checkpoint-20", "snapshots/0a1b", "model"])
def test_a_folder_around_a_model_leads_to_it(place: str, classifier: Path, tmp_path: Path) -> None:
    shutil.copytree(classifier, tmp_path / "out" / place)
    shutil.copytree(classifier, tmp_path / "out" / "checkpoint-3")
    said = said_of(tmp_path / "out")
    assert str(tmp_path / "out" / place) in said
    assert said_of(tmp_path / "out", training=True) == said
    if place == "checkpoint-20":
        assert said.index("checkpoint-20") < said.index("checkpoint-3")


def test_an_archive_with_a_model_is_named(classifier: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        archive.add(classifier, "model")
    assert "an archive" in said_of(tmp_path / "model.tar.gz")


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_pointer_of_git_lfs_is_not_the_file(file: str, classifier: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(classifier, tmp_path / "clone"))
    (folder / file).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0a1b\nsize 268\n")
    for training in (False, True):
        said = said_of(folder, training=training)
        assert file in said
        assert "lfs pull" in said


def test_half_a_file_of_weights_is_damaged(classifier: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(classifier, tmp_path / "half"))
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    assert "incomplete or damaged" in said_of(folder)
    assert "incomplete or damaged" in said_of(folder, training=True)


# sentence-transformers and SetFit.


def as_sentence_transformers(folder: Path, kind: str, **config: Any) -> None:
    """The files that sentence-transformers 6.2 writes next to the encoder's."""
    (folder / "modules.json").write_text("[]")
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"model_type": kind}))
    change_config(folder, **config)


def change_config(folder: Path, **config: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))


CROSS = {"activation_fn": "torch.nn.modules.activation.Sigmoid", "version": "4.1.0"}
SENTENCE: dict[str, tuple[Make, str]] = {
    "an embedding model": (lambda folder: as_sentence_transformers(folder, "SentenceTransformer"), "no classes"),
    "a cross-encoder": (lambda folder: as_sentence_transformers(folder, "CrossEncoder"), "pair of texts"),
    "a cross-encoder of version 4": (
        lambda folder: change_config(folder, sentence_transformers=CROSS),
        "pair of texts",
    ),
    "a cross-encoder of version 2": (
        lambda folder: change_config(folder, sbert_ce_default_activation_function="torch.nn.modules.linear.Identity"),
        "pair of texts",
    ),
    "SetFit": (holding(modules__json="[]", config_setfit__json="{}", model_head__pkl=PICKLED), "SetFit"),
}


@pytest.mark.parametrize("case", SENTENCE)
def test_what_has_no_classes_of_one_text_can_only_be_trained(case: str, classifier: Path, tmp_path: Path) -> None:
    make, word = SENTENCE[case]
    folder = Path(shutil.copytree(classifier, tmp_path / "sentence"))
    make(folder)
    said = said_of(folder)
    assert word in said
    assert f"tenor train CONFIG model.name={folder}" in said
    trained = tmp_path / "trained"
    load_classifier(Model(name=str(folder)), ("a", "b"), 0, "cpu").model.save_pretrained(trained)
    copy_tokenizer(folder, trained)
    probabilities(trained)


@pytest.mark.parametrize("names", [("CONTRADICTION", "NEUTRAL", "ENTAILMENT"), ("not_equivalent", "equivalent")])
def test_relations_of_two_texts_are_no_classes_of_one(
    names: tuple[str, ...], small_model: Path, tmp_path: Path
) -> None:
    load_classifier(Model(name=str(small_model)), names, 0, "cpu").model.save_pretrained(tmp_path / "nli")
    copy_tokenizer(small_model, tmp_path / "nli")
    assert "pairs" in said_of(tmp_path / "nli")


def test_the_same_words_next_to_others_are_classes_of_one_text(small_model: Path, tmp_path: Path) -> None:
    names = ("bug", "duplicate", "neutral")
    load_classifier(Model(name=str(small_model)), names, 0, "cpu").model.save_pretrained(tmp_path / "issues")
    copy_tokenizer(small_model, tmp_path / "issues")
    assert Predictor.load(tmp_path / "issues", device="cpu").labels == names


def copy_tokenizer(source: Path, target: Path) -> None:
    for file in source.glob("tokenizer*"):
        shutil.copy(file, target)


# Heads that are no classifier's.


def test_the_head_of_another_task_is_refused_although_its_tensors_fit(classifier: Path, tmp_path: Path) -> None:
    """Before `transformers` 4.0 a BERT token classifier was saved with a pooler, so that no tensor is missing."""
    folder = Path(shutil.copytree(classifier, tmp_path / "ner"))
    change_config(folder, architectures=["DistilBertForTokenClassification"])
    said = said_of(folder)
    assert "saved as DistilBertForTokenClassification" in said
    load_classifier(Model(name=str(folder)), ("a", "b"), 0, "cpu")


@pytest.mark.parametrize("architectures", [["TFDistilBertForSequenceClassification"], [], None])
def test_any_sequence_classifier_is_one(architectures: list[str] | None, classifier: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(classifier, tmp_path / "same"))
    change_config(folder, architectures=architectures)
    np.testing.assert_array_equal(probabilities(folder), probabilities(classifier))


def test_a_sigmoid_over_several_outputs_is_refused(classifier: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(classifier, tmp_path / "sigmoid"))
    change_config(folder, function_to_apply="sigmoid")
    assert "function_to_apply is sigmoid" in said_of(folder)
    assert not hasattr(load_classifier(Model(name=str(folder)), ("a", "b"), 0, "cpu").model.config, "function_to_apply")
    change_config(folder, function_to_apply="none")
    assert "function_to_apply is none" in said_of(folder)
    change_config(folder, function_to_apply="softmax")
    np.testing.assert_array_equal(probabilities(folder), probabilities(classifier))


def test_fewer_names_than_outputs_are_told_with_the_shapes(small_model: Path, tmp_path: Path) -> None:
    load_classifier(Model(name=str(small_model)), ("a", "b", "c"), 0, "cpu").model.save_pretrained(tmp_path / "three")
    copy_tokenizer(small_model, tmp_path / "three")
    change_config(tmp_path / "three", id2label={"0": "a", "1": "b"}, label2id={"a": 0, "b": 1})
    said = said_of(tmp_path / "three")
    assert "classifier.bias ((3,) in the file, (2,) in the model)" in said
    assert "id2label" in said


def test_weights_that_give_no_numbers_are_refused(classifier: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(classifier, tmp_path / "broken"))
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.bias"][1] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert "expected finite numbers" in said_of(folder)


def test_a_model_of_no_text_is_named(classifier: Path, tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, **shape)).save_pretrained(tmp_path / "vit")
    copy_tokenizer(classifier, tmp_path / "vit")
    assert "no text classifier" in said_of(tmp_path / "vit")
    assert "no text classifier" in said_of(tmp_path / "vit", training=True)


@pytest.mark.parametrize("training", [False, True], ids=["prediction", "training"])
def test_words_without_an_embedding_are_refused_before_any_text(
    training: bool, classifier: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(classifier, tmp_path / "other"))
    content = json.loads((folder / "tokenizer.json").read_text())
    rows = len(content["model"]["vocab"])
    content["model"]["vocab"] |= {"brilliant": rows, "tedious": rows + 7}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    said = said_of(folder, training=training)
    assert f"2 of its words have an id of {rows} or more" in said
    assert "same model" in said


def test_a_model_that_computes_no_such_text_is_no_traceback(classifier: Path, tmp_path: Path) -> None:
    """CANINE joins characters by four; a text of fewer tokens has no output."""
    from transformers import CanineConfig, CanineForSequenceClassification

    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 32}
    config = CanineConfig(num_hash_buckets=64, max_position_embeddings=64, local_transformer_stride=16, **shape)
    with quiet_transformers():
        CanineForSequenceClassification(config).save_pretrained(tmp_path / "canine")
    copy_tokenizer(classifier, tmp_path / "canine")
    predictor = Predictor.load(tmp_path / "canine", device="cpu", threads=1)
    with pytest.raises(UserError, match="can't compute 1 texts of 3 tokens"):
        predictor.predict(["film"])


# One output.


def one_output(small_model: Path, folder: Path, problem: str | None) -> Path:
    from transformers import AutoModelForSequenceClassification

    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = AutoModelForSequenceClassification.from_pretrained(small_model, num_labels=1)
        torch.nn.init.normal_(model.classifier.bias)
    model.config.problem_type = problem
    model.config.id2label, model.config.label2id = {0: "toxic"}, {"toxic": 0}
    model.save_pretrained(folder)
    copy_tokenizer(small_model, folder)
    return folder


def test_one_output_is_told_by_its_problem_type(small_model: Path, tmp_path: Path) -> None:
    logit = said_of(one_output(small_model, tmp_path / "logit", "multi_label_classification"))
    assert "whose sigmoid is the probability of 'toxic'" in logit
    unknown = said_of(one_output(small_model, tmp_path / "unknown", None))
    assert "recorded nowhere" in unknown
    assert "If you know" in unknown
    stars = said_of(one_output(small_model, tmp_path / "stars", "regression"))
    assert "quantities" in stars
    assert "python" not in stars


@pytest.mark.slow
def test_the_command_makes_two_outputs_of_one_exactly(small_model: Path, tmp_path: Path) -> None:
    from transformers import pipeline

    folder = one_output(small_model, tmp_path / "one output", "multi_label_classification")
    run_command(said_of(folder))
    predictor = Predictor.load(tmp_path / "one output-two-classes", device="cpu", threads=1)
    assert predictor.labels == ("not toxic", "toxic")
    expected = [one["score"] for one in pipeline("text-classification", model=str(folder), device="cpu")(TEXTS)]
    np.testing.assert_allclose(predictor.probabilities(TEXTS)[:, 1], expected, atol=1e-6)


# Commands.


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_the_command_removes_the_prefix_of_a_wrapper(prefix: str, classifier: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(classifier, tmp_path / "wrapped"))
    tensors = load_file(folder / "model.safetensors")
    wrapped = {f"{prefix}{key}": tensor for key, tensor in tensors.items()}
    save_file(wrapped, folder / "model.safetensors", metadata={"format": "pt"})
    said = said_of(folder)
    assert repr(prefix) in said
    assert shlex.quote(str(folder / "model.safetensors")) in said
    assert repr(prefix) in said_of(folder, training=True)
    run_command(said)
    np.testing.assert_array_equal(probabilities(folder), probabilities(classifier))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "key", "prefix"),
    [("model.pt", None, ""), ("last.ckpt", "state_dict", "model."), ("best.pth", "model_state_dict", "module.")],
)
def test_the_command_converts_a_checkpoint(
    file: str, key: str | None, prefix: str, classifier: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(classifier, tmp_path / "a checkpoint"))
    tensors = {f"{prefix}{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    (folder / "model.safetensors").unlink()
    torch.save({key: tensors, "epoch": 3} if key else tensors, folder / file)
    (folder / "optimizer.pt").write_bytes(b"0")
    said = said_of(folder)
    assert f"the weights are in {file}, a pickle file" in said
    run_command(said)
    np.testing.assert_allclose(probabilities(folder), probabilities(classifier), atol=1e-6)


@pytest.fixture(params=["classifier", "encoder"])
def adapter(
    request: pytest.FixtureRequest, classifier: Path, small_model: Path, tmp_path: Path
) -> tuple[Path, np.ndarray]:
    """An adapter with a head of three classes, and the probabilities of the whole model."""
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForSequenceClassification

    base = classifier if request.param == "classifier" else small_model
    with quiet_transformers():
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3, ignore_mismatched_sizes=True)
    lora = peft.LoraConfig(task_type="SEQ_CLS", target_modules=["q_lin", "v_lin"], init_lora_weights=False)
    wrapped = peft.get_peft_model(model, lora).eval()
    wrapped.save_pretrained(tmp_path / "adapter")
    whole = tmp_path / "whole"
    wrapped.merge_and_unload().save_pretrained(whole)
    copy_tokenizer(classifier, whole)
    return tmp_path / "adapter", probabilities(whole)


def test_an_adapter_is_named_with_its_model_and_outputs(adapter: tuple[Path, np.ndarray]) -> None:
    base = json.loads((adapter[0] / "adapter_config.json").read_text())["base_model_name_or_path"]
    for training in (False, True):
        said = said_of(adapter[0], training=training)
        assert f"an adapter of PEFT for the model {base}" in said
        assert "merge_and_unload" in said
        assert f"{adapter[0]}-merged 3" in said


@pytest.mark.slow
def test_the_command_merges_an_adapter(adapter: tuple[Path, np.ndarray]) -> None:
    folder, expected = adapter
    run_command(said_of(folder))
    np.testing.assert_allclose(probabilities(folder.with_name("adapter-merged")), expected, atol=1e-5)


def test_a_command_on_runs_names_a_model_folder(classifier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("evaluate", "calibrate"):
        assert main((command, str(classifier))) == 2
        assert f"{classifier} is a model folder, not a run" in capsys.readouterr().err
