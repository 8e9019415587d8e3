"""Tenor's checks inside `transformers.Trainer`: preflight, watchdog, and findings at the end."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from transformers import TrainerCallback

from tenor.checks.before_training import preflight, what_to_pass
from tenor.checks.gather.trainer import owner_of, resumed_schedule, trainer_evidence
from tenor.checks.gather.trainer_columns import trainer_columns
from tenor.checks.rule import Rule
from tenor.checks.watchdog import Watchdog
from tenor.errors import RefusedError
from tenor.runs.findings import FINDINGS, Finding, Report, write_findings

STEPS_PER_RECORD = 10
"""The rules look at the steps at least this often, however rarely the Trainer logs."""


class TenorCallback(TrainerCallback):
    """Pass it to the Trainer: `Trainer(…, callbacks=[TenorCallback()])`.

    Findings are printed at once and written to `<output_dir>/findings.json` at the end. With the policy `stop` an error
    ends `trainer.train()` with `tenor.errors.RefusedError`.
    """

    def __init__(
        self,
        policy: Literal["stop", "warn"] = "stop",
        allow: Mapping[str, str] | None = None,
        declared_freeze: Any = None,
        seconds: float = 20.0,
        rules: Iterable[Rule] = (),
    ) -> None:
        self.rules = tuple(rules)
        self.policy, self.allow = policy, dict(allow or {})
        self.declared_freeze, self.seconds = declared_freeze, seconds
        self.reports: list[Report] = []
        self._watchdog: Watchdog | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        model, loader = module_of(kwargs["model"]), kwargs["train_dataloader"]
        steps_per_epoch = _steps_per_epoch(loader, args.gradient_accumulation_steps)
        evidence: list[Any] = [*trainer_evidence(model, args, state, loader)]
        if state.global_step:
            evidence.append(resumed_schedule(state.global_step, kwargs.get("lr_scheduler")))
        trainer = self.trainer_of(args, model)
        if trainer is not None:
            evidence.append(trainer_columns(trainer, state, loader, steps_per_epoch))
        report = preflight(
            model=model,
            train_loader=loader,
            eval_loader=kwargs.get("eval_dataloader"),
            tokenizer=kwargs.get("processing_class"),
            optimizer=kwargs.get("optimizer"),
            scheduler=kwargs.get("lr_scheduler"),
            total_steps=state.max_steps,
            steps_per_epoch=steps_per_epoch,
            declared_freeze=self.declared_freeze,
            accumulation=args.gradient_accumulation_steps,
            done=state.global_step,
            batches_read=self._batches_skipped(args, state, steps_per_epoch),
            seconds=self.seconds,
            allow=self.allow,
            evidence=evidence,
            rules=self.rules,
        )
        self.reports.append(report)
        for finding in report.findings:
            self.on_finding(finding)
        if missing := what_to_pass(report):
            self.on_missing(missing)
        self.write(args)
        if report.errors and self.policy == "stop":
            raise RefusedError("; ".join(f"{f.code} {f.title}: {f.observed}. {f.fix}" for f in report.errors))
        self._watchdog = Watchdog(
            model,
            kwargs.get("optimizer"),
            scheduler=kwargs.get("lr_scheduler"),
            loader=loader,
            total_steps=state.max_steps,
            every=min(self._steps_per_log(args, state), STEPS_PER_RECORD),
            done=state.global_step,
            clip_at=args.max_grad_norm or None,
            policy=self.policy,
            allow=self.allow,
            earlier=report.findings,
            on_finding=self.on_finding,
            rules=self.rules,
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._watchdog is None:
            return
        with self._findings_saved(args):
            if self._records_logs(args, state):
                self._watchdog.look()
            else:
                self._watchdog.step()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if self._watchdog is None or not logs or "loss" not in logs or not self._records_logs(args, state):
            return
        values = {name: float(logs[name]) for name in ("loss", "grad_norm", "learning_rate") if name in logs}
        with self._findings_saved(args):
            self._watchdog.record(state.global_step, **values)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._watchdog is not None:
            with self._findings_saved(args):
                self._watchdog.check_weights()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._watchdog is not None:
            with self._findings_saved(args):
                self._watchdog.finish()
        self.write(args)

    def trainer_of(self, args: Any, model: Any) -> Any:
        """The Trainer that trains this model, or None."""
        return owner_of(args, model)

    def _batches_skipped(self, args: Any, state: Any, steps_per_epoch: int | None) -> int | None:
        """Batches of the epoch that the Trainer skips when it resumes a run."""
        if steps_per_epoch is None:
            return None
        return 0 if args.ignore_data_skip else state.global_step % steps_per_epoch * args.gradient_accumulation_steps

    def _steps_per_log(self, args: Any, state: Any) -> int:
        """Steps between two logs of the loss; the whole run if it is logged by epoch or not at all."""
        if str(getattr(args.logging_strategy, "value", args.logging_strategy)) != "steps":
            return max(1, state.max_steps)
        return max(1, int(state.logging_steps or args.logging_steps))

    def _records_logs(self, args: Any, state: Any) -> bool:
        """Whether the logged numbers become the records: they are frequent, or the hooks see no logits."""
        watchdog = self._watchdog
        frequent = self._steps_per_log(args, state) <= STEPS_PER_RECORD
        return frequent or (watchdog is not None and not watchdog.sees_predictions)

    @contextmanager
    def _findings_saved(self, args: Any) -> Iterator[None]:
        """Write the findings also when one of them ends the training."""
        try:
            yield
        except RefusedError:
            self.write(args)
            raise

    def on_finding(self, finding: Finding) -> None:
        """Print a new finding to stderr."""
        from rich.console import Console

        from tenor.checks.finding import findings_view

        Console(stderr=True, markup=False).print(findings_view([finding]))

    def on_missing(self, line: str) -> None:
        """Print to stderr what would allow more rules to be checked before training."""
        print(f"tenor: {line}", file=sys.stderr)

    def write(self, args: Any) -> None:
        """Write the findings so far to `<output_dir>/findings.json`."""
        write_findings(Path(args.output_dir) / FINDINGS, self.all_reports)

    @property
    def all_reports(self) -> list[Report]:
        """The reports of the preflight and of the training so far."""
        return [*self.reports, *([self._watchdog.report] if self._watchdog is not None else [])]


def _steps_per_epoch(loader: Any, accumulation: int) -> int | None:
    """Optimizer steps in one pass over a loader; None for a stream, whose loader has a length only by name."""
    try:
        return max(1, -(-len(loader) // accumulation))
    except TypeError:
        return None


def module_of(model: Any) -> Any:
    """The PyTorch module of what a Trainer trains: SetFit's own class holds its encoder as `model_body`."""
    return getattr(model, "model_body", model)
