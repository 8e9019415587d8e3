"""A run saves an ordinary `transformers` model."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoTokenizer

from small_runs import small_run
from tenor.data.sources import read_source
from tenor.data.tokenization import Truncation, tokenize
from tenor.errors import UserError
from tenor.inference.predictor import Predictor
from tenor.model.classifier import Classifier, load_saved_classifier
from tenor.runs.directory import RunDirectory
from tenor.runs.files import read_json, sha256_file
from tenor.runs.model_notes import read_model_notes
from tenor.training.checkpoint import verify_checkpoint
from tenor.workflows.outcome import save_model
from tenor.workflows.train import RunResult

OTHER_PROCESS = """
import json, socket, sys

def refuse(*arguments, **options):
    raise AssertionError("the network was used")

socket.socket.connect = refuse
from transformers import pipeline
found = pipeline("text-classification", model=sys.argv[1], top_k=None, device="cpu")(json.loads(sys.argv[2]))
print(json.dumps([{one["label"]: one["score"] for one in row} for row in found]))
assert not any(name.split(".")[0] == "tenor" for name in sys.modules)
"""


def test_a_pipeline_gives_the_probabilities_and_class_names_of_the_run(
    completed: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a network. The texts are short, so no truncation is needed."""
    from transformers import pipeline

    def refuse(*arguments: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    rows = read_source(completed.config.data).test
    found = pipeline("text-classification", model=str(completed.run.model), top_k=None, device="cpu")(list(rows.texts))
    scores = [{one["label"]: one["score"] for one in row} for row in found]
    assert set(scores[0]) == {"bad", "good"}
    expected = completed.results["test"].raw_probabilities
    np.testing.assert_allclose([[row["bad"], row["good"]] for row in scores], expected, atol=1e-5)


@pytest.mark.slow
def test_a_process_without_tenor_reads_the_model(completed: RunResult) -> None:
    rows = read_source(completed.config.data).test
    command = [sys.executable, "-c", OTHER_PROCESS, str(completed.run.model), json.dumps(list(rows.texts))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found[0]) == {"bad", "good"}
    expected = completed.results["test"].raw_probabilities
    np.testing.assert_allclose([[row["bad"], row["good"]] for row in found], expected, atol=1e-5)


def test_the_same_token_ids_give_the_same_probabilities(completed: RunResult) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(completed.run.model, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(completed.run.model, local_files_only=True)
    assert model.config.id2label == {0: "bad", 1: "good"}
    assert model.config.label2id == {"bad": 0, "good": 1}
    rows = read_source(completed.config.data).test
    tokens = tokenize(rows, tokenizer, Truncation.of(completed.config.data))
    with torch.no_grad():
        logits = [model(torch.tensor(tokens.row(k))[None].long()).logits[0] for k in range(len(rows))]
    np.testing.assert_allclose(torch.stack(logits).softmax(-1), completed.results["test"].raw_probabilities, atol=1e-5)


def test_the_saved_tokenizer_knows_the_length_and_truncates_nothing_of_its_own(completed: RunResult) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(completed.run.model)
    assert tokenizer.model_max_length == 16
    stored = json.loads((completed.run.model / "tokenizer.json").read_text())
    assert stored["truncation"] is None
    assert stored["padding"] is None


def test_the_notes_contain_truncation_digest_and_step(completed: RunResult) -> None:
    notes = read_model_notes(completed.run.model)
    assert Truncation.of(notes) == Truncation(16, "head_tail", 0.5)
    assert notes.checkpoint_step == completed.best_step
    assert notes.weights_sha256 == sha256_file(completed.run.model / "model.safetensors") == completed.weights_sha256
    assert notes.temperature == notes.total_temperature == completed.results["test"].temperature != 1.0


def test_weights_that_changed_are_refused(copied: RunDirectory) -> None:
    file = copied.model / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="is not what was saved"):
        read_model_notes(copied.model)


@pytest.mark.parametrize("name", ["model.safetensors", "tenor.json"])
def test_a_missing_file_is_named(name: str, copied: RunDirectory) -> None:
    (copied.model / name).unlink()
    with pytest.raises(UserError, match=name):
        read_model_notes(copied.model)


@pytest.mark.parametrize("content", ["{}", "[]", '{"max_length": "long"}', "not JSON"])
def test_notes_of_another_shape_are_refused(content: str, copied: RunDirectory) -> None:
    (copied.model / "tenor.json").write_text(content)
    with pytest.raises(UserError, match=r"tenor\.json"):
        read_model_notes(copied.model)


def test_a_saved_model_can_be_trained_further(completed: RunResult, tmp_path: Path) -> None:
    result = small_run(tmp_path, completed.run.model, "training.epochs=1", "training.learning_rate=0.0")
    expected = pq.read_table(completed.run.predictions / "test.parquet").to_pydict()
    found = pq.read_table(result.run.predictions / "test.parquet").to_pydict()
    assert found == expected


@pytest.mark.parametrize("side_of", ["file", "class"])
def test_a_tokenizer_that_pads_left_is_saved_as_training_padded(
    side_of: str, completed: RunResult, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(completed.run.model, padding_side="left")
    if side_of == "class":
        del tokenizer.init_kwargs["padding_side"]
    model, _ = load_saved_classifier(completed.run.model)
    checkpoint = verify_checkpoint(completed.run.checkpoint(completed.best_step))
    temperature = read_model_notes(completed.run.model).temperature
    saved = tmp_path / "model"
    save_model(saved, Classifier(model, tokenizer, "a test", (), 0.0), completed.config, checkpoint, temperature)
    assert read_json(saved / "tokenizer_config.json")["padding_side"] == "right"
    texts = ["film 1 was dull", "film 2 was superb and scene 3 and scene 4"]
    one, other = (Predictor.load(folder, device="cpu").probabilities(texts) for folder in (saved, completed.run.model))
    np.testing.assert_allclose(one, other, atol=1e-6)
