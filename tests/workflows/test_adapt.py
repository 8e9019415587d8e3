"""`tenor adapt`: a run folder with an encoder that `tenor train` takes, the same after a kill, and its refusals."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from same_end import _checkpoints, _findings, timeless
from small_runs import nulls, quiet, small_config, write_config, write_csv
from tenor.cli.main import main
from tenor.config.loading import load_config
from tenor.errors import RefusedError, UserError
from tenor.runs.adaptation_summary import read_adaptation
from tenor.runs.directory import RunDirectory, list_runs
from tenor.runs.manifest import read_manifest
from tenor.runs.step_records import read_records
from tenor.runs.summary import read_summary
from tenor.training.recorder import Recorder
from tenor.workflows.adapt import AdaptationResult, adapt, make_adaptation_task, prepare_adaptation, resume_adaptation
from tenor.workflows.experiments import repeat
from tenor.workflows.report import report
from tenor.workflows.train import resume, train

QUICK = ("adaptation.epochs=2", "adaptation.batch_size=8", "adaptation.learning_rate=3e-3")


def small_adaptation(folder: Path, model: Path, *overrides: str) -> AdaptationResult:
    return adapt(small_config(folder, model, *QUICK, *overrides), folder / "runs", quiet())


@pytest.fixture(scope="module")
def adapted(small_masked: Path, session_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> AdaptationResult:
    """Read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENOR_CACHE", str(session_cache))
        return small_adaptation(tmp_path_factory.mktemp("adapted"), small_masked)


def test_a_run_has_all_its_files(adapted: AdaptationResult) -> None:
    run, summary = adapted.run, adapted.summary
    assert run.config_name == "small-adapted"
    assert load_config(run.config) == adapted.config
    manifest = read_manifest(run)
    assert (manifest.status, manifest.job) == ("completed", "adapt")
    assert {"data", "corpus", "encoder_weights", "tokenizer", "config"} <= set(manifest.fingerprints)
    assert read_adaptation(run) == summary
    stages = [one["stage"] for one in json.loads(run.findings.read_text())["stages"]]
    assert stages == ["preflight", "training", "evaluation"]
    assert nulls(json.loads(run.manifest.read_text())) == nulls(json.loads(run.adaptation.read_text())) == []
    (row,) = read_summary(run.path.parent.parent)
    assert row.val_metrics["loss"] == summary.after.loss
    assert "missing" in row.test_metrics


def test_the_summary_agrees_with_the_records(adapted: AdaptationResult) -> None:
    summary, records = adapted.summary, read_records(adapted.run.metrics)
    losses = {record["step"]: record["loss"] for record in records if record["kind"] == "validation"}
    assert summary.before.loss == losses[0]
    assert summary.after.loss == min(loss for step, loss in losses.items() if step) == losses[summary.best_step]
    assert summary.after.loss < summary.before.loss
    assert summary.after.perplexity == pytest.approx(math.exp(summary.after.loss))
    assert summary.tokens_seen == 2 * (summary.tokens + 2 * summary.blocks)  # Two epochs, with special tokens.
    assert summary.steps == 2 * -(-summary.blocks // 8)


def test_the_encoder_is_fine_tuned_from_the_run_or_its_model_folder(adapted: AdaptationResult, tmp_path: Path) -> None:
    saved = load_file(adapted.run.model / "model.safetensors")
    for number, name in enumerate((adapted.run.path, adapted.run.model)):
        console = quiet()
        config = small_config(tmp_path, name, "training.epochs=1", "training.learning_rate=0.0")
        result = train(config, tmp_path / f"runs{number}", console)
        tuned = load_file(result.run.model / "model.safetensors")
        encoder = [key for key in tuned if key.startswith("bert.")]
        assert all(torch.equal(tuned[key], saved[key]) for key in encoder)  # A rate of 0 changes nothing.
        printed = console.file.getvalue()  # type: ignore[attr-defined]
        assert "newly initialized: classifier.bias, classifier.weight\n" in printed.replace(" \n", "\n")


class Killed(BaseException):
    """As a process that is killed: nothing may catch it and tidy up."""


@pytest.mark.parametrize("at_record", [1, 4, 9])
def test_a_resumed_run_ends_as_an_uninterrupted_one(
    at_record: int, adapted: AdaptationResult, small_masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = Recorder.record, []

    def record(self: Recorder, kind: str, step: int, **values: Any) -> None:
        real(self, kind, step, **values)
        calls.append(step)
        if len(calls) == at_record:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "record", record)
        with pytest.raises(Killed):
            small_adaptation(tmp_path, small_masked)
    (run,) = list_runs(tmp_path / "runs")
    result = resume_adaptation("latest", tmp_path / "runs", quiet())
    assert_same(result.run, adapted.run)
    timed = ("seconds", "tokens_per_second", "corpus", "encoder")
    one, other = ({k: v for k, v in vars(one.summary).items() if k not in timed} for one in (result, adapted))
    assert one == other
    with pytest.raises(UserError, match="is complete; start a new run with `tenor adapt"):
        resume_adaptation(str(run.path), tmp_path / "runs", quiet())


def assert_same(one: RunDirectory, other: RunDirectory) -> None:
    """Weights, checkpoints, records and findings agree to the bit."""
    first, second = (load_file(run.model / "model.safetensors") for run in (one, other))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert _checkpoints(one) == _checkpoints(other)
    assert timeless(one) == timeless(other)
    assert _findings(one) == _findings(other)


def test_a_run_of_the_other_command_is_not_resumed_or_repeated(
    adapted: AdaptationResult, small_model: Path, tmp_path: Path
) -> None:
    root = adapted.run.path.parent.parent
    with pytest.raises(UserError, match="started by `tenor adapt`; resume it with: tenor adapt --resume"):
        resume(str(adapted.run.path), root, quiet())
    with pytest.raises(UserError, match="only trainings can be repeated"):
        repeat(str(adapted.run.path), root, quiet())
    trained = train(small_config(tmp_path, small_model, "training.epochs=1"), tmp_path / "runs", quiet())
    with pytest.raises(UserError, match="started by `tenor train`; resume it with: tenor train --resume"):
        resume_adaptation(str(trained.run.path), tmp_path / "runs", quiet())


def test_an_encoder_is_not_evaluated_and_has_no_report(adapted: AdaptationResult) -> None:
    from tenor.inference.predictor import Predictor

    with pytest.raises(UserError, match=r"an encoder without a classifier\. Fine-tune it first"):
        Predictor.load(adapted.run.path)
    with pytest.raises(UserError, match="has no report; its numbers are in"):
        report(str(adapted.run.path), adapted.run.path.parent.parent)


def corpus_file(path: Path, *texts: str) -> Path:
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def test_a_corpus_of_ones_own_needs_no_labels(small_masked: Path, tmp_path: Path) -> None:
    lines = corpus_file(tmp_path / "lines.txt", *(f"film {k} and scene {k + 1} was dull" for k in range(20)), "   ")
    result = small_adaptation(tmp_path, small_masked, f"adaptation.corpus={lines}", "adaptation.max_length=8")
    assert (result.summary.texts, result.summary.tokens) == (20, 20 * 7)
    assert result.summary.blocks == 40  # Seven tokens do not fit into eight with two special ones.
    table = write_csv(tmp_path / "corpus.csv", 12, start=300)
    settings = (f"adaptation.corpus={table}", "adaptation.text_column=review", "adaptation.epochs=1")
    assert small_adaptation(tmp_path, small_masked, *settings).summary.texts == 12


def test_evaluated_texts_in_the_corpus_are_refused_left_out_or_allowed(small_masked: Path, tmp_path: Path) -> None:
    everything = write_csv(tmp_path / "everything.csv", 130)  # The training file and the test file.
    own = (f"adaptation.corpus={everything}", "adaptation.text_column=review", "checks.policy=stop")
    with pytest.raises(RefusedError, match="DAT035"):
        small_adaptation(tmp_path, small_masked, *own)
    (run,) = list_runs(tmp_path / "runs")
    assert read_manifest(run).status == "refused"
    assert not run.model.exists()
    (finding,) = json.loads(run.findings.read_text())["stages"][0]["findings"]
    assert finding["observed"] == "16 of 16 validation texts and 20 of 20 test texts in a corpus of 130 texts"
    without = small_adaptation(tmp_path, small_masked, *own, "adaptation.evaluated_texts=leave_out")
    assert without.summary.texts == 130 - 16 - 20
    allowed = small_adaptation(tmp_path, small_masked, *own, "checks.allow.DAT035=on purpose")
    assert allowed.summary.texts == 130


def test_training_rows_that_repeat_evaluated_texts_are_left_out(small_masked: Path, tmp_path: Path) -> None:
    config = small_config(tmp_path, small_masked)
    source = Path(config.data.path or "")
    copies = Path(config.data.test_path or "").read_text().splitlines()[1:4]
    source.write_text(source.read_text() + "\n".join(copies) + "\n")
    corpus = prepare_adaptation(config).corpus
    assert len(corpus.rows) < 63 - 16
    assert "were left out: they are texts of the validation or the test split" in corpus.notes[0]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("adaptation.corpus=missing.txt",), "missing.txt"),
        (("adaptation.corpus={empty}",), "has no text: line"),
        (("adaptation.corpus={csv}",), "adaptation.text_column"),
        (("adaptation.max_length=5000",), "adaptation.max_length=5000, but"),
        (("adaptation.corpus={odd}",), "knows no word of the corpus"),
        (("adaptation.corpus={held_out}", "adaptation.evaluated_texts=leave_out"), "would leave no text"),
    ],
)
def test_unusable_input_is_refused_before_a_run_starts(
    overrides: tuple[str, ...], words: str, small_masked: Path, tmp_path: Path
) -> None:
    paths = {
        "empty": corpus_file(tmp_path / "empty.txt", "  ", " "),
        "csv": write_csv(tmp_path / "columns.csv", 4),
        "odd": corpus_file(tmp_path / "odd.txt", "☃ ☃☃ ☃", "☃☃☃ ☃"),
        "held_out": corpus_file(tmp_path / "held_out.txt", "Film 104 was dull!", "film 108 was dull"),
    }
    with pytest.raises(UserError, match=words):
        small_adaptation(tmp_path, small_masked, *(one.format(**paths) for one in overrides))
    assert list_runs(tmp_path / "runs") == []


def test_a_tokenizer_without_a_mask_token_is_refused(small_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no mask token"):
        small_adaptation(tmp_path, small_model)


def test_replicas_see_the_same_masks_and_reach_the_same_weights(
    small_masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenor.training.spread.LEAST_TOKENS", 1)
    weights = []
    for threads in (1, 2):
        overrides = (f"training.threads={threads}", "model.dropout=0.0", "adaptation.epochs=1")
        result = small_adaptation(tmp_path / str(threads), small_masked, *overrides)
        weights.append(load_file(result.run.model / "model.safetensors"))
    for name, tensor in weights[0].items():
        if name.endswith("key.bias"):  # Its gradient is 0 but for rounding, which AdamW magnifies.
            continue
        torch.testing.assert_close(weights[1][name], tensor, atol=1e-5, rtol=1e-4)


def test_masks_differ_between_epochs_and_are_fixed_in_validations(small_masked: Path, tmp_path: Path) -> None:
    task = make_adaptation_task(prepare_adaptation(small_config(tmp_path, small_masked, *QUICK)), tmp_path)
    first, second = (task.at(step).train for step in (0, task.steps_per_epoch))
    assert (first.epoch, second.epoch) == (0, 1)  # type: ignore[attr-defined]
    assert task.at(task.steps_per_epoch - 1).train.epoch == 0  # type: ignore[attr-defined]
    assert (first.lengths == second.lengths).all()


def test_the_command_ends_with_its_summary_or_the_status_of_a_refusal(
    small_masked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write_config(tmp_path, small_masked))
    runs = ("--runs", str(tmp_path / "runs"))
    assert main(["adapt", config, "adaptation.epochs=1", "--json", *runs]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert read_adaptation(RunDirectory(Path(printed["run"]))).after.loss == printed["after"]["loss"]
    assert main(["adapt", *runs]) == 2
    assert main(["adapt", config, "--resume", "latest", *runs]) == 2
    assert main(["adapt", config, "adaptation.mask_share=1.0", *runs]) == 2
    assert "adaptation.mask_share" in capsys.readouterr().err
    own = (f"adaptation.corpus={tmp_path / 'test.csv'}", "adaptation.text_column=review", "checks.policy=stop")
    assert main(["adapt", config, *own, *runs]) == 3
