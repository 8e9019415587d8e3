"""The watchdog in a hand-written loop: silent where all is well, and quick to name what is not."""

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from tenor.checks import Watchdog
from tenor.checks.finding import Finding
from tenor.errors import RefusedError
from tiny_models import fresh_tiny_model


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 16))
        self.classifier = nn.Linear(16, 2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.relu(self.body(features)))


def batches(n: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(n):
        features = torch.randn(16, 8, generator=generator)
        yield features, (features[:, 0] > 0).long()


def run(model: nn.Module, watchdog: Watchdog, steps: int = 60, rate: float = 3e-3, clear: bool = True) -> None:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    watchdog.watch(optimizer)
    for features, labels in batches(steps):
        logits = model(features)
        loss = nn.functional.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        if clear:
            optimizer.zero_grad()
        watchdog.step(loss)


def codes(watchdog: Watchdog) -> set[str]:
    return {finding.code for finding in watchdog.report.findings}


@pytest.fixture
def model() -> Small:
    torch.manual_seed(0)
    return Small()


def test_a_healthy_loop_is_left_alone(model):
    watchdog = Watchdog(model, n_classes=2, total_steps=60)
    run(model, watchdog)
    model.eval()
    watchdog.validation()
    assert codes(watchdog) == set()
    assert {"LOS007", "OPT012", "OPT021", "FRZ004", "EVL012"} <= set(watchdog.report.checked)


def test_a_frozen_body_and_a_learning_head_are_healthy(model):
    model.body.requires_grad_(False)
    watchdog = Watchdog(model, n_classes=2, total_steps=60)
    run(model, watchdog)
    watchdog.check_weights()
    assert codes(watchdog) == set()


def test_gradients_that_are_not_cleared_stop_the_loop(model):
    with pytest.raises(RefusedError, match="OPT012"):
        run(model, Watchdog(model, n_classes=2), clear=False)


def test_a_loss_that_is_no_number_stops_the_loop_at_once(model):
    watchdog = Watchdog(model, n_classes=2)
    watchdog.step(0.69)
    with pytest.raises(RefusedError, match="LOS007"):
        watchdog.step(float("nan"))


def test_frozen_weights_that_move_are_found(model):
    model.body.requires_grad_(False)
    watchdog = Watchdog(model, n_classes=2)
    run(model, watchdog, steps=20)
    with torch.no_grad():
        model.body[0].weight.add_(1e-3)
    with pytest.raises(RefusedError, match="FRZ004"):
        watchdog.check_weights()


def test_weights_left_out_of_the_optimizer_never_move(model):
    optimizer = torch.optim.AdamW(model.body.parameters(), lr=1e-3)
    watchdog = Watchdog(model, optimizer, n_classes=2)
    for features, labels in batches(30):
        loss = nn.functional.cross_entropy(model(features), labels)
        loss.backward()
        optimizer.step()
        model.zero_grad()
        watchdog.step(loss)
    with pytest.raises(RefusedError, match="OPT021"):
        watchdog.check_weights()


def test_validation_with_dropout_on_is_found(model):
    watchdog = Watchdog(model, n_classes=2)
    run(model, watchdog, steps=20)
    with pytest.raises(RefusedError, match="EVL012"):
        watchdog.validation()


def test_to_warn_goes_on_and_an_allowance_silences(model):
    heard = []
    watchdog = Watchdog(model, n_classes=2, policy="warn", on_finding=heard.append)
    run(model, watchdog, steps=40, clear=False)
    assert [finding.code for finding in heard].count("OPT012") == 1, "told once"
    torch.manual_seed(0)
    other = Small()
    allowed = Watchdog(other, n_classes=2, allow={"OPT012": "summed on purpose"})
    run(other, allowed, steps=40, clear=False)
    assert next(f for f in allowed.report.findings if f.code == "OPT012").allowed == "summed on purpose"


def test_it_changes_nothing(model):
    torch.manual_seed(1)
    watched, free = Small(), Small()
    free.load_state_dict(watched.state_dict())
    for subject in (watched, free):
        torch.manual_seed(2)
        if subject is watched:
            run(subject, Watchdog(subject, n_classes=2), steps=15)
        else:
            optimizer = torch.optim.AdamW(subject.parameters(), lr=3e-3)
            for features, labels in batches(15):
                nn.functional.cross_entropy(subject(features), labels).backward()
                optimizer.step()
                optimizer.zero_grad()
    for one, other in zip(watched.parameters(), free.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_it_hears_is_what_happened(model):
    watchdog = Watchdog(model, n_classes=2, every=5)
    run(model, watchdog, steps=20, rate=3e-3)
    evidence = watchdog._evidence
    expected = sum(torch.bincount(labels, minlength=2) for _, labels in batches(20))
    assert evidence.label_counts.sum(axis=0).tolist() == expected.tolist()
    assert evidence.predicted_counts.sum() == 20 * 16
    assert evidence.learning_rate.tolist() == [3e-3] * 4
    assert (evidence.update_ratio > 0).all()
    assert evidence.backward_ratio == pytest.approx(1.0, rel=1e-4)
    assert evidence.skipped_steps.sum() == 0


@pytest.mark.parametrize(("reduction", "parts", "ratio"), [("mean", 4, 4.0), ("sum", 1, 16.0), ("mean", 1, 1.0)])
def test_the_scale_of_the_loss_is_heard(model, reduction, parts, ratio):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    watchdog = Watchdog(model, optimizer, policy="warn", every=5)
    for features, labels in batches(10):
        for _ in range(parts):
            nn.functional.cross_entropy(model(features), labels, reduction=reduction).backward()
        optimizer.step()
        optimizer.zero_grad()
        watchdog.step(0.69)
    assert watchdog._evidence.backward_ratio == pytest.approx(ratio, rel=1e-3)
    assert watchdog._evidence.parts_per_step == parts
    assert ("OPT022" in codes(watchdog)) == (parts == 4)


@pytest.mark.parametrize("unscaled_first", [True, False])
def test_clipping_before_unscaling_is_found(model, unscaled_first):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cpu")
    watchdog = Watchdog(model, optimizer, clip_at=0.05, policy="warn")
    for features, labels in batches(20):
        loss = nn.functional.cross_entropy(model(features), labels)
        scaler.scale(loss).backward()
        if unscaled_first:
            scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        watchdog.step(loss)
    assert ("OPT014" in codes(watchdog)) != unscaled_first


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("done", [0, 500])
def test_steps_that_loss_scaling_skips_are_counted_from_the_first_on(model, fused, done):
    """A fused optimizer is called for them too; their infinite norms are how the scale is found, and no fault."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=3e38)
    watchdog = Watchdog(model, optimizer, every=5, done=done)
    norms, skipped = [], 0
    for features, labels in batches(20):
        loss = 1000 * nn.functional.cross_entropy(model(features), labels)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), 1.0)))
        if len(norms) == 1:
            assert not np.isfinite(norms[0])
            norms[0] = float("inf")  # Here it is NaN, in a deeper model one as often as the other.
        before = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        skipped += scaler.get_scale() < before
        optimizer.zero_grad()
        watchdog.step(loss, grad_norm=norms[-1])
    assert watchdog.evidence.skipped_steps.sum() == skipped > 0
    assert watchdog.evidence.skipped_steps[0] > 0
    assert watchdog.evidence.steps.tolist() == [done + 5, done + 10, done + 15, done + 20]
    assert not np.isfinite(norms).all()


@pytest.mark.parametrize("fused", [True, False])
def test_a_resumed_loop_counts_skipped_steps_from_its_cut_on(model, fused):
    """As a run of Tenor does it: what was noted comes first, the optimizer after."""
    watchdog = Watchdog(model, total_steps=2000, every=5)
    watchdog.go_on(1000, [{"steps": 1000, "loss": 0.5, "skipped_steps": 3}], ())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused)
    watchdog.watch(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=4096.0)
    for step, (features, labels) in enumerate(batches(10), start=1001):
        loss = nn.functional.cross_entropy(model(features), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        if step % 5 == 0:
            watchdog.record(step, loss=loss.item())
    assert watchdog.evidence.skipped_steps.tolist() == [3, 0, 0]


def test_a_plan_goes_by_the_calls_of_a_fused_optimizer(model):
    """The scheduler is stepped after every call, those included that loss scaling makes without effect."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=20)
    watchdog = Watchdog(model, optimizer, scheduler=scheduler, total_steps=20, every=1)
    scaler = torch.amp.GradScaler("cpu", init_scale=3e38)
    for features, labels in batches(20):
        loss = 1000 * nn.functional.cross_entropy(model(features), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        watchdog.step(loss)
        scheduler.step()
        optimizer.zero_grad()
    assert watchdog.evidence.skipped_steps.sum() > 2
    assert watchdog.evidence.planned_rate.tolist() == watchdog.evidence.learning_rate.tolist()


def test_a_scheduler_that_is_stepped_twice_is_off_its_plan(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=80)
    watchdog = Watchdog(model, optimizer, scheduler=scheduler, total_steps=80, policy="warn")
    for features, labels in batches(80):
        loss = nn.functional.cross_entropy(model(features), labels)
        loss.backward()
        optimizer.step()
        scheduler.step()
        scheduler.step()
        optimizer.zero_grad()
        watchdog.step(loss)
    assert "OPT019" in codes(watchdog)


def test_a_forward_pass_with_dropout_outside_training_is_heard(model):
    watchdog = Watchdog(model, policy="warn")
    run(model, watchdog, steps=10)
    with torch.no_grad():
        model(torch.zeros(4, 8))
    watchdog.check_weights()
    run(model, watchdog, steps=10)
    assert "EVL012" in codes(watchdog)


def test_a_gradient_that_is_no_number_is_heard(model):
    watchdog = Watchdog(model, torch.optim.AdamW(model.parameters()), every=2)
    watchdog.step(0.7, grad_norm=float("nan"))
    with pytest.raises(RefusedError, match="LOS007"):
        watchdog.step(0.7, grad_norm=1.0)


def test_a_copy_of_a_watched_model_is_not_listened_to(model):
    watchdog = Watchdog(model)
    other = copy.deepcopy(model)
    run(other, Watchdog(other), steps=5)
    assert not watchdog._hooks.passes


def test_a_warning_that_became_an_error_stops_the_loop(model):
    heard = []
    watchdog = Watchdog(model, n_classes=2, total_steps=1_000, on_finding=heard.append)
    flat = {"predicted_counts": [32, 0], "label_counts": [16, 16]}
    for step in range(10, 510, 10):
        watchdog.record(step, loss=0.6931, **flat)
    with pytest.raises(RefusedError, match="LOS012"):
        watchdog.record(510, loss=0.6931, **flat)
    assert [(one.code, one.severity) for one in heard if one.code == "LOS012"] == [
        ("LOS012", "warning"),
        ("LOS012", "error"),
    ]


def test_an_encoder_drawn_at_random_is_known_as_such(tiny_bert):
    model = fresh_tiny_model(tiny_bert)
    assert Watchdog(model).evidence.fresh_body
    with torch.no_grad():
        model.bert.encoder.layer[0].output.LayerNorm.weight[0] += 0.1
    assert Watchdog(model).evidence.fresh_body is False


def rising_again(n: int = 60) -> list[dict[str, float]]:
    """Records of a loss that starts low, falls, and ends far above its best and no further than its start."""
    losses = np.concatenate([np.full(n // 3, 0.69), np.full(n // 3, 0.1), np.full(n - 2 * (n // 3), 0.65)])
    noise = np.random.default_rng(0).normal(0.0, 0.01, n)
    return [{"loss": float(loss), "grad_norm": 200.0, "learning_rate": 1e-3} for loss in losses + noise]


def watch_records(model: Small, heard: list[Finding], records: list[dict[str, float]], first: int = 1) -> Watchdog:
    watchdog = Watchdog(model, n_classes=2, clip_at=1.0, on_finding=heard.append)
    for step, values in enumerate(records, start=first):
        watchdog.record(10 * step, **values)
    return watchdog


@pytest.mark.parametrize("cut", [1, 9, 10, 11, 30, 41, 50, 55, 59, 60])
def test_a_watchdog_that_goes_on_finds_what_one_that_never_stopped_does(model, cut):
    records, told_whole, told = rising_again(), [], []
    whole = watch_records(model, told_whole, records)
    assert {(one.code, one.severity) for one in whole.report.findings} >= {("LOS008", "warning"), ("OPT013", "warning")}
    watch_records(model, told, records[:cut])
    resumed = Watchdog(model, n_classes=2, clip_at=1.0, on_finding=told.append)
    resumed.go_on(10 * cut, [{"steps": 10 * (i + 1), **one} for i, one in enumerate(records[:cut])], tuple(told))
    for step, values in enumerate(records[cut:], start=cut + 1):
        resumed.record(10 * step, **values)
    assert told == told_whole, "each once, in the same words"
    assert resumed.report == whole.report


def test_without_what_was_before_the_cut_a_warning_would_be_an_error(model):
    """Why it is given: the loss ends no higher than the run began, but higher than what is left of it does."""
    with pytest.raises(RefusedError, match="LOS008"):
        watch_records(model, [], rising_again()[25:], first=26)


def test_what_the_hooks_hear_goes_on(model):
    """Cut between two records, and resumed: the same series as without the cut."""
    torch.manual_seed(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    watchdog = Watchdog(model, optimizer, n_classes=2, policy="warn", every=10)
    resumed = None
    for step, (features, labels) in enumerate(batches(40), start=1):
        loss = nn.functional.cross_entropy(model(features), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        for one in (watchdog, resumed) if resumed else (watchdog,):
            if step % 10 == 0:
                one.record(step, loss=loss.item())
        if step == 25:
            noted = watchdog.evidence
            resumed = Watchdog(model, optimizer, n_classes=2, policy="warn", every=10)
            names = ("steps", "loss", "learning_rate", "update_ratio", "skipped_steps")
            resumed.go_on(25, [{name: getattr(noted, name)[i].item() for name in names} for i in range(2)], ())
    for name in names:
        assert getattr(resumed.evidence, name).tolist() == getattr(watchdog.evidence, name).tolist(), name
    assert resumed.last_step == 40
