"""Training tasks small enough for tests: rows whose class is given by one token, and a two-layer model."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tenor.config.schema import Model, Training
from tenor.data.batching import TokenExamples
from tenor.data.tokenization import TokenizedText
from tenor.inference.logits import token_logits
from tenor.measures.objective import make_objective
from tenor.model.classifier import load_classifier
from tenor.model.device import plan_device
from tenor.model.freezing import freeze
from tenor.model.speed import use_word_dropout
from tenor.training.checkpoint import Checkpoint, TrainState
from tenor.training.loop import Callbacks, fit
from tenor.training.task import TrainingTask
from tenor.workflows.prepare import make_accelerator

CLS, SEP = 1, 2
WORDS = range(10, 500)
CLASS_TOKEN = 550
VOCABULARY = 600

NO_DROPOUT = {"dropout": 0.0}


def token_rows(count: int, seed: int = 0, classes: int = 2) -> TokenizedText:
    """`count` rows of 6 to 20 tokens; the token `CLASS_TOKEN` + class is somewhere in each."""
    random = np.random.default_rng(seed)
    lengths = random.integers(6, 21, count).astype(np.int32)
    labels = (np.arange(count) % classes).astype(np.int64)
    ids = []
    for length, label in zip(lengths, labels, strict=True):
        row = random.integers(WORDS.start, WORDS.stop, length)
        row[0], row[-1] = CLS, SEP
        row[random.integers(1, length - 1)] = CLASS_TOKEN + label
        ids.append(row.astype(np.int32))
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return TokenizedText(((np.concatenate(ids), starts),), lengths, lengths, labels)


def make_task(
    folder: Path,
    checkpoints: Path,
    rows: int = 44,
    classes: int = 2,
    model: dict[str, Any] | None = None,
    token_budget: int = 100,
    seed: int = 3,
    **training: Any,
) -> TrainingTask:
    """A task on one thread; a token budget of 100 cuts most batches of eight rows."""
    settings = Training(**{"batch_size": 8, "learning_rate": 1e-3, "log_every": 3, **training})
    model_settings = Model(name=str(folder), **(model or {}))
    names = tuple(f"class {k}" for k in range(classes))
    plan = plan_device("cpu", "fp32", 1, token_budget, 200)
    classifier = load_classifier(model_settings, names, seed, plan.device)
    classifier.model.resize_token_embeddings(VOCABULARY, mean_resizing=False)
    use_word_dropout(classifier.model)
    train = TokenExamples(token_rows(rows, 0, classes), 0)
    return TrainingTask(
        model=classifier.model,
        parameters=freeze(classifier.model, model_settings),
        forward=token_logits,
        train=train,
        validation=TokenExamples(token_rows(16, 1, classes), 0),
        objective=make_objective(settings, train.labels, names),
        settings=settings,
        seed=seed,
        plan=plan,
        checkpoints=checkpoints,
    )


def run_task(
    task: TrainingTask, resume_from: Checkpoint | None = None, callbacks: Callbacks | None = None
) -> TrainState:
    """`fit` with an accelerator of its own."""
    return fit(task, make_accelerator(task.plan), resume_from, callbacks)


def weights(task: TrainingTask) -> dict[str, torch.Tensor]:
    """A copy of every tensor."""
    return {name: tensor.detach().clone() for name, tensor in task.model.state_dict().items()}


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    """The names of the tensors that are not bit-identical."""
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


def without_timings(state: TrainState) -> dict[str, Any]:
    """All that a state holds and that doesn't depend on the clock."""
    values = dataclasses.asdict(state)
    del values["window"]["seconds"], values["seconds"]
    return values


class Cut(Exception):
    """What ends a run in tests, as a killed process would: no code of the loop expects it."""


def cut_after(step: int) -> Callbacks:
    """Callbacks that end the run after that step, with nothing written for it."""

    def on_step(state: TrainState) -> None:
        if state.step == step:
            raise Cut

    return Callbacks(on_step=on_step)
