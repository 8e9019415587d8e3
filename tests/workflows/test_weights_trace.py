"""Every result names the weights that gave it, with the same digest everywhere."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from small_runs import quiet, small_config, small_run
from tenor.config.schema import Training
from tenor.model.classifier import load_saved_classifier
from tenor.model.optimizer import make_optimizer
from tenor.runs.directory import RunDirectory
from tenor.runs.files import digest_folder, read_json, sha256_file
from tenor.runs.manifest import read_manifest
from tenor.runs.model_notes import read_model_notes, update_model_notes
from tenor.runs.summary import read_summary
from tenor.training.checkpoint import TrainState, save_checkpoint, verify_checkpoint
from tenor.workflows.calibrate import update_card
from tenor.workflows.evaluate import evaluate, evaluation_record
from tenor.workflows.export import export
from tenor.workflows.outcome import fold_into_model, save_model
from tenor.workflows.report import rewrite
from tiny_models import KINDS, load_tiny, save_tiny_model

OTHER_NAMES = ("esm", "gte", "nomic_bert", "jina_embeddings_v3")
"""Kinds whose published checkpoints have other names or other tensors than the modules of `transformers`, which writes
them that way again."""


def with_old_norms(encoder: Path, folder: Path) -> Path:
    """A copy of an encoder as BERT's first checkpoints were: scale and shift of a norm are called gamma and beta."""
    shutil.copytree(encoder, folder)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    _rename(folder / "model.safetensors", lambda name: _replaced(name, old))
    return folder


def with_prefix(encoder: Path, folder: Path) -> Path:
    """A copy of an encoder without a head, as a model with one names its tensors."""
    shutil.copytree(encoder, folder)
    _rename(folder / "model.safetensors", lambda name: f"bert.{name}")
    return folder


def in_half_precision(encoder: Path, folder: Path) -> Path:
    shutil.copytree(encoder, folder)
    tensors = load_file(folder / "model.safetensors")
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def with_buffers(encoder: Path, folder: Path) -> Path:
    """A copy that holds position ids, as old checkpoints do, which the model now computes."""
    shutil.copytree(encoder, folder)
    tensors = load_file(folder / "model.safetensors")
    positions = {"embeddings.position_ids": torch.arange(512)[None]}
    save_file({**tensors, **positions}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


VARIANTS = {"gamma and beta": with_old_norms, "prefix": with_prefix, "half": in_half_precision, "buffers": with_buffers}


@pytest.fixture(scope="module")
def old_bert(small_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_old_norms(small_bert, tmp_path_factory.mktemp("models") / "old-bert")


@pytest.fixture(scope="module")
def old_run(old_bert: Path, session_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run of an encoder with old names. Read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENOR_CACHE", str(session_cache))
        return small_run(tmp_path_factory.mktemp("old"), old_bert, "training.epochs=1").run


@pytest.mark.parametrize("kind", [*KINDS, *OTHER_NAMES])
def test_the_saved_weights_are_the_checkpoint_s_file_for_every_kind(
    kind: str, small_model: Path, tmp_path: Path
) -> None:
    _require_trace(save_tiny_model(kind, tmp_path / "encoder"), small_model, tmp_path)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_saved_weights_are_the_checkpoint_s_file_however_the_encoder_was_stored(
    variant: str, tiny_bert: Path, small_model: Path, tmp_path: Path
) -> None:
    _require_trace(VARIANTS[variant](tiny_bert, tmp_path / "encoder"), small_model, tmp_path)


def test_every_place_of_a_run_that_names_the_weights_names_the_file(old_run: RunDirectory, tmp_path: Path) -> None:
    digest = sha256_file(old_run.model / "model.safetensors")
    stored = read_json(old_run.evaluation)["checkpoint"]
    assert stored["digest"] == digest
    assert verify_checkpoint(old_run.checkpoint(stored["step"])).digest == digest
    assert read_model_notes(old_run.model).weights_sha256 == digest
    assert digest in old_run.report.read_text(encoding="utf-8")
    assert digest in (old_run.model / "README.md").read_text(encoding="utf-8")
    (row,) = read_summary(old_run.path.parent.parent)
    assert digest in [checkpoint.digest for checkpoint in row.checkpoints]
    assert read_manifest(old_run).digests["model"] == digest_folder(old_run.model)
    again = evaluate(str(old_run.path), console=quiet())
    assert evaluation_record(again)["checkpoint"] == {"digest": digest, "step": stored["step"]}
    exported = export(str(old_run.path), tmp_path / "out", "safetensors", console=quiet())
    notes = read_json(exported.folder / "export.json")
    assert notes["source_sha256"] == notes["sha256"] == digest == sha256_file(exported.folder / notes["file"])


def test_a_folded_model_s_card_names_both_digests(old_run: RunDirectory, tmp_path: Path) -> None:
    root = Path(shutil.copytree(old_run.path.parent.parent, tmp_path / "runs"))
    run = RunDirectory(root / old_run.reference)
    before = sha256_file(run.model / "model.safetensors")
    update_model_notes(run.model, temperature=2.0)
    fold_into_model(run.model)
    update_card(run)
    after = sha256_file(run.model / "model.safetensors")
    assert after != before == read_json(run.model / "tenor.json")["folded"]["checkpoint_sha256"]
    card = (run.model / "README.md").read_text(encoding="utf-8")
    assert before in card
    assert after in card


def test_a_card_that_is_written_again_names_no_digest_of_the_folder_it_is_in(
    old_run: RunDirectory, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(old_run.path.parent.parent, tmp_path / "runs"))
    run = RunDirectory(root / old_run.reference)
    before = digest_folder(run.model)
    rewrite(run)
    assert before not in (run.model / "README.md").read_text(encoding="utf-8")
    assert read_manifest(run).digests["model"] == digest_folder(run.model)


def _require_trace(encoder: Path, small_model: Path, folder: Path) -> None:
    """Save a checkpoint and a model of it: one file, the same digest, and a model that computes the same."""
    classifier = load_tiny(encoder)
    step = TrainState(step=3)
    checkpoint = save_checkpoint(folder, classifier.model, make_optimizer(classifier.model, Training()), step)
    digest = save_model(folder / "model", classifier, small_config(folder, small_model), checkpoint)
    assert digest == checkpoint.digest == sha256_file(folder / "model" / "model.safetensors")
    assert [file.name for file in (folder / "model").glob("*.safetensors*")] == ["model.safetensors"]
    saved, _ = load_saved_classifier(folder / "model")
    tokens: dict[str, Any] = {"input_ids": torch.randint(5, 100, (2, 9))}
    with torch.inference_mode():
        expected = classifier.model.eval()(**tokens).logits
        torch.testing.assert_close(saved(**tokens).logits, expected, rtol=0, atol=1e-6)


def _rename(file: Path, new_name: Any) -> None:
    tensors = {new_name(name): tensor for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})


def _replaced(name: str, old: dict[str, str]) -> str:
    for new, former in old.items():
        name = name.replace(new, former)
    return name
