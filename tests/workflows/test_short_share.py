"""`training.short_share`, from the configuration to the loop."""

from pathlib import Path

import numpy as np

from small_runs import quiet, small_config
from tenor.data.tokenization import Truncation, tokenize
from tenor.workflows.prepare import make_examples, make_task, prepare

LENGTH = ("data.max_length=12", "data.truncation=head_tail")


def test_short_texts_are_those_that_half_the_length_would_keep(small_model: Path, tmp_path: Path) -> None:
    prepared = prepare(small_config(tmp_path, small_model, *LENGTH, "training.short_share=0.5"))
    task = make_task(prepared, *make_examples(prepared, quiet()), tmp_path)
    truncation = Truncation(6, "head_tail", prepared.config.data.head_share)
    expected = tokenize(prepared.splits.train, prepared.classifier.tokenizer, truncation)
    assert task.short_train is not None
    np.testing.assert_array_equal(task.short_train.lengths, expected.lengths)
    rows = np.arange(len(expected))
    for row, ids, mask in zip(rows, *task.short_train.collate(rows).inputs.values(), strict=True):
        np.testing.assert_array_equal(ids[mask.bool()].numpy(), expected.row(int(row)))
    assert task.short_train.lengths.max() < task.train.lengths.max()


def test_without_a_share_no_step_sees_them(small_model: Path, tmp_path: Path) -> None:
    prepared = prepare(small_config(tmp_path, small_model, *LENGTH))
    task = make_task(prepared, *make_examples(prepared, quiet()), tmp_path)
    assert task.at(0) is task
