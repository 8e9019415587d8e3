"""Predictions of several threads at a time are those of one after the other, and leave the process as it was."""

import csv
import logging
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from overlapping import in_a_new_thread, in_turns
from tenor.data.files.dialect import fields_up_to
from tenor.inference.onnx_files import write_onnx
from tenor.inference.predictor import Predictor
from tenor.measures.objective import class_probabilities
from tenor.model.classifier import load_saved_classifier, quiet_transformers

TEXTS = [f"film was {word} {'and scene ' * (n % 6)}" for n, word in enumerate(("dull", "superb", "movie", "12") * 12)]


@pytest.fixture
def two_threads(small_classifier: Path) -> Predictor:
    return Predictor.load(small_classifier, engine="torch", device="cpu", threads=2)


def test_each_gets_its_own_texts_predictions(two_threads: Predictor) -> None:
    expected = two_threads.probabilities(TEXTS)
    turned = [TEXTS[start:] + TEXTS[:start] for start in range(0, 48, 8)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(two_threads.probabilities, turned))
    for start, probabilities in zip(range(0, 48, 8), found, strict=True):
        np.testing.assert_allclose(probabilities, np.roll(expected, -start, axis=0), atol=1e-6, rtol=0)


def test_new_threads_compute_with_as_many_threads_as_before(two_threads: Predictor) -> None:
    meeting = threading.Barrier(4, timeout=60)

    def predict(_: int) -> None:
        meeting.wait()
        for _ in range(4):
            two_threads.predict(TEXTS)

    assert in_a_new_thread(torch.get_num_threads) == 2
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(predict, range(4)))
    assert in_a_new_thread(torch.get_num_threads) == 2


def verbosity() -> tuple[int, bool]:
    from transformers.utils import logging as transformers_logging

    return transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()


def together(work: Callable[[], Any], times: int) -> None:
    """Run the work in as many threads, begun at the same moment."""
    meeting = threading.Barrier(times, timeout=60)

    def run(_: int) -> None:
        meeting.wait()
        work()

    with ThreadPoolExecutor(times) as pool:
        list(pool.map(run, range(times)))


def test_loading_at_a_time_leaves_transformers_as_loud_as_before(small_classifier: Path) -> None:
    before = verbosity()

    def load() -> None:
        for _ in range(3):
            model, _ = load_saved_classifier(small_classifier)
            assert all(p.device.type == "cpu" and not p.isnan().any() for p in model.parameters())

    together(load, 4)
    assert verbosity() == before
    inside: list[bool] = []

    def quiet() -> None:
        for _ in range(100):
            with quiet_transformers():
                inside.append(verbosity() == (logging.ERROR, False))

    together(quiet, 4)
    assert verbosity() == before
    assert all(inside)


@pytest.mark.slow
def test_exports_at_a_time_leave_warnings_and_logging_as_before(small_classifier: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    filters, disabled, out = list(warnings.filters), logging.root.manager.disable, __import__("sys").stdout
    numbers = iter(range(2))

    def export() -> None:
        model, _ = load_saved_classifier(small_classifier)
        write_onnx(model, tmp_path / f"{next(numbers)}.onnx")

    together(export, 2)
    assert list(warnings.filters) == filters
    assert logging.root.manager.disable == disabled
    assert __import__("sys").stdout is out


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_files_read_at_a_time_leave_the_limit_of_a_field(first_ends_first: bool) -> None:
    before = csv.field_size_limit()
    seen = in_turns(lambda: fields_up_to(10**6), lambda: fields_up_to(10**7), csv.field_size_limit, first_ends_first)
    # The longer file's limit holds as long as it is read.
    assert seen[0] == 10**6
    assert seen[1] == 10**7
    assert seen[2] >= (10**7 if first_ends_first else 10**6)
    assert seen[3] == before


def test_engines_agree_at_a_time(small_classifier: Path) -> None:
    pytest.importorskip("onnxruntime")
    predictor = Predictor.load(small_classifier, engine="onnx", device="cpu", threads=2)
    expected = predictor.probabilities(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(predictor.probabilities, [TEXTS] * 8):
            np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)
    np.testing.assert_allclose(class_probabilities(np.log(expected)), expected, atol=1e-9)
