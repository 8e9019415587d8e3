"""How a run ends: a status in the manifest, a row in the summary, and the best checkpoint saved as a model folder."""

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
from tenor.measures.hybrid import Hybrid, save_hybrid
from tenor.model.classifier import Classifier, load_saved_classifier, quiet_transformers
from tenor.model.freezing import anatomy
from tenor.runs.directory import RunDirectory
from tenor.runs.files import atomic_path, digest_folder, sha256_file
from tenor.runs.manifest import Job, read_manifest, update_manifest
from tenor.runs.missing import missing_because
from tenor.runs.model_notes import WEIGHTS, ModelNotes, read_model_notes, update_model_notes, write_model_notes
from tenor.runs.summary import CheckpointRow, SummaryRow, upsert_row
from tenor.training.checkpoint import (
    MODEL,
    Checkpoint,
    DamagedCheckpointError,
    TrainState,
    UnwrittenCheckpointError,
    list_checkpoints,
    read_state,
    verify_checkpoint,
)
from tenor.training.processes import LostProcessError, launch_words
from tenor.training.signals import terminate_as_interrupt


@dataclass
class Outcome:
    """The results of a run so far, for its row of the summary."""

    val_metrics: dict[str, Any] = field(default_factory=lambda: missing_because("the run ended before its evaluation"))
    test_metrics: dict[str, Any] = field(default_factory=lambda: missing_because("the run ended before its evaluation"))
    best: Checkpoint | None = None
    checkpoints: tuple[CheckpointRow, ...] = ()
    findings: tuple[dict[str, Any], ...] = ()


@contextmanager
def recorded_outcome(run: RunDirectory, root: Path, config: Config, job: Job = "train") -> Iterator[Outcome]:
    """Record how the block ends: completed, refused, interrupted or failed. Errors are raised again.

    Raises:
        InterruptedRunError: SIGINT or SIGTERM ended it.
        TenorError: a file could not be written, or the run's record is incomplete.
    """
    outcome = Outcome()
    try:
        with terminate_as_interrupt():
            yield outcome
        _record(run, root, config, outcome, "completed", None)
    except BaseException as error:
        reported = _with_next_step(error, run, job)
        try:
            _record(run, root, config, outcome, _status(reported), f"{type(reported).__name__}: {reported}")
        except (OSError, UserError) as unwritten:
            # On a full disk the run's status cannot be recorded either; the run can be resumed all the same.
            if not isinstance(reported, TenorError):
                raise reported from unwritten
        if reported is error:
            raise
        raise reported from error


def _with_next_step(error: BaseException, run: RunDirectory, job: Job) -> BaseException:
    """The error with the next step, if the user ended the run or can fix the cause."""
    resume = resume_advice(run, job)
    if isinstance(error, LostProcessError | UnwrittenCheckpointError):
        error.args = (f"{error}. {resume}",)
    if isinstance(error, KeyboardInterrupt | InterruptedRunError):
        return InterruptedRunError(f"{str(error) or 'SIGINT'}. {resume}")
    if (refusal := system_refusal(error)) is not None:
        return TenorError(f"{refusal}. The checkpoints in {run.checkpoints} are intact. {resume}")
    return error


def resume_advice(run: RunDirectory, job: Job = "train") -> str:
    """The command that resumes a run, with the launcher that started it."""
    return f"Resume with: {launch_words()} {job} --resume {run.path}"


def checkpoint_rows(root: Path, kept: list[Checkpoint], state: TrainState) -> tuple[CheckpointRow, ...]:
    """The rows of the summary for the stored checkpoints."""
    measured = {validation.step: validation.metrics for validation in state.validations}
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
    """The numbers of a split of `eval_best_model.json` that the summary's row contains."""
    kept = ("missing", "n", "accuracy", "accuracy_interval", "macro_f1", "loss", "baselines", "confusion_matrix")
    return {name: split[name] for name in kept if name in split}


def relative(path: Path, root: Path) -> str:
    """A path as in the summary: relative to the runs' root."""
    return path.resolve().relative_to(root.resolve()).as_posix()


def _status(error: BaseException) -> str:
    if isinstance(error, InterruptedRunError):
        return "interrupted"
    return "refused" if isinstance(error, RefusedError) else "failed"


def _record(run: RunDirectory, root: Path, config: Config, outcome: Outcome, status: str, error: str | None) -> None:
    recorded_error = missing_because("no error") if error is None else error
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
        error=recorded_error,
    )
    digests = {"model": digest_folder(run.model)} if run.model.is_dir() else {}
    try:
        # The manifest is written last: a run with status completed cannot be resumed.
        upsert_row(root, row)
    except ValueError as incomplete:
        # A run with an incomplete record counts as failed.
        raise TenorError(f"{run.path}: {incomplete}") from incomplete
    update_manifest(run, status=status, error=recorded_error, digests=digests, duration_sec=seconds)


def _kept(run: RunDirectory, root: Path) -> tuple[CheckpointRow, ...]:
    """The intact checkpoints of a run that ended before it listed them."""
    intact = []
    for path in list_checkpoints(run.checkpoints):
        with suppress(DamagedCheckpointError):  # Damaged ones are reported on resume.
            intact.append(verify_checkpoint(path))
    return checkpoint_rows(root, intact, read_state(intact[-1])) if intact else ()


_TOLERANCE = 1e-4  # Relative to the largest logit: float32 through one layer.


def fold_temperature(model: Any, temperature: float) -> tuple[str, ...]:
    """Divide weight and bias of the last linear layer by `temperature`; returns the parameters' names.

    Afterwards softmax(logits) equals softmax(logits / temperature) before.

    Raises:
        UserError: the head has no single linear layer with one output per class, or the logits do not scale with it,
            because something comes after it. The model is then unchanged.
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
            f"{type(model).__name__}: its logits don't scale with {name}, so a temperature can't be folded into it; "
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
    folder: Path,
    classifier: Classifier,
    config: Config,
    checkpoint: Checkpoint,
    temperature: float = 1.0,
    hybrid: Hybrid | None = None,
) -> str:
    """Save model and tokenizer, and a hybrid's text baseline, below `folder`; returns the SHA-256 of the weights.

    The weights are a copy of the checkpoint's file, with the same digest. `transformers` would write tensors under the
    names of the encoder's original file, such as `LayerNorm.gamma`, and split or join some of them again.

    The tokenizer is saved without truncation and padding, with the maximum length and the padding side of training.
    """
    tokenizer = classifier.tokenizer
    # Its class or its file may have left, which would move the first token, the only one that most heads read. The side
    # is saved only if it is in `init_kwargs`.
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
        notes = ModelNotes(
            max_length=config.data.max_length,
            truncation=config.data.truncation,
            head_share=config.data.head_share,
            temperature=temperature,
            weights_sha256=digest,
            checkpoint_step=checkpoint.step,
            hybrid=None if hybrid is None else save_hybrid(hybrid, temporary),
        )
        write_model_notes(temporary, notes)
    return digest


def fold_into_model(folder: Path) -> None:
    """Divide the saved classifier by its temperature, which is 1 from then on; does nothing if it is 1 already.

    `tenor.json` records the temperature, the parameters, the time, and the digest of the weights before.

    Raises:
        UserError: the head does not end in one linear layer.
    """
    notes = read_model_notes(folder)
    if notes.temperature == 1.0:
        return
    model, _ = load_saved_classifier(folder)
    parameters = fold_temperature(model, notes.temperature)
    with atomic_path(folder) as temporary:
        shutil.copytree(folder, temporary)
        with quiet_transformers():
            model.save_pretrained(temporary, save_original_format=False)
        folded = {
            "temperature": notes.total_temperature,
            "into": list(parameters),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            # Of the checkpoint itself, whose digest is in the evaluation, even after folding repeatedly.
            "checkpoint_sha256": notes.folded.checkpoint_sha256 or notes.weights_sha256,
        }
        update_model_notes(temporary, temperature=1.0, weights_sha256=sha256_file(temporary / WEIGHTS), folded=folded)
