"""Watches a training loop, Tenor's or anyone's: remembers little, judges every few steps, stops on errors."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from tenor.checks.catalogue import RULES
from tenor.checks.evidence import StepEvidence
from tenor.checks.finding import Finding, Report
from tenor.checks.run import fold, run_rules
from tenor.errors import RefusedError

STEP_RULES = tuple(rule for rule in RULES if rule.needs == (StepEvidence,))


class Watchdog:
    """Collects `StepEvidence` while a loop runs and applies every rule that needs nothing else.

    A hand-written loop calls `step` after each optimizer step and `validation` while it validates:

        watchdog = Watchdog(model, n_classes=2)
        for batch in loader:
            logits = model(**batch["inputs"]).logits
            loss = cross_entropy(logits, batch["labels"])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            watchdog.step(loss, logits=logits, labels=batch["labels"])
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        n_classes: int | None = None,
        total_steps: int | None = None,
        clip_at: float | None = None,
        policy: Literal["stop", "warn"] = "stop",
        allow: Mapping[str, str] | None = None,
        every: int = 10,
        earlier: tuple[Finding, ...] = (),
        on_finding: Callable[[Finding], None] = lambda finding: None,
    ) -> None:
        """`every` steps make one record; `earlier` are findings from before training that may explain new ones."""
        self.model, self.every = model, every
        self._policy, self._allow, self._earlier, self._on_finding = policy, dict(allow or {}), earlier, on_finding
        self._evidence = StepEvidence(np.zeros(0), np.zeros(0), n_classes, total_steps, clip_at=clip_at)
        self._records: dict[str, list[Any]] = {}
        self._window: dict[str, Any] = {}
        self._steps = 0
        self._watched = _middle_matrix(model)
        self._before: torch.Tensor | None = None
        self._ratio = float("nan")
        self._digests = _digests(model)
        self._learning = {name for name, p in model.named_parameters() if p.requires_grad}
        self._first_backward = True
        self._watch_gradient()
        self._findings: dict[str, Finding] = {}
        self._report = Report("training", (), (), ())

    def before_update(self) -> None:
        """Remember the watched weights: call it before the optimizer step that the next record ends with."""
        if self._watched is not None:
            self._before = self._watched.detach().clone()

    def after_update(self) -> None:
        """Measure how far the watched weights moved since `before_update`."""
        if self._watched is None or self._before is None:
            return
        moved = torch.linalg.vector_norm(self._watched.detach() - self._before)
        self._ratio = float(moved / torch.linalg.vector_norm(self._before).clamp_min(1e-12))
        self._before = None

    def step(
        self,
        loss: float | torch.Tensor,
        *,
        grad_norm: float | None = None,
        learning_rate: float | None = None,
        logits: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> None:
        """One optimizer step of a loop of any kind is done; every `every` steps it becomes a record and is judged.

        `logits` have the shape (rows, K), `labels` (rows,).

        Raises:
            RefusedError: an error was found under the policy `stop`.
        """
        loss = float(loss.detach()) if isinstance(loss, torch.Tensor) else loss
        self._steps += 1
        window = self._window
        window.setdefault("loss", []).append(loss)
        if grad_norm is not None:
            window["grad_norm"] = max(window.get("grad_norm", 0.0), float(grad_norm))
        if learning_rate is not None:
            window["learning_rate"] = float(learning_rate)
        if logits is not None and labels is not None:
            k = logits.shape[-1]
            predicted = np.bincount(logits.detach().argmax(dim=-1).reshape(-1).cpu().numpy(), minlength=k)
            window["predicted_counts"] = window.get("predicted_counts", 0) + predicted
            window["label_counts"] = window.get("label_counts", 0) + np.bincount(labels.reshape(-1).cpu(), minlength=k)
        self.after_update()
        self._first_backward = True
        # A loss that is no number is judged at once: every further step would be lost.
        if self._steps % self.every == 0 or not np.isfinite(loss):
            self._window = {}
            self.record(self._steps, **{**window, "loss": float(np.mean(window["loss"]))})
        elif self._steps % self.every == self.every - 1:
            self.before_update()

    def record(self, step: int, **values: Any) -> None:
        """Add one record and judge: `loss`, and what is known of `grad_norm`, `learning_rate`, `planned_rate`,
        `predicted_counts`, `label_counts` and `skipped_steps`, as `StepEvidence` describes them.

        Raises:
            RefusedError: an error was found under the policy `stop`.
        """
        values = {"steps": step, "update_ratio": self._ratio, **values}
        for name, value in values.items():
            self._records.setdefault(name, []).append(value)
        whole = len(self._records["steps"])
        arrays: dict[str, Any] = {
            name: np.asarray(found) for name, found in self._records.items() if len(found) == whole
        }
        if np.isnan(arrays["update_ratio"]).any():
            del arrays["update_ratio"]
        self._evidence = replace(self._evidence, **arrays)
        self._judge()

    def validation(self) -> None:
        """Call it while the model validates: is dropout off? Checks the weights, too.

        Raises:
            RefusedError: an error was found under the policy `stop`.
        """
        noisy = any(
            module.training and getattr(module, "p", 0.0) > 0.0
            for module in self.model.modules()
            if "dropout" in type(module).__name__.lower()
        )
        self._evidence = replace(self._evidence, evaluated_in_training_mode=noisy)
        self.check_weights()

    def check_weights(self) -> None:
        """Did what is frozen stay as it was, and has what learns moved?

        Raises:
            RefusedError: an error was found under the policy `stop`.
        """
        same = {name for name, digest in _digests(self.model).items() if self._digests.get(name) == digest}
        self._evidence = replace(
            self._evidence,
            frozen_moved=tuple(sorted(set(self._digests) - self._learning - same)),
            learning_still=tuple(sorted(self._learning & same)),
        )
        self._judge()

    def _watch_gradient(self) -> None:
        """See whether a gradient is there already when the first backward pass of a step adds its own."""
        small = min((p for p in self.model.parameters() if p.requires_grad), key=torch.numel, default=None)
        if small is None:
            return
        arrived: list[torch.Tensor] = []

        def remember(gradient: torch.Tensor) -> None:
            arrived[:] = [gradient.detach().clone()]

        def compare(parameter: torch.Tensor) -> None:
            if self._first_backward and arrived and parameter.grad is not None:
                kept = not torch.allclose(parameter.grad, arrived[0], rtol=1e-3, atol=1e-12)
                self._evidence = replace(self._evidence, gradient_kept=bool(kept or self._evidence.gradient_kept))
            self._first_backward = False

        small.register_hook(remember)
        small.register_post_accumulate_grad_hook(compare)

    @property
    def report(self) -> Report:
        """What was judged so far, with every finding once."""
        return replace(self._report, findings=fold(self._findings.values(), self._earlier))

    def _judge(self) -> None:
        self._report = run_rules([self._evidence], "training", self._allow, STEP_RULES, self._earlier)
        new = [finding for finding in self._report.findings if finding.code not in self._findings]
        for finding in new:
            self._findings[finding.code] = finding
            self._on_finding(finding)
        stopping = [finding for finding in new if finding.severity == "error" and not finding.allowed]
        if stopping and self._policy == "stop":
            raise RefusedError("\n".join(f"{f.code} {f.title}: {f.observed}. {f.cause}. {f.fix}" for f in stopping))


def _middle_matrix(model: nn.Module) -> torch.Tensor | None:
    """A learning matrix from the middle of the model: its updates stand for the others'."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim == 2]
    return matrices[len(matrices) // 2] if matrices else None


def _digests(model: nn.Module) -> dict[str, str]:
    """SHA-256 of every parameter, by name."""
    return {
        name: hashlib.sha256(p.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data).hexdigest()
        for name, p in model.named_parameters()
    }
