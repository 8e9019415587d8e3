"""Parts of a run that its program left in other files: the checkpoint that Lightning kept, predictions of a Trainer."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tenor.checks.diagnosis import Diagnosis, diagnose
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit
from tenor.checks.rules.evl_order import right_in_another_order

LOSSES = (0.61, 0.52, 0.58, 0.72, 0.90)


def lightning(folder: Path, kept: str, beside: tuple[str, ...] = ("last.ckpt",)) -> Diagnosis:
    version = folder / "logs" / "version_0"
    version.mkdir(parents=True)
    (version / "hparams.yaml").write_text("lr: 0.00002\n")
    rows = [f"{epoch},{10 * epoch + 9},{loss},{0.7 + loss / 100:.3f}" for epoch, loss in enumerate(LOSSES)]
    (version / "metrics.csv").write_text("\n".join(["epoch,step,val_loss,val_acc", *rows]) + "\n")
    for name in (kept, *(f"{Path(kept).parent}/{one}" for one in beside)):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")
    return diagnose(folder)


@pytest.mark.parametrize(
    ("kept", "is_wrong"),
    [
        ("best_model/epoch=04-val_loss=0.900.ckpt", True),  # The largest loss was taken for the best.
        ("checkpoints/epoch=3-step=39-val_loss=0.72.ckpt", True),
        ("best_model/epoch=01-val_loss=0.520.ckpt", False),
        ("checkpoints/epoch=04-val_loss=0.900.ckpt", False),  # The last epoch: nothing may have been monitored.
        ("checkpoints/epoch=4-step=49.ckpt", False),
    ],
)
def test_the_checkpoint_that_lightning_kept_is_the_best_of_its_metric(
    tmp_path: Path, kept: str, is_wrong: bool
) -> None:
    codes = {finding.code for finding in lightning(tmp_path, kept).findings}
    assert ("CKP001" in codes) == is_wrong


def test_several_kept_checkpoints_show_no_choice(tmp_path: Path) -> None:
    several = lightning(tmp_path, "best/epoch=04-val_loss=0.900.ckpt", ("epoch=01-val_loss=0.520.ckpt",))
    assert "CKP001" not in {finding.code for finding in several.findings}


def test_predictions_in_a_trainers_folder_are_judged_with_its_run(tmp_path: Path) -> None:
    log = [{"step": 5 * k, "loss": 0.7, "learning_rate": 0.01} for k in range(1, 17)]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": log, "global_step": 80, "max_steps": 80}))
    rows = "".join(f'"text {k}",{k % 2},0.2,-0.2,0\n' for k in range(200))
    (tmp_path / "predictions.csv").write_text("text,label,logit_0,logit_1,prediction\n" + rows)
    (tmp_path / "train.csv").write_text("text,label\na fine film,1\n")
    diagnosis = diagnose(tmp_path)
    assert {"EVL001", "EVL005"} <= {finding.code for finding in diagnosis.findings}
    assert "EVL022" not in {finding.code for finding in diagnosis.findings}
    assert diagnosis.causes[0].code == "OPT007"  # The recorded rate is 500 times the usual one.
    assert any("train.csv" in note for note in diagnosis.notes)


def test_an_adapter_that_is_saved_below_the_run_must_contain_the_head(tmp_path: Path) -> None:
    log = [{"step": 5 * k, "loss": 0.7 - 0.02 * k, "learning_rate": 0.001} for k in range(1, 17)]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": log, "global_step": 80, "max_steps": 80}))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = {"auto_mapping": {"base_model_class": "BertForSequenceClassification"}, "peft_type": "LORA"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    lora = {"base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight": torch.ones(2, 4)}
    save_file(lora, adapter / "adapter_model.safetensors")
    assert "CKP013" in {finding.code for finding in diagnose(tmp_path).findings}
    for head in ("classifier.weight", "classifier.lora_A.weight"):
        save_file({**lora, f"base_model.model.{head}": torch.ones(2, 4)}, adapter / "adapter_model.safetensors")
        assert "CKP013" not in {finding.code for finding in diagnose(tmp_path).findings}


def test_predictions_below_chance_are_in_no_other_order_that_is_right_by_chance() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    swapped = np.where(rng.random(300) < 0.7, 1 - labels, labels)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(300)
        split = ReportedSplit(300, labels=labels[order], predicted=swapped[order])
        assert right_in_another_order(EvaluationEvidence({"test": split}, 2)) is None


@pytest.mark.parametrize(
    ("kind", "place", "expected"),
    [
        (torch.float16, "checkpoint-80", {"PRC002", "PRC004"}),
        (torch.bfloat16, "checkpoint-80", {"PRC004"}),
        (torch.float32, "checkpoint-80", set()),
        (torch.float16, "exported", set()),  # A model may be converted after its training.
    ],
)
def test_a_checkpoint_in_16_bits_was_trained_in_them(
    tmp_path: Path, kind: torch.dtype, place: str, expected: set[str]
) -> None:
    log = [{"step": 5 * k, "loss": 0.7 - 0.02 * k, "learning_rate": 1e-5} for k in range(1, 17)]
    state = json.dumps({"log_history": log, "global_step": 80, "max_steps": 80})
    (tmp_path / "trainer_state.json").write_text(state)
    (tmp_path / place).mkdir()
    (tmp_path / place / "trainer_state.json").write_text(state)
    save_file({"bert.weight": torch.ones(2, 2, dtype=kind)}, tmp_path / place / "model.safetensors")
    assert {f.code for f in diagnose(tmp_path).findings} & {"PRC001", "PRC002", "PRC004"} == expected


@pytest.mark.parametrize(
    ("rates", "is_found"),
    [
        ((8e-5, 1.0e-4, 1.3e-4, 1.6e-4, 1.8e-4), True),  # OneCycleLR for steps, called once per epoch.
        ((8e-5, 2e-3, 1.5e-3, 8e-4, 1e-6), False),  # As it should be, logged once per epoch.
        ((2e-3, 1.6e-3, 1.2e-3, 8e-4, 4e-4), False),
        ((2e-4, 2e-4, 2e-4, 2e-4, 2e-4), False),  # The constant rate of another group.
        ((4e-4, 8e-4, 1.2e-3, 1.6e-3, 2e-3), False),  # A warm-up that ends with the run reaches it.
    ],
)
def test_the_configured_rate_is_reached(tmp_path: Path, rates: tuple[float, ...], is_found: bool) -> None:
    version = tmp_path / "logs" / "version_0"
    version.mkdir(parents=True)
    (version / "hparams.yaml").write_text("lr: 0.002\nsteps_per_epoch: 50\n")
    lines = ["epoch,learning_rate,step,train_loss,val_loss"]
    for epoch, rate in enumerate(rates):
        lines.append(f",{rate},{50 * epoch},,")
        lines += [f"{epoch},,{50 * epoch + 10 * k + 9},{0.69 - 0.01 * epoch + 0.001 * k}," for k in range(5)]
        lines.append(f"{epoch},,{50 * epoch + 49},,{0.68 - 0.01 * epoch}")
    (version / "metrics.csv").write_text("\n".join(lines) + "\n")
    assert ("OPT036" in {finding.code for finding in diagnose(tmp_path).findings}) == is_found
