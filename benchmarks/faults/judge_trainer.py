"""A program around `transformers.Trainer` seen through Tenor's callback, and its output folder through diagnosis."""

import contextlib
import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import DataCollatorWithPadding, TrainingArguments

from faults.in_trainer import TrainerProgram, encoded, load_classifier
from faults.judge import PROBE_SECONDS, Verdict
from tenor.checks import diagnose
from tenor.checks.callback import TenorCallback
from tenor.errors import RefusedError


def judge_trainer(program: TrainerProgram) -> Verdict:
    """Run it with the callback under the policy `stop`, then diagnose its output folder."""
    crash = ""
    with tempfile.TemporaryDirectory() as output, contextlib.redirect_stderr(io.StringIO()):
        folder = Path(output)
        callback = TenorCallback(declared_freeze=program.declared_freeze, seconds=PROBE_SECONDS)
        try:
            run(program, folder, [callback])
            program.afterwards(folder)
        except RefusedError:
            pass  # What was found is in the folder.
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError) as error:
            crash = f"{type(error).__name__}: {error}"[:300]
        diagnosis = diagnose(folder)
    found = tuple((finding.stage, finding.code, finding.severity) for finding in diagnosis.findings)
    top = diagnosis.causes[0].code if diagnosis.causes else found[0][1] if found else ""
    return Verdict(found, top, crash)


def run(program: TrainerProgram, folder: Path, callbacks: list[Any]) -> None:
    torch.manual_seed(program.seed)
    tokenizer = program.load_tokenizer(program)
    model = (program.load_model or load_classifier)(program)
    program.prepare(model)
    rows_of = program.rows_of or encoded
    usual = {
        "output_dir": str(folder),
        "num_train_epochs": 1,
        "per_device_train_batch_size": 16,
        "learning_rate": 2e-4,
        "warmup_steps": 4,
        "logging_steps": 4,
        "eval_strategy": "steps",
        "eval_steps": 20,
        "save_steps": 20,
        "load_best_model_at_end": True,
        "metric_for_best_model": "accuracy",
        "save_only_model": True,
        "disable_tqdm": True,
        "report_to": "none",
        "use_cpu": True,
        "seed": program.seed,
    }
    trainer = program.trainer(
        model=model,
        args=TrainingArguments(**{**usual, **program.arguments}),
        train_dataset=rows_of(tokenizer, program.train),
        eval_dataset=rows_of(tokenizer, program.validation),
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=accuracy,
        callbacks=callbacks,
        **program.more(model, program),
    )
    trainer.train()
    trainer.save_state()
    trainer.save_metrics("eval", trainer.evaluate())


def accuracy(predictions: Any) -> Mapping[str, float]:
    logits = predictions.predictions
    return {"accuracy": float(np.mean(np.argmax(logits, axis=-1) == predictions.label_ids))}
