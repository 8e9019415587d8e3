"""The first steps of a run see half of each text, the others all of it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tenor.data.batching import epoch_batches
from tenor.data.tokenization import Shortened, Truncation
from tenor.training.checkpoint import list_checkpoints, verify_checkpoint
from tenor.training.loop import Callbacks
from tenor.training.task import TrainingTask
from training_tasks import Cut, cut_after, differing, make_task, run_task, weights

SHORT = 6


def _task(folder: Path, checkpoints: Path, share: float) -> TrainingTask:
    task = make_task(folder, checkpoints, epochs=2, log_every=1, checkpoint_every=2, short_share=share)
    short = Shortened(task.train.tokens, Truncation(SHORT, "head", 0.5), (1, 1))  # type: ignore[attr-defined]
    return dataclasses.replace(task, short_train=dataclasses.replace(task.train, tokens=short))  # type: ignore[type-var]


@pytest.mark.parametrize(("share", "short_steps"), [(0.0, 0), (0.4, 5), (1.0, 12)])
def test_the_share_decides_which_steps(share: float, short_steps: int, small_model: Path, tmp_path: Path) -> None:
    task, seen = _task(small_model, tmp_path, share), []
    run_task(task, callbacks=Callbacks(on_record=lambda step, values, window: seen.append(window.tokens)))
    expected = []
    for epoch in range(2):
        for rows in epoch_batches(task.train.lengths, task.settings.batch_size, task.seed, epoch):
            lengths = task.train.lengths[rows]
            expected.append(int((np.minimum(lengths, SHORT) if len(expected) < short_steps else lengths).sum()))
    assert seen == expected


@pytest.mark.parametrize("cut_at", [3, 9])
def test_an_interrupted_run_resumes_to_the_same_weights(cut_at: int, small_model: Path, tmp_path: Path) -> None:
    whole, cut, resumed = (_task(small_model, tmp_path / name, 0.5) for name in ("whole", "cut", "cut"))
    run_task(whole)
    with pytest.raises(Cut):
        run_task(cut, callbacks=cut_after(cut_at))
    run_task(resumed, verify_checkpoint(list_checkpoints(cut.checkpoints)[-1]))
    assert differing(weights(whole), weights(resumed)) == []
