"""What a run says of what learned: from its weights, and never from a setting that was meant to freeze them."""

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
    """A run, and what the console was told."""
    console = quiet()
    result = train(small_config(folder, model, *overrides), folder / "runs", console)
    return result.run, " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]


def told(run: RunDirectory) -> dict[str, str]:
    """The report as a person reads it, and the model's card."""
    html = run.report.read_text(encoding="utf-8")
    return {"report": Page(html).text, "card": (run.model / "README.md").read_text(encoding="utf-8")}


@pytest.fixture(scope="module")
def case(small_model: Path, session_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, str]:
    """The case's freeze, which kept nearly the whole encoder learning."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENOR_CACHE", str(session_cache))
        return run_of(tmp_path_factory.mktemp("case"), small_model, *CASE)


@pytest.fixture
def copy_of_case(case: tuple[RunDirectory, str], tmp_path: Path) -> RunDirectory:
    """To be spoilt."""
    return copy_of(case[0], tmp_path)


def test_the_manifest_names_and_counts_what_learns_and_what_does_not(case: tuple[RunDirectory, str]) -> None:
    found = json.loads(case[0].manifest.read_text())["what_learns"]
    assert "distilbert.transformer.layer.0.attention.q_lin.weight" in found["learning"]
    assert "distilbert.embeddings.word_embeddings.weight" in found["frozen"]
    assert not set(found["learning"]) & set(found["frozen"])
    assert 0 < found["encoder_weights_learning"] < found["weights_learning"]


def test_neither_report_nor_card_nor_console_claims_that_only_the_head_learns(case: tuple[RunDirectory, str]) -> None:
    run, console = case
    found = read_manifest(run).what_learns
    encoder = found["encoder_weights_learning"] + found["encoder_weights_frozen"]
    for where, text in told(run).items():
        assert "only the head" not in text, where
        assert f"{found['encoder_weights_learning']:,} of the encoder's {encoder:,} weights learn" in text, where
    for where, text in {**told(run), "console": console}.items():
        plain = text.replace("\\", "")
        assert "distilbert.transformer.layer.0-1.attention, distilbert.transformer.layer.0-1.ffn" in plain, where
        assert f"{len(found['frozen'])} tensors: distilbert.embeddings" in plain, where


def test_a_freeze_that_holds_is_told_as_one(small_model: Path, tmp_path: Path) -> None:
    run, console = run_of(tmp_path, small_model, "model.freeze=base", "training.epochs=1")
    assert all("only the head learns" in text for text in told(run).values())
    assert "distilbert.embeddings, distilbert.transformer.layer.0-1; the encoder runs once" in console


def test_of_an_older_run_nothing_is_claimed(copy_of_case: RunDirectory) -> None:
    manifest = json.loads(copy_of_case.manifest.read_text())
    del manifest["what_learns"]
    write_json(copy_of_case.manifest, manifest)
    rewrite(copy_of_case)
    for where, text in told(copy_of_case).items():
        assert "what learned is not known" in text, where
        assert "not recorded by the version of Tenor that ran this" in text, where


def test_a_manifest_that_tells_what_can_t_be_meant_spoils_no_report(copy_of_case: RunDirectory) -> None:
    manifest = json.loads(copy_of_case.manifest.read_text())
    for other in ({"learning": 3}, {**manifest["what_learns"], "weights_frozen": -(10**400)}):
        write_json(copy_of_case.manifest, {**manifest, "what_learns": other})
        rewrite(copy_of_case)
        assert all("what learned is not known" in text for text in told(copy_of_case).values())
