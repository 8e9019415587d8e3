"""When memory runs out, the message names the setting that helps in that phase, and the failure is recorded."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from small_runs import small_config, small_run
from tenor.checks import before_training
from tenor.cli.main import main
from tenor.config.schema import Model
from tenor.console import run as run_module
from tenor.errors import TenorError, UserError, advice_on_memory
from tenor.inference.predictor import Predictor
from tenor.model.classifier import load_classifier
from tenor.runs.summary import read_summary
from tenor.training import loop
from tenor.training import together as together_module
from tenor.workflows import measure as measure_module
from tenor.workflows import prepare as prepare_module
from tenor.workflows.check import check
from tenor.workflows.train import RunResult

ON_A_CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: error 12")
ON_A_GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1.00 GiB free.")
EVALUATION_BUDGET = r"lower evaluation\.token_budget \(now 96 tokens"
BUDGET = "evaluation.token_budget=96"


def _raising(error: Exception) -> Callable[..., Any]:
    def exhausted(*arguments: Any, **options: Any) -> None:
        raise error

    return exhausted


def _forward_fails_without_gradients(patch: pytest.MonkeyPatch, error: Exception) -> None:
    real = prepare_module.token_logits

    def forward(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        if not torch.is_grad_enabled():
            raise error
        return real(model, inputs)

    patch.setattr(prepare_module, "token_logits", forward)


def _fails_as_told(tmp_path: Path, model: Path, output: str, *overrides: str) -> None:
    """The run ends with that message, and its row in the summary says so."""
    with pytest.raises(TenorError, match=output) as caught:
        small_run(tmp_path, model, BUDGET, *overrides)
    (row,) = read_summary(tmp_path / "runs")
    assert (row.status, row.error) == ("failed", f"TenorError: {caught.value}")


@pytest.mark.parametrize("error", [ON_A_CPU, ON_A_GPU, MemoryError()], ids=["cpu", "gpu", "python"])
def test_a_training_step_names_training_s_budget(
    error: Exception, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "optimizer_step", _raising(error))
    output = r"memory ran out in training: lower training\.token_budget \(now 64 .* or data\.max_length \(now 16\)"
    _fails_as_told(tmp_path, small_model, output)


@pytest.mark.parametrize("error", [ON_A_CPU, ON_A_GPU], ids=["cpu", "gpu"])
def test_a_validation_names_evaluation_s_budget(
    error: Exception, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _forward_fails_without_gradients(monkeypatch, error)
    _fails_as_told(tmp_path, small_model, EVALUATION_BUDGET)
    assert (tmp_path / "runs").exists()


def test_encoding_below_a_frozen_base_names_evaluation_s_budget(
    small_model: Path, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_module, "first_token_state", _raising(ON_A_GPU))
    _fails_as_told(tmp_path, small_model, EVALUATION_BUDGET, "model.freeze=base")


def test_the_evaluation_after_training_names_evaluation_s_budget(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = together_module.predict

    def predict(*arguments: Any) -> Any:
        model, examples, plan, _, *others = arguments
        return real(model, examples, plan, _raising(ON_A_CPU), *others)

    monkeypatch.setattr(together_module, "predict", predict)
    _fails_as_told(tmp_path, small_model, EVALUATION_BUDGET, "training.epochs=1")


def test_the_text_baseline_names_its_own_settings(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure_module, "fit_text_baseline", _raising(MemoryError()))
    output = r"in the text baseline: lower data\.subset\.size, or set evaluation\.text_baseline=false"
    _fails_as_told(tmp_path, small_model, output, "training.epochs=1")


def test_the_estimate_and_the_short_experiments_name_theirs(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "estimate_cost", _raising(ON_A_GPU))
        _fails_as_told(tmp_path, small_model, r"lower data\.max_length \(now 16\), or choose a smaller model\.name")
    monkeypatch.setattr(before_training, "probe", _raising(MemoryError()))
    with pytest.raises(TenorError, match=r"short experiments: lower data\.max_length .* checks\.probe_seconds=0"):
        check(small_config(tmp_path, small_model, "checks.probe_seconds=1"))


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("read_source", r"while the rows were read: give data\.source=file fewer rows"),
        ("tokenize", r"during tokenization: lower data\.subset\.size"),
    ],
)
def test_rows_that_don_t_fit_leave_no_run(
    name: str, output: str, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_module, name, _raising(MemoryError()))
    with pytest.raises(TenorError, match=output):
        small_run(tmp_path, small_model)
    assert not (tmp_path / "runs").exists()


def test_a_model_that_doesn_t_fit_is_not_called_broken(small_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForSequenceClassification

    monkeypatch.setattr(AutoModelForSequenceClassification, "from_pretrained", _raising(ON_A_CPU))
    with pytest.raises(TenorError, match=r"while the model was loaded: .*smaller model\.name") as caught:
        load_classifier(Model(name=str(small_model)), ("bad", "good"), 0, "cpu")
    assert not isinstance(caught.value, UserError)


@pytest.mark.parametrize("error", [ON_A_CPU, ON_A_GPU], ids=["cpu", "gpu"])
def test_tenor_evaluate_names_the_budget_and_takes_a_lower_one(
    error: Exception, completed: RunResult, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import DistilBertForSequenceClassification

    monkeypatch.setattr(DistilBertForSequenceClassification, "forward", _raising(error))
    assert main(["evaluate", str(completed.run.path), BUDGET]) == 1
    said = capsys.readouterr().err
    assert "lower evaluation.token_budget (now 96 tokens per forward pass)" in said
    assert "Traceback" not in said


def test_other_errors_pass_through_unchanged() -> None:
    for error in (RuntimeError("a shape does not fit"), UserError("a text about being out of memory"), OSError(28, "")):
        with pytest.raises(type(error)) as caught, advice_on_memory("in a test", "nothing helps"):
            raise error
        assert caught.value is error


@pytest.mark.parametrize(("device", "output"), [("cpu", "--threads 1"), ("cuda", "--device cpu")])
def test_prediction_names_the_option_that_helps(device: str, output: str, completed: RunResult) -> None:
    predictor = Predictor.load(completed.run.path, engine="torch", device="cpu", threads=2)
    full = replace(predictor.engine, run=_raising(ON_A_GPU))
    predictor = replace(predictor, engine=full, plan=replace(predictor.plan, device=device))
    with pytest.raises(TenorError, match=f"memory ran out in prediction: .*{output}"):
        predictor.predict(["a film to remember"])


def test_the_innermost_advice_is_given() -> None:
    outer, inner = advice_on_memory("outside", "that"), advice_on_memory("inside", "this")
    with pytest.raises(TenorError, match="memory ran out inside: this"), outer, inner:
        raise OSError(12, "Cannot allocate memory")
