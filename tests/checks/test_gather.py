"""Evidence gathered from live objects, which stay unchanged."""

import copy
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from transformers import AutoModelForSequenceClassification

from tenor.checks.finding import CannotTell
from tenor.checks.gather.batches import batch_evidence, loader_batches, random_states_kept
from tenor.checks.gather.model import model_evidence, optimizer_evidence, precision_evidence, schedule_evidence
from tenor.checks.gather.model_parts import classifier_config
from tenor.checks.rules.frz import trainable_but_declared_frozen
from tenor.checks.rules.opt_schedule import schedule_ends_early, scheduler_stepped_at_wrong_points
from tenor.data.sources.embedded import embedded_encoder_folder
from tiny_models import fresh_tiny_model, load_tiny

IDS = torch.arange(40).reshape(10, 4)
LABELS = torch.tensor([0, 1] * 5)


def random_states() -> tuple[Any, ...]:
    numpy_state = np.random.get_state(legacy=False)
    return (random.getstate(), str(numpy_state), torch.get_rng_state().tolist())


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Embedding(40, 8), nn.Flatten(), nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 2))


def test_a_transformers_classifier_is_described(tiny_distilbert: Path) -> None:
    loaded = load_tiny(tiny_distilbert)
    evidence = model_evidence(loaded.model, 2, ("negative", "positive"), "base", new_weights=loaded.new_weights)
    assert {p.name.split(".")[0] for p in evidence.parameters if p.in_head} == {"classifier", "pre_classifier"}
    assert (evidence.n_outputs, evidence.pretrained, evidence.id2label) == (2, True, {0: "negative", 1: "positive"})
    assert evidence.declared_frozen == {p.name for p in evidence.parameters if not p.in_head}
    assert trainable_but_declared_frozen(evidence) is not None
    lowest = model_evidence(loaded.model, 2, declared_freeze=1).declared_frozen or frozenset()
    assert any("layer.0" in name for name in lowest)
    assert not any("layer.1" in name for name in lowest)


@pytest.mark.parametrize("wrap", [lambda m: m, nn.DataParallel])
def test_wrapped_and_plain_modules_are_described(wrap: Any) -> None:
    evidence = model_evidence(wrap(plain()), 2, declared_freeze=1)
    assert [p.name for p in evidence.parameters if p.in_head] == ["4.weight", "4.bias"]
    assert (evidence.n_outputs, evidence.id2label, evidence.declared_frozen) == (2, None, None)


def test_an_encoder_inside_a_custom_module_is_not_the_head(tiny_bert: Path) -> None:
    class Mine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = load_tiny(tiny_bert).model.bert
            self.hidden = nn.Linear(32, 16)
            self.out = nn.Linear(16, 3)

    evidence = model_evidence(Mine(), 3)
    assert {p.name.split(".")[0] for p in evidence.parameters if p.in_head and "pooler" not in p.name} == {
        "hidden",
        "out",
    }
    assert evidence.n_outputs == 3


def test_a_module_without_linear_layers_has_no_head() -> None:
    evidence = model_evidence(nn.Sequential(nn.Embedding(4, 2)), 2)
    assert (evidence.n_outputs, [p.in_head for p in evidence.parameters]) == (None, [False])


def test_optimizer_groups_list_parameter_names() -> None:
    model, other = plain(), plain()
    optimizer = torch.optim.AdamW(
        [
            {"params": model[2].parameters(), "peak_lr": 3e-5, "lr": 0.0},
            {"params": other[4].parameters(), "lr": 1e-3},
        ]
    )
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 10)
    evidence = optimizer_evidence(model, optimizer)
    assert [(g.names, g.foreign, g.learning_rate) for g in evidence.groups] == [
        (("2.weight", "2.bias"), 0, 3e-5),
        ((), 2, 1e-3),
    ]
    assert evidence.head == {"4.weight", "4.bias"}
    assert evidence.one_dimensional == {"2.bias", "4.bias"}
    assert evidence.kind == "AdamW"


def test_an_encoder_counts_as_untrained_until_its_first_step(tiny_bert: Path) -> None:
    model = fresh_tiny_model(tiny_bert).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    assert optimizer_evidence(model, optimizer).body_newly_initialized
    model(input_ids=IDS % 100, labels=LABELS % 2).loss.backward()
    optimizer.step()
    assert optimizer_evidence(model, optimizer).body_newly_initialized is False
    assert optimizer_evidence(fresh_tiny_model(embedded_encoder_folder()), optimizer).body_newly_initialized is False


@pytest.mark.parametrize("own_generator", [False, True])
def test_reading_batches_does_not_change_the_training_order(own_generator: bool) -> None:
    def make() -> DataLoader:
        torch.manual_seed(3)
        generator = torch.Generator().manual_seed(1) if own_generator else None
        return DataLoader(TensorDataset(IDS, LABELS), batch_size=3, shuffle=True, generator=generator, drop_last=True)

    untouched = [batch[0].tolist() for batch in make()]
    loader, before = make(), random_states()
    evidence = batch_evidence(loader, 2)
    assert random_states() == before
    assert [batch[0].tolist() for batch in loader] == untouched
    assert [ids.tolist() for ids in evidence.input_ids or ()] == untouched
    assert (evidence.rows_per_epoch, evidence.rows_in_split) == (9, 10)


def test_batches_may_be_dictionaries_with_a_mask() -> None:
    batch = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS), "label": LABELS}
    evidence = batch_evidence([batch], 2)
    assert evidence.attention_mask is not None
    assert evidence.labels[0].tolist() == LABELS.tolist()
    assert set(loader_batches([batch])[0]) == {"input_ids", "attention_mask", "labels"}


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return iter(zip(IDS, LABELS, strict=True))


@pytest.mark.parametrize(
    "loader",
    [iter([(IDS, LABELS)]), DataLoader(iter([(IDS[0], LABELS[0])])), [], [IDS], [{"input_ids": IDS}], 3],  # type: ignore[arg-type]
)
def test_an_unreadable_loader_is_reported_with_a_reason(loader: Any) -> None:
    with pytest.raises(CannotTell, match=r"\w{3}"):
        batch_evidence(loader, 2)


def test_a_restartable_stream_is_read() -> None:
    evidence = batch_evidence(DataLoader(Stream(), batch_size=5), 2)
    assert len(evidence.labels) == 2
    assert evidence.rows_per_epoch is None


def test_a_loader_can_give_the_labels_of_its_whole_epoch() -> None:
    class Loader:
        epoch_labels = np.array([0, 0, 1, 1, 0, 1])

        def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            return iter([(IDS[:2], LABELS[:2])])

    assert batch_evidence(Loader(), 2).epoch_labels is not None
    np.testing.assert_array_equal(batch_evidence(Loader(), 2).epoch_labels, Loader.epoch_labels)  # type: ignore[arg-type]
    np.testing.assert_array_equal(batch_evidence([(IDS, LABELS)], 2).epoch_labels, LABELS)  # type: ignore[arg-type]


def schedulers(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    schedules = torch.optim.lr_scheduler
    return {
        "lambda": schedules.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / 40)),
        "cosine": schedules.CosineAnnealingLR(optimizer, 40),
        "chain": schedules.SequentialLR(
            optimizer, [schedules.LinearLR(optimizer, 0.1, 1.0, 5), schedules.LinearLR(optimizer, 1.0, 0.0, 35)], [5]
        ),
    }


@pytest.mark.parametrize("kind", ["lambda", "cosine", "chain"])
def test_a_scheduler_is_simulated_on_a_copy(kind: str) -> None:
    optimizer = torch.optim.AdamW(plain().parameters(), lr=2e-5)
    scheduler = schedulers(optimizer)[kind]
    before = (copy.deepcopy(optimizer.state_dict()), str(scheduler.state_dict()))
    evidence = schedule_evidence(scheduler, 40, 20)
    assert (optimizer.state_dict(), str(scheduler.state_dict())) == before
    actual = []
    for _ in range(40):
        actual.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    np.testing.assert_array_equal(evidence.factors, np.array(actual) / max(2e-5, *actual))


def test_schedulers_stepped_per_batch_and_per_epoch_are_distinguished() -> None:
    optimizer = torch.optim.AdamW(plain().parameters(), lr=2e-5)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / 40))
    right = schedule_evidence(scheduler, 40, 20, accumulation=4)
    wrong = schedule_evidence(scheduler, 40, 20, accumulation=4, stepped="batch")
    assert scheduler_stepped_at_wrong_points(right) is None
    assert scheduler_stepped_at_wrong_points(wrong) is not None
    assert schedule_ends_early(wrong) is not None
    assert len(set(schedule_evidence(scheduler, 40, 20, stepped="epoch").factors)) == 2


def test_a_scheduler_that_depends_on_a_metric_cannot_be_predicted() -> None:
    optimizer = torch.optim.AdamW(plain().parameters(), lr=2e-5)
    with pytest.raises(CannotTell, match="ReduceLROnPlateau"):
        schedule_evidence(torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer), 40, 20)


def test_float32_is_native_everywhere_and_an_emulated_type_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert precision_evidence("cpu", "fp32").computed_in_hardware
    monkeypatch.setattr("tenor.checks.gather.model.native_bf16", lambda: False)
    emulated = precision_evidence("cpu", "bf16")
    assert emulated.slowdown is not None
    assert not emulated.computed_in_hardware


def test_random_states_are_restored_by_one_thread_at_a_time() -> None:
    """The second block begins after the first has ended, so that neither restores a state from within the other."""
    entered, begun = threading.Event(), threading.Event()
    order: list[str] = []

    def draw(name: str) -> None:
        if name == "second":
            assert entered.wait(60)
            begun.set()
        with random_states_kept():
            entered.set()
            order.append(f"{name} begins")
            if name == "first":
                assert begun.wait(60)
            for _ in range(100):
                torch.rand(3), random.random(), np.random.rand()
            order.append(f"{name} ends")

    before = random_states()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(draw, ("first", "second")))
    assert order == ["first begins", "first ends", "second begins", "second ends"]
    assert random_states() == before


def test_the_configuration_of_an_encoder_inside_a_sentence_transformer_describes_no_outputs(small_bert: Path) -> None:
    class Sentences(nn.Module):
        """As `sentence_transformers` 5 does it: the configuration is that of the encoder."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = AutoModelForSequenceClassification.from_pretrained(small_bert).base_model

        @property
        def config(self) -> Any:
            return self.encoder.config

    classifier = AutoModelForSequenceClassification.from_pretrained(small_bert)
    assert classifier_config(Sentences()) is None
    assert classifier_config(classifier) is classifier.config
