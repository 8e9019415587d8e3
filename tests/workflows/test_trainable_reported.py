"""Reports on trainable parameters come from the weights themselves, never from the setting `model.freeze`."""

import json
from pathlib import Path

import pytest

from report_runs import Page, copy_of
from small_runs import quiet, small_config
from tenor.runs.directory import RunDirectory
from tenor.runs.files import write_json
from tenor.runs.manifest import read_manifest
from tenor.workflows.report import rewrite
from tenor.workflows.train import train

CASE = ("model.freeze=base", "model.keep_trainable=[classifier, lin]", "training.epochs=1")


def run_of(folder: Path, model: Path, *overrides: str) -> tuple[RunDirectory, str]:
    """A run, and its console output."""
    console = quiet()
    result = train(small_config(folder, model, *overrides), folder / "runs", console)
    return result.run, " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]


def rendered(run: RunDirectory) -> dict[str, str]:
    """The report as a person reads it, and the model's card."""
    html = run.report.read_text(encoding="utf-8")
    return {"report": Page(html).text, "card": (run.model / "README.md").read_text(encoding="utf-8")}


@pytest.fixture(scope="module")
def case(small_model: Path, session_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, str]:
    """The freeze of the original case, which kept nearly the whole encoder trainable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENOR_CACHE", str(session_cache))
        return run_of(tmp_path_factory.mktemp("case"), small_model, *CASE)


@pytest.fixture
def copy_of_case(case: tuple[RunDirectory, str], tmp_path: Path) -> RunDirectory:
    """For tests that damage the run."""
    return copy_of(case[0], tmp_path)


def test_manifest_names_and_counts_trainable_and_frozen_parameters(case: tuple[RunDirectory, str]) -> None:
    found = json.loads(case[0].manifest.read_text())["trainable"]
    assert "distilbert.transformer.layer.0.attention.q_lin.weight" in found["trainable"]
    assert "distilbert.embeddings.word_embeddings.weight" in found["frozen"]
    assert not set(found["trainable"]) & set(found["frozen"])
    assert 0 < found["encoder_trainable_weights"] < found["trainable_weights"]


def test_report_card_and_console_do_not_claim_that_only_the_head_is_trainable(case: tuple[RunDirectory, str]) -> None:
    run, console = case
    found = read_manifest(run).trainable
    encoder = found["encoder_trainable_weights"] + found["encoder_frozen_weights"]
    for where, text in rendered(run).items():
        assert "only the head" not in text, where
        assert f"{found['encoder_trainable_weights']:,} of the encoder's {encoder:,} weights are trainable" in text, (
            where
        )
    for where, text in {**rendered(run), "console": console}.items():
        plain = text.replace("\\", "")
        assert "distilbert.transformer.layer.0-1.attention, distilbert.transformer.layer.0-1.ffn" in plain, where
        assert f"{len(found['frozen'])} tensors: distilbert.embeddings" in plain, where


def test_report_and_card_say_that_only_the_head_is_trainable(small_model: Path, tmp_path: Path) -> None:
    run, console = run_of(tmp_path, small_model, "model.freeze=base", "training.epochs=1")
    assert all("only the head is trainable" in text for text in rendered(run).values())
    assert "distilbert.embeddings, distilbert.transformer.layer.0-1; the encoder runs once" in console


def test_trainable_parameters_of_an_older_run_are_unknown(copy_of_case: RunDirectory) -> None:
    manifest = json.loads(copy_of_case.manifest.read_text())
    del manifest["trainable"]
    write_json(copy_of_case.manifest, manifest)
    rewrite(copy_of_case)
    for where, text in rendered(copy_of_case).items():
        assert "trainable parameters unknown" in text, where
        assert "not recorded by the version of Tenor that ran this" in text, where


def test_report_is_written_in_spite_of_impossible_counts_in_the_manifest(copy_of_case: RunDirectory) -> None:
    manifest = json.loads(copy_of_case.manifest.read_text())
    for other in ({"trainable": 3}, {**manifest["trainable"], "frozen_weights": -(10**400)}):
        write_json(copy_of_case.manifest, {**manifest, "trainable": other})
        rewrite(copy_of_case)
        assert all("trainable parameters unknown" in text for text in rendered(copy_of_case).values())
