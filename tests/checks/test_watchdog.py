"""The watchdog in a hand-written loop: silent where all is well, and quick to name what is not."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from tenor.checks import Watchdog
from tenor.errors import RefusedError


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
    for features, labels in batches(steps):
        logits = model(features)
        loss = nn.functional.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        if clear:
            optimizer.zero_grad()
        watchdog.step(loss, logits=logits, labels=labels, learning_rate=rate)


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
    assert {"LOS007", "OPT012", "OPT021", "FRZ004", "EVL012"} <= set(watchdog.report.ran)


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
    watchdog = Watchdog(model, n_classes=2)
    optimizer = torch.optim.AdamW(model.body.parameters(), lr=1e-3)
    for features, labels in batches(30):
        loss = nn.functional.cross_entropy(model(features), labels)
        loss.backward()
        optimizer.step()
        model.zero_grad()
        watchdog.step(loss, learning_rate=1e-3)
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
