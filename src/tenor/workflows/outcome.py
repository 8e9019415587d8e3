"""The end of a run: status in the manifest, row in the summary, best checkpoint saved as a model folder."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tenor.config.schema import Config
from tenor.errors import InterruptedRunError, RefusedError, TenorError, UserError, system_refusal
from tenor.model.classifier import Classifier, load_saved_classifier, quiet_transformers
from tenor.model.freezing import anatomy
from tenor.model.notes import NOTES, WEIGHTS, read_model_notes, update_model_notes
from tenor.runs.directory import RunDirectory
from tenor.runs.environment import missing_because
from tenor.runs.files import atomic_path, digest_folder, read_json, sha256_file, write_json
from tenor.runs.manifest import read_manifest, update_manifest
from tenor.runs.summary import CheckpointRow, SummaryRow, upsert_row
from tenor.training.checkpoint import (
    MODEL,
    Checkpoint,
    DamagedCheckpointError,
    TrainState,
    list_checkpoints,
    read_state,
    verify_checkpoint,
)
from tenor.training.signals import terminate_as_interrupt


@dataclass
class Outcome:
    """The results of a run so far; the summary's row is made from them."""

    val_metrics: dict[str, Any] = field(default_factory=lambda: missing_because("the run ended before its evaluation"))
    test_metrics: dict[str, Any] = field(default_factory=lambda: missing_because("the run ended before its evaluation"))
    best: Checkpoint | None = None
    checkpoints: tuple[CheckpointRow, ...] = ()
    findings: tuple[dict[str, Any], ...] = ()


@contextmanager
def recorded_outcome(run: RunDirectory, root: Path, config: Config) -> Iterator[Outcome]:
    """Record how the block ends: completed, refused, interrupted or failed. Errors are raised to the caller.

    Raises:
        InterruptedRunError: SIGINT or SIGTERM ended it.
        TenorError: the system refused to write a file, or the run can't be traced.
    """
    outcome = Outcome()
    try:
        with terminate_as_interrupt():
            yield outcome
        _record(run, root, config, outcome, "completed", None)
    except BaseException as error:
        reported = _with_next_step(error, run)
        try:
            _record(run, root, config, outcome, _status(reported), f"{type(reported).__name__}: {reported}")
        except (OSError, UserError) as unwritten:
            # On a full disk the end of the run can't be recorded either; the run can still be resumed.
            if not isinstance(reported, TenorError):
                raise reported from unwritten
        if reported is error:
            raise
        raise reported from error


def _with_next_step(error: BaseException, run: RunDirectory) -> BaseException:
    """The error with the next step, if a user ended the run or can fix the cause."""
    next_step = f"Resume with: tenor train --resume {run.path}"
    if isinstance(error, KeyboardInterrupt | InterruptedRunError):
        return InterruptedRunError(f"{str(error) or 'SIGINT'}. {next_step}")
    if (refusal := system_refusal(error)) is not None:
        return TenorError(f"{refusal}. The checkpoints in {run.checkpoints} are intact. {next_step}")
    return error


def checkpoint_rows(root: Path, kept: list[Checkpoint], state: TrainState) -> tuple[CheckpointRow, ...]:
    """The summary's entries for the kept checkpoints."""
    measured = {v.step: {"accuracy": v.accuracy, "macro_f1": v.macro_f1, "loss": v.loss} for v in state.validations}
    return tuple(
        CheckpointRow(
            relative(checkpoint.path, root),
            checkpoint.step,
            measured.get(checkpoint.step, missing_because("not validated at this step")),
            checkpoint.digest,
        )
        for checkpoint in kept
    )


def headline(split: dict[str, Any]) -> dict[str, Any]:
    """The values of a split of `eval_best_model.json` that the summary's row contains."""
    kept = ("missing", "n", "accuracy", "accuracy_interval", "macro_f1", "loss", "baselines", "confusion_matrix")
    return {name: split[name] for name in kept if name in split}


def relative(path: Path, root: Path) -> str:
    """A path as stored in the summary: relative to the root folder of all runs."""
    return path.resolve().relative_to(root.resolve()).as_posix()


def _status(error: BaseException) -> str:
    if isinstance(error, InterruptedRunError):
        return "interrupted"
    return "refused" if isinstance(error, RefusedError) else "failed"


def _record(run: RunDirectory, root: Path, config: Config, outcome: Outcome, status: str, error: str | None) -> None:
    error_text = missing_because("no error") if error is None else error
    started = datetime.fromisoformat(read_manifest(run).started)
    seconds = (datetime.now(UTC) - started).total_seconds()
    row = SummaryRow(
        run_id=run.run_id,
        config_name=run.config_name,
        config=config.model_dump(mode="json"),
        status=status,  # type: ignore[arg-type]
        duration_sec=seconds,
        ckpt_path=relative(outcome.best.path, root) if outcome.best else missing_because("no checkpoint was chosen"),
        val_metrics=outcome.val_metrics,
        test_metrics=outcome.test_metrics,
        findings=outcome.findings,
        checkpoints=outcome.checkpoints or _kept(run, root),
        error=error_text,
    )
    digests = {"model": digest_folder(run.model)} if run.model.is_dir() else {}
    try:
        # The manifest last: a run marked complete can't be resumed, so everything else must be written first.
        upsert_row(root, row)
    except ValueError as incomplete:
        # A run that can't be traced has failed, even if training succeeded.
        raise TenorError(f"{run.path}: {incomplete}") from incomplete
    update_manifest(run, status=status, error=error_text, digests=digests, duration_sec=seconds)


def _kept(run: RunDirectory, root: Path) -> tuple[CheckpointRow, ...]:
    """The intact checkpoints of a run that ended before it recorded them."""
    whole = []
    for path in list_checkpoints(run.checkpoints):
        with suppress(DamagedCheckpointError):  # `resume` reports a damaged one.
            whole.append(verify_checkpoint(path))
    return checkpoint_rows(root, whole, read_state(whole[-1])) if whole else ()


_TOLERANCE = 1e-4  # Relative to the largest logit: float32 through one layer.


def fold_temperature(model: Any, temperature: float) -> tuple[str, ...]:
    """Divide weight and bias of the last linear layer by `temperature`; returns the parameters' names.

    Afterwards softmax(logits) equals the former softmax(logits / temperature).

    Raises:
        UserError: the head has not exactly one linear layer with one output per class, or something after that layer
            changes the logits. The model is then unchanged.
    """
    head = anatomy(model).head
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and f"{name}.weight" in head and module.out_features == model.config.num_labels
    }
    if len(layers) != 1:
        raise UserError(
            f"{type(model).__name__}: its head has {len(layers)} linear layers with one output per class, expected 1; "
            "leave the temperature in tenor.json, where Tenor applies it"
        )
    ((name, last),) = layers.items()
    before = _sample_logits(model)
    _divide(last, temperature)
    if not torch.allclose(
        _sample_logits(model) * temperature, before, rtol=0, atol=_TOLERANCE * float(before.abs().max())
    ):
        _divide(last, 1 / temperature)
        raise UserError(
            f"{type(model).__name__}: its logits are not proportional to the output of {name}, so a temperature cannot "
            "be folded into it; "
            "leave it in tenor.json, where Tenor applies it"
        )
    return tuple(f"{name}.{kind}" for kind, _ in last.named_parameters(recurse=False))


def _divide(layer: nn.Linear, temperature: float) -> None:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.div_(temperature)


def _sample_logits(model: Any) -> torch.Tensor:
    """Logits of one text of eight arbitrary tokens."""
    model.eval()
    ids = torch.arange(8).remainder(model.get_input_embeddings().num_embeddings)[None]
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


def save_model(
    folder: Path, classifier: Classifier, config: Config, checkpoint: Checkpoint, temperature: float = 1.0
) -> str:
    """Save model and tokenizer below `folder`; returns the SHA-256 of the weights.

    The weights are a copy of the checkpoint's file, so that both have the same digest. `transformers` would write
    tensors under the names in the encoder's original file, such as `LayerNorm.gamma`, and split or join some again.

    The tokenizer is saved without truncation or padding settings, with the maximum length and padding side of training.
    """
    tokenizer = classifier.tokenizer
    # Its class or file may say left, which would move the first token, the only one that most heads read. The side is
    # saved only if it is among the arguments that the tokenizer was created with.
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = "right"
    tokenizer.model_max_length = config.data.max_length
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        backend.no_truncation()
        backend.no_padding()
    with atomic_path(folder) as temporary:
        with quiet_transformers():
            classifier.model.save_pretrained(temporary, save_original_format=False)
            tokenizer.save_pretrained(temporary)
        shutil.copyfile(checkpoint.path / MODEL, temporary / WEIGHTS)
        digest = sha256_file(temporary / WEIGHTS)
        write_json(
            temporary / NOTES,
            {
                "max_length": config.data.max_length,
                "truncation": config.data.truncation,
                "head_share": config.data.head_share,
                "temperature": temperature,
                "weights_sha256": digest,
                "checkpoint_step": checkpoint.step,
            },
        )
    return digest


def fold_into_model(folder: Path) -> None:
    """Divide the saved classifier's logits by its temperature, which is 1 afterwards; if it is 1 already, do nothing.

    `tenor.json` records the temperature, the parameters, the time, and the digest of the weights before.

    Raises:
        UserError: the head does not end in one linear layer.
    """
    notes = read_model_notes(folder)
    if notes.temperature == 1.0:
        return
    model, _ = load_saved_classifier(folder)
    parameters = fold_temperature(model, notes.temperature)
    stored = read_json(folder / NOTES)
    with atomic_path(folder) as temporary:
        shutil.copytree(folder, temporary)
        with quiet_transformers():
            model.save_pretrained(temporary, save_original_format=False)
        folded = {
            "temperature": notes.total_temperature,
            "into": list(parameters),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            # Of the checkpoint, whose digest the evaluation names, even after several folds.
            "checkpoint_sha256": stored.get("folded", {}).get("checkpoint_sha256", notes.weights_sha256),
        }
        update_model_notes(temporary, temperature=1.0, weights_sha256=sha256_file(temporary / WEIGHTS), folded=folded)
