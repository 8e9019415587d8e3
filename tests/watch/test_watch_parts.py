"""Parts of `tenor watch` that need no program."""

import random
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence
from tenor.checks.rules.evl_claims import predictions_contradict_metrics
from tenor.watch.evaluations import Evaluations, SeenEvaluation, reported
from tenor.watch.heard_rows import SeenRows
from tenor.watch.imports import when_imported
from tenor.watch.patches import observe, own_work
from tenor.watch.settings import WatchSettings
from tenor.watch.unnoticed import random_objects_kept
from tenor.watch.weak_list import WeakList


def test_an_action_follows_the_import_of_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "late_module.py").write_text("VALUE = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    seen = []
    when_imported("late_module", lambda module: seen.append(module.VALUE))
    assert not seen
    import late_module  # type: ignore[import-not-found]

    assert seen == [7]
    assert isinstance(late_module.__loader__, SourceFileLoader)
    assert late_module.__spec__.loader is late_module.__loader__
    when_imported("late_module", lambda module: seen.append(module.VALUE))
    assert seen == [7, 7]


def test_a_module_that_was_looked_for_is_hooked_when_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `datasets` looks for torch without importing it."""
    (tmp_path / "sought_module.py").write_text("VALUE = 8\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    seen = []
    when_imported("sought_module", lambda module: seen.append(module.VALUE))
    assert find_spec("sought_module") is not None
    assert not seen
    import sought_module  # type: ignore[import-not-found]  # noqa: F401

    assert seen == [8]


def test_an_observed_function_returns_what_it_returned(capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[int, int]] = []
    owner = SimpleNamespace(double=lambda x: 2 * x, halve=lambda x: x / 2)
    observe(owner, "double", lambda result, x: seen.append((result, x)))
    observe(owner, "halve", lambda result, x: 1 / 0)
    assert owner.double(3) == 6
    with own_work():
        assert owner.double(4) == 8
    assert seen == [(6, 3)]
    assert owner.halve(4) == owner.halve(4) == 2
    assert capfd.readouterr().err.count("ZeroDivisionError") == 1


def test_generators_of_the_programs_own_objects_are_restored() -> None:
    own = {"a": np.random.default_rng(0), "b": np.random.RandomState(0), "c": random.Random(0)}
    sampler = SimpleNamespace(generator=torch.Generator().manual_seed(0))
    loader = SimpleNamespace(dataset=SimpleNamespace(**own), sampler=sampler, collate_fn=lambda rows: own["a"])

    def drawn() -> tuple[object, ...]:
        values = (own["a"].random(), own["b"].rand(), own["c"].random())
        return (*values, torch.rand(1, generator=sampler.generator).item())

    with random_objects_kept(loader):
        first = drawn()
        assert drawn() != first
    assert drawn() == first


def test_settings_travel_through_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = WatchSettings(tmp_path / "a b", "error", 2.5, {"OPT005": "known, 'accepted'"})
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert WatchSettings.from_environment() == settings


def test_a_weak_list_keeps_nothing_alive() -> None:
    kept, lost = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    both = WeakList()
    both.add(kept)
    both.add(lost)
    both.add(kept)
    del lost
    assert list(both) == [kept]


def test_rows_are_kept_without_their_padding() -> None:
    rows = SeenRows()
    ids, mask = torch.tensor([[5, 6, 0], [7, 0, 0]]), torch.tensor([[1, 1, 0], [1, 0, 0]])
    rows.add((), {"input_ids": ids, "attention_mask": mask}, torch.tensor([1, 0]))
    rows.add((torch.rand(2, 3),), {}, torch.tensor([1, 0]))
    assert [row.tolist() for row in rows.ids] == [[5, 6], [7]]
    assert rows.labels.tolist() == [1, 0]


def test_logits_give_predictions_and_a_metric_overrules_them() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 1.0]])
    heard = SeenEvaluation(0, logits=[logits], heard_labels=[np.array([0, 1, 0])])
    split = reported(heard)
    assert split is not None
    assert split.predicted is not None
    assert split.predicted.tolist() == [0, 1, 1]
    heard.labels, heard.predicted = np.array([0, 1, 0]), np.array([1, 0, 0])
    split = reported(heard)
    assert split is not None
    assert split.predicted is not None
    assert split.probabilities is not None
    assert split.predicted.tolist() == [1, 0, 0]
    np.testing.assert_allclose(split.probabilities[0], [0.8808, 0.1192], atol=1e-4)
    assert reported(SeenEvaluation(0, logits=[logits], heard_labels=[None])) is None


def test_a_call_belongs_to_the_batch_with_its_tokens() -> None:
    from tenor.watch.observer import Observer

    observer = Observer()
    mask = torch.ones(2, 3, dtype=torch.long)
    batches = [
        {"input_ids": torch.full((2, 3), 5 + k), "mask": mask.clone(), "labels": torch.tensor([k, k])} for k in (0, 1)
    ]
    for batch in batches:
        observer.on_batch(torch.nn.Identity(), batch)
    for number in (0, 1):
        given = {"input_ids": batches[number]["input_ids"].clone(), "attention_mask": mask.clone()}
        _, batch, _, is_from_batch = observer._batch_of((), given)
        assert is_from_batch
        assert batch["labels"].tolist() == [number, number]
    assert observer._batch_of((torch.rand(2, 3),), {})[3] is False


@pytest.mark.parametrize(("reported_accuracy", "contradicts"), [(0.75, True), (0.5, False)])
def test_batches_whose_metric_was_computed_alone_are_one_evaluation(
    reported_accuracy: float, contradicts: bool
) -> None:
    """As with `batch_eval_metrics` of `transformers.Trainer`, where the last batch may be reported as the whole."""
    evaluations = Evaluations(SimpleNamespace(trainings=[]))  # type: ignore[arg-type]
    loader = object()
    for labels in (torch.tensor([0, 1, 1, 1] * 8), torch.tensor([0, 0, 0, 1] * 8)):
        logits = torch.tensor([[1.0, 0.0]] * len(labels))
        evaluations.on_call(torch.nn.Identity(), (), {"labels": labels}, logits, loader, None)
        evaluations.on_metric(labels, logits.argmax(1), None)
    assert len(evaluations.all) == 2
    evaluations.on_reported(reported_accuracy)
    (whole,) = evaluations.all
    split = reported(whole)
    assert split is not None
    assert (split.n, split.accuracy) == (64, reported_accuracy)
    found = predictions_contradict_metrics(EvaluationEvidence({"evaluation": split}, 2))
    assert (found is not None) == contradicts
