"""Watches any training loop: stores little, applies the rules every few steps, stops on errors."""

import hashlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from tenor.checks.catalogue import link_causes, run_rules, with_rules
from tenor.checks.evidence.checkpoint_evidence import ResumeEvidence
from tenor.checks.evidence.process_evidence import AgreementEvidence, RankEvidence
from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.gather.model import is_fresh, planned_rates
from tenor.checks.gather.model_parts import ModelParts, classifier_config, find_parts
from tenor.checks.gather.ranks import RankNotes
from tenor.checks.hooks import LoopHooks, has_dropout_on, with_gradient
from tenor.checks.one_output import OutputKind
from tenor.checks.rule import Rule
from tenor.errors import RefusedError
from tenor.runs.findings import Finding, Report

FURTHER_KINDS = frozenset({RankEvidence, ResumeEvidence, AgreementEvidence})
"""Evidence of training besides its steps: of several processes, and of a resumed run."""

STEPS_PER_NOTE = 10
"""Steps between two comparisons of the processes, at least: each reads all weights and gradients once."""

GRADIENTS_SEEN = 10
"""Steps at which all gradients are looked at; later only at those that become a record."""


class Watchdog:
    """Gathers `StepEvidence` while a loop runs and applies every rule that needs only that.

    A hand-written loop calls `step` after each optimizer step and `validation` during validation:

        watchdog = Watchdog(model, optimizer, clip_at=1.0)
        for batch in loader:
            loss = cross_entropy(model(**batch["inputs"]).logits, batch["labels"])
            loss.backward()
            grad_norm = clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            watchdog.step(loss, grad_norm=grad_norm)

    Predictions, labels, the scale of the loss, learning rates and updates are read through PyTorch's hooks.

    In a distributed loop, create one in every process: weights and gradients of all are compared every few steps, and
    with `loader` the rows that each process reads. Process 0 reports what it finds there.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any = None,
        *,
        scheduler: Any = None,
        loader: Any = None,
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
        one_output: OutputKind | None = None,
    ) -> None:
        """`every` steps make one record; `done` is the number of steps before this loop, for example of a resumed run;
        `earlier` are findings from before training that may explain new ones; your own `rules` are checked together
        with Tenor's and those of installed packages.

        With `scheduler` and `total_steps` the learning rates are compared with the plan that a copy of the scheduler
        gives. A model for two classes with one output per row needs `one_output`: `logit` if that is the logit of the
        second class, `probability` if it is its probability.
        """
        self.model, self.every = model, every
        self._policy, self._allow, self._on_finding = policy, dict(allow or {}), on_finding
        self._earlier = tuple(earlier)
        self._rules = tuple(
            rule
            for rule in with_rules(rules)
            if rule.needs == (StepEvidence,) or (rule.needs and FURTHER_KINDS.issuperset(rule.needs))
        )
        self._further: dict[type, Any] = {}
        self._notes, self._loader = RankNotes.of(model), loader
        n_classes = n_classes or getattr(classifier_config(model), "num_labels", None)
        parts = find_parts(model)
        self._sample, of_encoder = _sample_matrix(model, parts)
        self._evidence = StepEvidence(
            np.zeros(0),
            np.zeros(0),
            n_classes,
            total_steps,
            body_newly_initialized=is_fresh(model, parts),
            clip_at=clip_at,
            update_of_encoder=of_encoder,
        )
        self._records: dict[str, list[Any]] = {}
        self._window: dict[str, Any] = {}
        self._steps = self._done = done
        self._last_seen = (done, 0)
        self._before: torch.Tensor | None = None
        self._update_ratio = float("nan")
        self._digests = _digests(model)
        self._trainable = {name for name, p in model.named_parameters() if p.requires_grad}
        self._optimizer: torch.optim.Optimizer | None = None
        self._without_gradient: dict[str, nn.Parameter] | None = None
        self._first_backward = True
        self._watch_gradient()
        self._hooks = LoopHooks(model, one_output)
        self._planned_rates = _planned_rates(scheduler, total_steps)
        if optimizer is not None:
            self.watch(optimizer)
        self._findings: dict[str, Finding] = {}
        self._report = Report("training", (), (), ())

    def watch(self, optimizer: Any) -> None:
        """Attach to an optimizer that was created after the watchdog."""
        self._optimizer = getattr(optimizer, "optimizer", optimizer)  # Accelerate's wrapper.
        if not self._hooks.attached:
            self._last_seen = (max(self._steps, self.last_step), self._hooks.steps)
        self._hooks.attach(
            optimizer,
            before=self._before_update,
            after=self._after_update,
            due=lambda: (self._hooks.steps + 1) % self.every == 0,
            clip_at=self._evidence.clip_at,
            every_step=self._look_at_gradients,
        )
        given = {id(p) for group in self._optimizer.param_groups for p in group["params"]}
        named = {name: p for name, p in self.model.named_parameters() if p.requires_grad and id(p) in given}
        self._without_gradient = named or None
        self._weights_given = sum(p.numel() for p in named.values())

    def _look_at_gradients(self) -> None:
        """Forget the parameters that have a gradient; usually none is left after one or two steps."""
        calls = self._hooks.calls
        if self._notes is not None and calls % max(self.every, STEPS_PER_NOTE) == 0:
            self._notes.write_tensors(calls)
            if calls == 0 and self._loader is not None:
                self._notes.write_rows(self._loader)
        if self._without_gradient and (calls < GRADIENTS_SEEN or calls % self.every == 0):
            arrived = with_gradient(self._without_gradient)
            self._without_gradient = {n: p for n, p in self._without_gradient.items() if n not in arrived}

    def _before_update(self) -> None:
        if self._sample is not None:
            self._before = self._sample.detach().clone()

    def _after_update(self) -> None:
        """Measure the update of the sample matrix; the next backward pass begins a new step."""
        self._first_backward = True
        if self._sample is None or self._before is None:
            return
        update = torch.linalg.vector_norm(self._sample.detach() - self._before)
        self._update_ratio = float(update / torch.linalg.vector_norm(self._before).clamp_min(1e-12))
        self._before = None

    def step(self, loss: float | torch.Tensor | None = None, *, grad_norm: float | torch.Tensor | None = None) -> None:
        """Report one finished optimizer step; every `every` steps become a record, to which the rules are applied.

        `loss` is the mean over the step's rows; without it, the cross-entropy of the training rows is computed from
        what the hooks saw. `grad_norm` is the gradient's norm before clipping.

        Raises:
            RefusedError: an error was found under the policy `stop`.
        """
        is_finite = self._hooks.is_finite()
        if loss is not None:
            loss = float(loss.detach()) if isinstance(loss, torch.Tensor) else float(loss)
            is_finite = bool(np.isfinite(loss))
            self._window.setdefault("loss", []).append(loss)
        if grad_norm is not None:
            self._window["grad_norm"] = float(np.maximum(self._window.get("grad_norm", 0.0), float(grad_norm)))
        self._steps += 1
        self._first_backward = True
        # The rules see a loss of NaN or infinity at once: every further step would be wasted.
        if self._steps % self.every == 0 or not is_finite:
            self._record_window(is_finite)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Forward passes in the block are not those of the loop, such as experiments on the same model."""
        self._hooks.is_paused = True
        try:
            yield
        finally:
            self._hooks.is_paused = False

    def look(self) -> None:
        """After a step whose numbers are recorded elsewhere: record it at once if its loss or its logits are NaN.

        Raises:
            RefusedError: an error was found under the policy `stop`.
        """
        self._steps += 1
        if not self._hooks.is_finite():
            self._record_window(is_finite=False)

    def finish(self) -> None:
        """After the last step: record those since the last record, and check the weights.

        Raises:
            RefusedError: an error was found under the policy `stop`.
        """
        if self._steps > self.last_recorded:
            self._record_window(is_finite=True)
        self.check_weights()

    def _record_window(self, is_finite: bool) -> None:
        """Record the steps since the last record; nothing without any loss."""
        window, self._window = self._window, {}
        if not is_finite and "loss" not in window:
            window["loss"] = [float("nan")]
        values = {**self._values_from_hooks(self._steps), **window}
        if "loss" in window:
            values["loss"] = float(np.mean(window["loss"]))
        if "loss" in values:
            self._add(self._steps, values)
            self.judge()

    def record(self, step: int, **values: Any) -> None:
        """Add one record and apply the rules: `loss` and, if known, `grad_norm`, `learning_rate`, `planned_rate`,
        `predicted_counts`, `label_counts` and `skipped_steps`, as `StepEvidence` describes them; values that are not
        given come from the hooks.

        Raises:
            RefusedError: an error was found under the policy `stop`.
        """
        self.add_record(step, **values)
        self.judge()

    def add_record(self, step: int, **values: Any) -> dict[str, Any]:
        """Add one record, as `record` does, without applying the rules; returns all of its values."""
        return self._add(step, {**self._values_from_hooks(step), **values})

    def _add(self, step: int, values: Mapping[str, Any]) -> dict[str, Any]:
        record = {"steps": step, **values}
        for name, value in record.items():
            self._records.setdefault(name, []).append(value)
        self._update_evidence()
        return record

    def resume(self, done: int, records: Sequence[Mapping[str, Any]], findings: Iterable[Finding]) -> None:
        """Continue the watchdog of a loop that was interrupted after `done` steps; call it before the next step.

        `records` and `findings` are those of the earlier watchdog: they are kept, and not reported again.

        Raises:
            RefusedError: as `record`.
        """
        for name in {name for record in records for name in record}:
            self._records[name] = [record[name] for record in records if name in record]
        self._findings = {finding.code: finding for finding in findings}
        self._steps = self._done = done
        self._hooks.steps = done - sum(self._records.get("skipped_steps", []))
        self._last_seen = (done, self._hooks.steps)
        self._update_ratio = self._records.get("update_ratio", [self._update_ratio])[-1]
        if records:
            self._update_evidence()
            self.judge()

    def note(self, evidence: RankEvidence | ResumeEvidence | AgreementEvidence) -> None:
        """Take evidence of another kind than steps, which replaces earlier evidence of its kind, and apply the rules.

        Raises:
            RefusedError: an error was found under the policy `stop`.
        """
        self._further[type(evidence)] = evidence
        self.judge()

    def _read_notes(self) -> None:
        """Take what the processes have noted; process 0 speaks for all."""
        if self._notes is None or self._notes.rank:
            return
        if (agreement := self._notes.agreement(self._done)) is not None:
            self._further[AgreementEvidence] = agreement
        if self._loader is not None and RankEvidence not in self._further and (rows := self._notes.rows()) is not None:
            self._further[RankEvidence] = rows

    def _update_evidence(self) -> None:
        """Put the values that every record contains into the evidence."""
        count = len(self._records["steps"])
        arrays: dict[str, Any] = {
            name: np.asarray(values) for name, values in self._records.items() if len(values) == count
        }
        self._evidence = replace(self._evidence, **arrays)

    def _values_from_hooks(self, step: int) -> dict[str, Any]:
        """What the hooks measured in the steps since the last record."""
        hooks, values = self._hooks, self._hooks.take()
        of_run = ("backward_ratio", "parts_per_step", "kind_of_loss", "rewarded_for_several", "focal_fit")
        once = {name: values.pop(name) for name in of_run if name in values}
        self._evidence = replace(self._evidence, **once, clipped_before_unscale=hooks.clipped_before_unscale)
        if self._evidence.n_classes is None:
            self._evidence = replace(self._evidence, n_classes=hooks.n_classes)
        if hooks.noisy_forward:
            self._evidence = replace(self._evidence, evaluated_in_training_mode=True)
        if not hooks.attached:
            return values
        if self._without_gradient is not None and hooks.calls:
            weights = sum(p.numel() for p in self._without_gradient.values())
            self._evidence = replace(
                self._evidence,
                without_gradient=tuple(self._without_gradient),
                share_without_gradient=weights / max(1, self._weights_given),
            )
        if np.isfinite(self._update_ratio):
            values["update_ratio"] = self._update_ratio
        if hooks.rate is not None:
            values["learning_rate"] = hooks.rate
        if self._planned_rates is not None and 0 < hooks.calls <= len(self._planned_rates):
            values["planned_rate"] = float(self._planned_rates[hooks.calls - 1])
        step_before, hooked_before = self._last_seen
        missing = max(0, (step - step_before) - (hooks.steps - hooked_before))
        values["skipped_steps"] = missing if hooks.scaled else 0
        self._last_seen = (step, hooks.steps)
        return values

    def validation(self) -> None:
        """Call it during validation: checks that dropout is off, and the weights.

        Raises:
            RefusedError: an error was found under the policy `stop`.
        """
        noisy = has_dropout_on(self.model) or self._hooks.noisy_forward
        self._evidence = replace(self._evidence, evaluated_in_training_mode=noisy)
        self.check_weights()

    def check_weights(self) -> None:
        """Check that frozen parameters have not changed and trainable ones have.

        Raises:
            RefusedError: an error was found under the policy `stop`.
        """
        unchanged = {name for name, digest in _digests(self.model).items() if self._digests.get(name) == digest}
        # Layers that were unfrozen on the way are trained on purpose.
        unfrozen = {name for name, p in self.model.named_parameters() if p.requires_grad}
        self._evidence = replace(
            self._evidence,
            frozen_moved=tuple(sorted(set(self._digests) - self._trainable - unfrozen - unchanged)),
            unchanged_trainable=tuple(sorted((self._trainable & unchanged) - self._reset_to_zero())),
            rows_evaluated=self._hooks.rows_evaluated,
            rows_not_finite=int(self._hooks.rows_not_finite),
            evaluated_in_training_mode=self._hooks.noisy_forward or self._evidence.evaluated_in_training_mode,
        )
        self.judge()

    def has_unfrozen(self) -> bool:
        """Whether parameters are trainable that were frozen when the watchdog began."""
        return any(p.requires_grad and name not in self._trainable for name, p in self.model.named_parameters())

    def _reset_to_zero(self) -> set[str]:
        """All-zero parameters that the optimizer updated according to its state, such as ranks pruned by AdaLoRA."""
        state: Mapping[Any, Mapping[str, Any]] = {} if self._optimizer is None else self._optimizer.state
        return {
            name
            for name, p in self.model.named_parameters()
            if p in state and not p.any() and any(bool(v.any()) for v in state[p].values() if _is_like(v, p))
        }

    def _watch_gradient(self) -> None:
        """Detect a gradient that already exists when the first backward pass of a step adds its own."""
        small = min((p for p in self.model.parameters() if p.requires_grad), key=torch.numel, default=None)
        if small is None:
            return
        arrived: list[torch.Tensor] = []
        # Python's garbage collector does not see a parameter's hooks: a strong reference would keep the model alive.
        reference = weakref.ref(self)

        def remember(gradient: torch.Tensor) -> None:
            arrived[:] = [gradient.detach().clone()]

        def compare(parameter: torch.Tensor) -> None:
            if (watchdog := reference()) is None:
                return
            if watchdog._first_backward and arrived and parameter.grad is not None:
                # With a loss scale, both may be NaN after an overflow.
                kept = not torch.allclose(parameter.grad, arrived[0], rtol=1e-3, atol=1e-12, equal_nan=True)
                before = watchdog._evidence
                watchdog._evidence = replace(before, gradient_kept=bool(kept or before.gradient_kept))
            watchdog._first_backward = False

        small.register_hook(remember)
        small.register_post_accumulate_grad_hook(compare)

    @property
    def rate(self) -> float | None:
        """The largest learning rate among the optimizer's groups at its last step."""
        return self._hooks.rate

    @property
    def last_recorded(self) -> int:
        """The step of the newest record; 0 if there is none."""
        return max([*self._records.get("steps", [])[-1:], 0])

    @property
    def sees_predictions(self) -> bool:
        """Whether the hooks saw logits and their gradients, so that `step` needs no loss."""
        return self._hooks.n_classes is not None

    @property
    def last_step(self) -> int:
        """The newest known optimizer step."""
        return max(self._hooks.steps, self.last_recorded)

    @property
    def evidence(self) -> StepEvidence:
        """The records so far."""
        return self._evidence

    @property
    def report(self) -> Report:
        """The report so far, with every finding once."""
        return replace(self._report, findings=link_causes(self._findings.values(), self._earlier))

    def judge(self) -> None:
        """Apply the rules to the evidence so far and report new findings.

        Raises:
            RefusedError: an error was found under the policy `stop`.
        """
        self._read_notes()
        evidence = [self._evidence, *self._further.values()]
        self._report = run_rules(evidence, "training", self._allow, self._rules, self._earlier)
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
    """Whether a warning became an error, which is reported again and stops the run."""
    return finding.severity == "error" != than.severity


def _planned_rates(scheduler: Any, total_steps: int | None) -> np.ndarray | None:
    """The planned rate of each step, shape (steps,), of the group with the largest; None if it cannot be determined."""
    if scheduler is None or not total_steps:
        return None
    try:
        return planned_rates(scheduler, total_steps)
    except CannotTell:
        return None


def _sample_matrix(model: nn.Module, parts: ModelParts) -> tuple[torch.Tensor | None, bool]:
    """A trainable matrix from the middle of the model as a sample of all updates, and whether it is in the encoder.

    Matrices of zeros, such as one of LoRA's two, are excluded: relative to their norm every first update is too large.
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
