"""Watches a training loop, Tenor's or anyone's: remembers little, judges every few steps, stops on errors."""

import hashlib
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from tenor.checks.catalogue import fold, run_rules, with_rules
from tenor.checks.evidence import StepEvidence
from tenor.checks.finding import CannotTell, Finding, Report
from tenor.checks.gather.model import is_fresh, planned_rates
from tenor.checks.gather.model_parts import ModelParts, classifier_config, find_parts
from tenor.checks.hooks import LoopHooks, has_dropout_on
from tenor.checks.rule import Rule
from tenor.errors import RefusedError


class Watchdog:
    """Collects `StepEvidence` while a loop runs and applies every rule that needs nothing else.

    A hand-written loop calls `step` after each optimizer step and `validation` while it validates:

        watchdog = Watchdog(model, optimizer, clip_at=1.0)
        for batch in loader:
            loss = cross_entropy(model(**batch["inputs"]).logits, batch["labels"])
            loss.backward()
            grad_norm = clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            watchdog.step(loss, grad_norm=grad_norm)

    Predictions, labels, the scale of the loss, rates and updates are heard through PyTorch's hooks.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any = None,
        *,
        scheduler: Any = None,
        n_classes: int | None = None,
        total_steps: int | None = None,
        clip_at: float | None = None,
        policy: Literal["stop", "warn"] = "stop",
        allow: Mapping[str, str] | None = None,
        every: int = 10,
        done: int = 0,
        earlier: Iterable[Finding] = (),
        on_finding: Callable[[Finding], None] = lambda finding: None,
        rules: Iterable[Rule] = (),
    ) -> None:
        """`every` steps make one record; `done` steps were made before this loop began, as where it was resumed;
        `earlier` are findings from before training that may explain new ones; `rules` of your own are checked with
        Tenor's and those of installed packages.

        With `scheduler` and `total_steps` the rates are held against the plan that a copy of the scheduler gives.
        """
        self.model, self.every = model, every
        self._policy, self._allow, self._on_finding = policy, dict(allow or {}), on_finding
        self._earlier = tuple(earlier)
        self._rules = tuple(rule for rule in with_rules(rules) if rule.needs == (StepEvidence,))
        n_classes = n_classes or getattr(classifier_config(model), "num_labels", None)
        parts = find_parts(model)
        self._watched, of_encoder = _middle_matrix(model, parts)
        self._evidence = StepEvidence(
            np.zeros(0),
            np.zeros(0),
            n_classes,
            total_steps,
            fresh_body=is_fresh(model, parts),
            clip_at=clip_at,
            update_of_encoder=of_encoder,
        )
        self._records: dict[str, list[Any]] = {}
        self._window: dict[str, Any] = {}
        self._steps = done
        self._seen_steps = (done, 0)
        self._before: torch.Tensor | None = None
        self._ratio = float("nan")
        self._digests = _digests(model)
        self._learning = {name for name, p in model.named_parameters() if p.requires_grad}
        self._optimizer: torch.optim.Optimizer | None = None
        self._first_backward = True
        self._watch_gradient()
        self._hooks = LoopHooks(model)
        self._plan = _planned_rates(scheduler, total_steps)
        if optimizer is not None:
            self.watch(optimizer)
        self._findings: dict[str, Finding] = {}
        self._report = Report("training", (), (), ())

    def watch(self, optimizer: Any) -> None:
        """Listen to an optimizer that was not there yet when the watchdog was made."""
        self._optimizer = getattr(optimizer, "optimizer", optimizer)  # Accelerate's wrapper.
        if not self._hooks.watched:
            self._seen_steps = (max(self._steps, self.last_step), self._hooks.steps)
        self._hooks.watch(
            optimizer,
            before=self._before_update,
            after=self._after_update,
            due=lambda: (self._hooks.steps + 1) % self.every == 0,
            clip_at=self._evidence.clip_at,
        )

    def _before_update(self) -> None:
        if self._watched is not None:
            self._before = self._watched.detach().clone()

    def _after_update(self) -> None:
        """Measure how far the watched weights moved; the next backward pass begins a new step."""
        self._first_backward = True
        if self._watched is None or self._before is None:
            return
        moved = torch.linalg.vector_norm(self._watched.detach() - self._before)
        self._ratio = float(moved / torch.linalg.vector_norm(self._before).clamp_min(1e-12))
        self._before = None

    def step(self, loss: float | torch.Tensor, *, grad_norm: float | torch.Tensor | None = None) -> None:
        """One optimizer step of a loop of any kind is done; every `every` steps it becomes a record and is judged.

        `loss` is the mean over the step's rows, `grad_norm` the gradient's norm before clipping.

        Raises:
            RefusedError: an error was found under the policy `stop`.
        """
        loss = float(loss.detach()) if isinstance(loss, torch.Tensor) else loss
        self._steps += 1
        self._first_backward = True
        window = self._window
        window.setdefault("loss", []).append(loss)
        if grad_norm is not None:
            window["grad_norm"] = float(np.maximum(window.get("grad_norm", 0.0), float(grad_norm)))  # NaN stays.
        # A loss that is no number is judged at once: every further step would be lost.
        if self._steps % self.every == 0 or not np.isfinite(loss):
            self._window = {}
            self.record(self._steps, **{**window, "loss": float(np.mean(window["loss"]))})

    def record(self, step: int, **values: Any) -> None:
        """Add one record and judge: `loss`, and what is known of `grad_norm`, `learning_rate`, `planned_rate`,
        `predicted_counts`, `label_counts` and `skipped_steps`, as `StepEvidence` describes them; what the hooks heard
        is added where it is not given.

        Raises:
            RefusedError: an error was found under the policy `stop`.
        """
        self.note(step, **values)
        self.judge()

    def note(self, step: int, **values: Any) -> dict[str, Any]:
        """Add one record, as `record` does, and leave the judgement to `judge`; returns all that was noted."""
        noted = {"steps": step, **self._heard(step), **values}
        for name, value in noted.items():
            self._records.setdefault(name, []).append(value)
        self._show_records()
        return noted

    def go_on(self, done: int, records: Sequence[Mapping[str, Any]], findings: Iterable[Finding]) -> None:
        """Take the place of the watchdog of a loop that was cut after `done` steps, before the first step from there.

        `records` are what it noted, `findings` what it told: they stay, and are not told again.

        Raises:
            RefusedError: as `record`.
        """
        for name in {name for record in records for name in record}:
            self._records[name] = [record[name] for record in records if name in record]
        self._findings = {finding.code: finding for finding in findings}
        self._steps = done
        self._hooks.steps = done - sum(self._records.get("skipped_steps", []))
        self._seen_steps = (done, self._hooks.steps)
        self._ratio = self._records.get("update_ratio", [self._ratio])[-1]
        if records:
            self._show_records()
            self.judge()

    def _show_records(self) -> None:
        """Give the rules what every record holds."""
        whole = len(self._records["steps"])
        arrays: dict[str, Any] = {
            name: np.asarray(found) for name, found in self._records.items() if len(found) == whole
        }
        self._evidence = replace(self._evidence, **arrays)

    def _heard(self, step: int) -> dict[str, Any]:
        """What the hooks tell about the steps since the last record."""
        hooks, heard = self._hooks, self._hooks.take()
        once = {name: heard.pop(name) for name in ("backward_ratio", "parts_per_step", "kind_of_loss") if name in heard}
        self._evidence = replace(self._evidence, **once, clipped_before_unscale=hooks.clipped_before_unscale)
        if hooks.noisy_forward:
            self._evidence = replace(self._evidence, evaluated_in_training_mode=True)
        if not hooks.watched:
            return heard
        if np.isfinite(self._ratio):
            heard["update_ratio"] = self._ratio
        if hooks.rate is not None:
            heard["learning_rate"] = hooks.rate
        if self._plan is not None and 0 < hooks.calls <= len(self._plan):
            heard["planned_rate"] = float(self._plan[hooks.calls - 1])
        step_before, heard_before = self._seen_steps
        missing = max(0, (step - step_before) - (hooks.steps - heard_before))
        heard["skipped_steps"] = missing if hooks.scaled else 0
        self._seen_steps = (step, hooks.steps)
        return heard

    def validation(self) -> None:
        """Call it while the model validates: is dropout off? Checks the weights, too.

        Raises:
            RefusedError: an error was found under the policy `stop`.
        """
        noisy = has_dropout_on(self.model) or self._hooks.noisy_forward
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
            learning_still=tuple(sorted((self._learning & same) - self._set_to_zero_again())),
        )
        self.judge()

    def _set_to_zero_again(self) -> set[str]:
        """Parameters of zeros that the optimizer has updated by its own record, as AdaLoRA leaves ranks it gave up."""
        state: Mapping[Any, Mapping[str, Any]] = {} if self._optimizer is None else self._optimizer.state
        return {
            name
            for name, p in self.model.named_parameters()
            if p in state and not p.any() and any(bool(v.any()) for v in state[p].values() if _is_like(v, p))
        }

    def _watch_gradient(self) -> None:
        """See whether a gradient is there already when the first backward pass of a step adds its own."""
        small = min((p for p in self.model.parameters() if p.requires_grad), key=torch.numel, default=None)
        if small is None:
            return
        arrived: list[torch.Tensor] = []
        # A parameter keeps its hooks where Python's collector can't look: one that held us would keep the model.
        watching = weakref.ref(self)

        def remember(gradient: torch.Tensor) -> None:
            arrived[:] = [gradient.detach().clone()]

        def compare(parameter: torch.Tensor) -> None:
            if (watchdog := watching()) is None:
                return
            if watchdog._first_backward and arrived and parameter.grad is not None:
                # What overflowed under a loss scale is no number on either side.
                kept = not torch.allclose(parameter.grad, arrived[0], rtol=1e-3, atol=1e-12, equal_nan=True)
                before = watchdog._evidence
                watchdog._evidence = replace(before, gradient_kept=bool(kept or before.gradient_kept))
            watchdog._first_backward = False

        small.register_hook(remember)
        small.register_post_accumulate_grad_hook(compare)

    @property
    def last_step(self) -> int:
        """The newest optimizer step that was heard of."""
        return max(self._hooks.steps, *self._records.get("steps", [])[-1:], 0)

    @property
    def evidence(self) -> StepEvidence:
        """What was recorded so far."""
        return self._evidence

    @property
    def report(self) -> Report:
        """What was judged so far, with every finding once."""
        return replace(self._report, findings=fold(self._findings.values(), self._earlier))

    def judge(self) -> None:
        """Apply the rules to all that is known, and tell what is new.

        Raises:
            RefusedError: an error was found under the policy `stop`.
        """
        self._report = run_rules([self._evidence], "training", self._allow, self._rules, self._earlier)
        known = self._findings
        new = [
            finding
            for finding in self._report.findings
            if finding.code not in known or _is_worse(finding, than=known[finding.code])
        ]
        for finding in new:
            self._findings[finding.code] = finding
            self._on_finding(finding)
        stopping = [finding for finding in new if finding.severity == "error" and not finding.allowed]
        if stopping and self._policy == "stop":
            raise RefusedError("\n".join(f"{f.code} {f.title}: {f.observed}. {f.cause}. {f.fix}" for f in stopping))


def _is_like(value: Any, parameter: torch.Tensor) -> bool:
    return isinstance(value, torch.Tensor) and value.shape == parameter.shape


def _is_worse(finding: Finding, than: Finding) -> bool:
    """A warning that became an error is told again, and stops."""
    return finding.severity == "error" != than.severity


def _planned_rates(scheduler: Any, total_steps: int | None) -> np.ndarray | None:
    """The rate of each step to come, shape (steps,), of the group with the largest; None where it can't be told."""
    if scheduler is None or not total_steps:
        return None
    try:
        return planned_rates(scheduler, total_steps)
    except CannotTell:
        return None


def _middle_matrix(model: nn.Module, parts: ModelParts) -> tuple[torch.Tensor | None, bool]:
    """A learning matrix from the middle of the model, whose updates stand for the others', and whether it is the
    encoder's.

    None that starts at zero, as one of LoRA's two does: over its norm every first update is too large.
    """
    matrices = {name: p for name, p in model.named_parameters() if p.requires_grad and p.ndim == 2 and bool(p.any())}
    of_encoder = [p for name, p in matrices.items() if name in parts.encoder]
    chosen = of_encoder or list(matrices.values())
    return (chosen[len(chosen) // 2] if chosen else None), bool(of_encoder)


def _digests(model: nn.Module) -> dict[str, str]:
    """SHA-256 of every parameter, by name."""
    return {
        name: hashlib.sha256(p.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data).hexdigest()
        for name, p in model.named_parameters()
    }
