"""The watchdog in a hand-written loop: no findings for a healthy loop, an early finding for a faulty one."""

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from tenor.checks import Watchdog
from tenor.errors import RefusedError
from tenor.runs.findings import Finding
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


def test_a_healthy_loop_has_no_findings(model):
    watchdog = Watchdog(model, n_classes=2, total_steps=60)
    run(model, watchdog)
    model.eval()
    watchdog.validation()
    assert codes(watchdog) == set()
    assert {"LOS007", "OPT012", "OPT021", "FRZ004", "EVL012"} <= set(watchdog.report.checked)


def test_a_frozen_body_with_a_trainable_head_is_healthy(model):
    model.body.requires_grad_(False)
    watchdog = Watchdog(model, n_classes=2, total_steps=60)
    run(model, watchdog)
    watchdog.check_weights()
    assert codes(watchdog) == set()


def test_gradients_that_are_not_cleared_stop_the_loop(model):
    with pytest.raises(RefusedError, match="OPT012"):
        run(model, Watchdog(model, n_classes=2), clear=False)


def test_a_loss_of_nan_stops_the_loop_at_once(model):
    watchdog = Watchdog(model, n_classes=2)
    watchdog.step(0.69)
    with pytest.raises(RefusedError, match="LOS007"):
        watchdog.step(float("nan"))


def test_frozen_weights_that_change_are_reported(model):
    model.body.requires_grad_(False)
    watchdog = Watchdog(model, n_classes=2)
    run(model, watchdog, steps=20)
    with torch.no_grad():
        model.body[0].weight.add_(1e-3)
    with pytest.raises(RefusedError, match="FRZ004"):
        watchdog.check_weights()


def test_weights_missing_from_the_optimizer_are_reported(model):
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


def test_validation_with_dropout_is_reported(model):
    watchdog = Watchdog(model, n_classes=2)
    run(model, watchdog, steps=20)
    with pytest.raises(RefusedError, match="EVL012"):
        watchdog.validation()


def test_the_policy_warn_and_allowed_findings_do_not_stop_the_loop(model):
    reported = []
    watchdog = Watchdog(model, n_classes=2, policy="warn", on_finding=reported.append)
    run(model, watchdog, steps=40, clear=False)
    assert [finding.code for finding in reported].count("OPT012") == 1, "reported once"
    torch.manual_seed(0)
    other = Small()
    allowed = Watchdog(other, n_classes=2, allow={"OPT012": "summed on purpose"})
    run(other, allowed, steps=40, clear=False)
    assert next(f for f in allowed.report.findings if f.code == "OPT012").allowed == "summed on purpose"


def test_the_watchdog_does_not_change_the_training(model):
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


def test_the_hooks_measure_what_happened(model):
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
def test_the_scale_of_the_loss_is_measured(model, reduction, parts, ratio):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    watchdog = Watchdog(model, optimizer, policy="warn", every=5)
    for features, labels in batches(10):
        for x, y in zip(features.chunk(parts), labels.chunk(parts), strict=True):
            nn.functional.cross_entropy(model(x), y, reduction=reduction).backward()
        optimizer.step()
        optimizer.zero_grad()
        watchdog.step(0.69)
    assert watchdog._evidence.backward_ratio == pytest.approx(ratio, rel=1e-3)
    assert watchdog._evidence.parts_per_step == parts
    assert ("OPT022" in codes(watchdog)) == (parts == 4)


@pytest.mark.parametrize("unscaled_first", [True, False])
def test_clipping_before_unscaling_is_reported(model, unscaled_first):
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
def test_steps_skipped_by_loss_scaling_are_counted_from_the_first_step(model, fused, done):
    """A fused optimizer is called for them too; their infinite norms reveal the scale and are not a fault."""
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
            norms[0] = float("inf")  # It is NaN here; deeper models have both equally often.
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
def test_a_resumed_loop_counts_skipped_steps_from_its_interruption(model, fused):
    """As in a run of Tenor: the records are restored first, then the optimizer is attached."""
    watchdog = Watchdog(model, total_steps=2000, every=5)
    watchdog.resume(1000, [{"steps": 1000, "loss": 0.5, "skipped_steps": 3}], ())
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


def test_the_plan_follows_the_calls_of_a_fused_optimizer(model):
    """The scheduler is stepped after every call, including those that loss scaling turns into no-ops."""
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


def test_a_scheduler_stepped_twice_is_reported(model):
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


def test_a_forward_pass_with_dropout_outside_training_is_reported(model):
    watchdog = Watchdog(model, policy="warn")
    run(model, watchdog, steps=10)
    with torch.no_grad():
        model(torch.zeros(4, 8))
    watchdog.check_weights()
    run(model, watchdog, steps=10)
    assert "EVL012" in codes(watchdog)


def test_a_gradient_norm_of_nan_is_reported(model):
    watchdog = Watchdog(model, torch.optim.AdamW(model.parameters()), every=2)
    watchdog.step(0.7, grad_norm=float("nan"))
    with pytest.raises(RefusedError, match="LOS007"):
        watchdog.step(0.7, grad_norm=1.0)


def test_a_copy_of_a_watched_model_is_not_observed(model):
    watchdog = Watchdog(model)
    other = copy.deepcopy(model)
    run(other, Watchdog(other), steps=5)
    assert not watchdog._hooks.passes


def test_a_warning_that_became_an_error_stops_the_loop(model):
    reported = []
    watchdog = Watchdog(model, n_classes=2, total_steps=1_000, on_finding=reported.append)
    flat = {"predicted_counts": [32, 0], "label_counts": [16, 16]}
    for step in range(10, 510, 10):
        watchdog.record(step, loss=0.6931, **flat)
    with pytest.raises(RefusedError, match="LOS012"):
        watchdog.record(510, loss=0.6931, **flat)
    assert [(one.code, one.severity) for one in reported if one.code == "LOS012"] == [
        ("LOS012", "warning"),
        ("LOS012", "error"),
    ]


def test_a_newly_initialized_encoder_is_recognized(tiny_bert):
    model = fresh_tiny_model(tiny_bert)
    assert Watchdog(model).evidence.body_newly_initialized
    with torch.no_grad():
        model.bert.encoder.layer[0].output.LayerNorm.weight[0] += 0.1
    assert Watchdog(model).evidence.body_newly_initialized is False


def rising_again(n: int = 60) -> list[dict[str, float]]:
    """Records of a loss that falls and then rises far above its minimum, but not above its start."""
    losses = np.concatenate([np.full(n // 3, 0.69), np.full(n // 3, 0.1), np.full(n - 2 * (n // 3), 0.65)])
    noise = np.random.default_rng(0).normal(0.0, 0.01, n)
    return [{"loss": float(loss), "grad_norm": 200.0, "learning_rate": 1e-3} for loss in losses + noise]


def watch_records(model: Small, reported: list[Finding], records: list[dict[str, float]], first: int = 1) -> Watchdog:
    watchdog = Watchdog(model, n_classes=2, clip_at=1.0, on_finding=reported.append)
    for step, values in enumerate(records, start=first):
        watchdog.record(10 * step, **values)
    return watchdog


@pytest.mark.parametrize("done", [1, 9, 10, 11, 30, 41, 50, 55, 59, 60])
def test_a_resumed_watchdog_reports_the_same_as_an_uninterrupted_one(model, done):
    records, all_findings, findings = rising_again(), [], []
    whole = watch_records(model, all_findings, records)
    assert {(one.code, one.severity) for one in whole.report.findings} >= {("LOS008", "warning"), ("OPT013", "warning")}
    watch_records(model, findings, records[:done])
    resumed = Watchdog(model, n_classes=2, clip_at=1.0, on_finding=findings.append)
    resumed.resume(
        10 * done, [{"steps": 10 * (i + 1), **values} for i, values in enumerate(records[:done])], tuple(findings)
    )
    for step, values in enumerate(records[done:], start=done + 1):
        resumed.record(10 * step, **values)
    assert findings == all_findings, "each once, with the same text"
    assert resumed.report == whole.report


def test_without_the_earlier_records_a_warning_would_be_an_error(model):
    """The loss ends no higher than at the start of the run, but higher than at the start of the remaining records."""
    with pytest.raises(RefusedError, match="LOS008"):
        watch_records(model, [], rising_again()[25:], first=26)


def test_the_measurements_of_the_hooks_continue_after_a_resume(model):
    """Interrupted between two records and resumed: the same series as without the interruption."""
    torch.manual_seed(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    watchdog = Watchdog(model, optimizer, n_classes=2, policy="warn", every=10)
    resumed = None
    for step, (features, labels) in enumerate(batches(40), start=1):
        loss = nn.functional.cross_entropy(model(features), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        for each in (watchdog, resumed) if resumed else (watchdog,):
            if step % 10 == 0:
                each.record(step, loss=loss.item())
        if step == 25:
            evidence = watchdog.evidence
            resumed = Watchdog(model, optimizer, n_classes=2, policy="warn", every=10)
            names = ("steps", "loss", "learning_rate", "update_ratio", "skipped_steps")
            resumed.resume(25, [{name: getattr(evidence, name)[i].item() for name in names} for i in range(2)], ())
    for name in names:
        assert getattr(resumed.evidence, name).tolist() == getattr(watchdog.evidence, name).tolist(), name
    assert resumed.last_step == 40
