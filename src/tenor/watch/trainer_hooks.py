"""`transformers.Trainer` gets Tenor's callback, which reports to the session."""

import dataclasses
import weakref
from pathlib import Path
from types import ModuleType
from typing import Any

from tenor.checks.callback import TenorCallback, module_of
from tenor.checks.diagnosis.artifacts import Artifacts
from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.runs.findings import Finding
from tenor.watch.observer import OBSERVER
from tenor.watch.patches import global_randomness_kept, guarded, observe
from tenor.watch.unnoticed import unnoticed


def hook_trainer(module: ModuleType) -> None:
    """Give every Trainer that is made the callback."""

    def after(result: Any, trainer: Any, *rest: Any, **named: Any) -> None:
        callback = WatchCallback(trainer)
        trainer.add_callback(callback)

    observe(module.Trainer, "__init__", after)


class WatchCallback(TenorCallback):
    """The callback that reports to the session instead of the Trainer's output folder, which stays as it is."""

    def __init__(self, trainer: Any) -> None:
        settings = OBSERVER.session.settings
        super().__init__(policy="warn", allow=settings.allow, seconds=settings.seconds)
        self._state: dict[str, Any] = {}
        self._folder = Path(trainer.args.output_dir)
        self._trainer = weakref.ref(trainer)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        optimizer = kwargs.get("optimizer")
        if optimizer is not None:
            OBSERVER.owned_by_others.add(getattr(optimizer, "optimizer", optimizer))
        OBSERVER.trainers.append(self)
        with (
            guarded("the beginning of a training"),
            global_randomness_kept(),
            unnoticed(module_of(kwargs["model"]), kwargs["train_dataloader"]),
        ):
            super().on_train_begin(args, state, control, **kwargs)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        with guarded("a training step"):
            super().on_step_end(args, state, control, **kwargs)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        with guarded("a training step"):
            super().on_log(args, state, control, logs, **kwargs)
            self._state = dataclasses.asdict(state)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        with guarded("an evaluation"):
            # Under "eval_accuracy", or with another prefix of the program's choice.
            reported = [value for name, value in (kwargs.get("metrics") or {}).items() if name.endswith("_accuracy")]
            if len(reported) == 1 and isinstance(reported[0], float) and 0 <= reported[0] <= 1 and args.world_size == 1:
                OBSERVER.evaluations.on_reported(reported[0])
            super().on_evaluate(args, state, control, **kwargs)
            self._state = dataclasses.asdict(state)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        with guarded("the end of a training"):
            super().on_train_end(args, state, control, **kwargs)
            self._state = dataclasses.asdict(state)

    def trainer_of(self, args: Any, model: Any) -> Any:
        return self._trainer()

    def on_finding(self, finding: Finding) -> None:
        OBSERVER.session.add([finding])

    def on_missing(self, line: str) -> None:
        """Nothing: arguments of `preflight` cannot be passed to a program as it is."""

    def write(self, args: Any) -> None:
        OBSERVER.session.write_if_due()

    def artifacts(self) -> list[Artifacts]:
        """What the Trainer recorded, read as `tenor diagnose` reads its output folder, with the callback's reports."""
        from tenor.checks.diagnosis.trainer_folder import is_trainer_folder, read_trainer_folder, read_trainer_state

        if self._folder.is_dir() and is_trainer_folder(self._folder):
            runs = read_trainer_folder(self._folder)
        else:
            runs = read_trainer_state(self._state, self._folder / "trainer_state.json")
        name = f"Trainer {OBSERVER.trainers.index(self) + 1}" if len(OBSERVER.trainers) > 1 else "Trainer"
        reports = self.all_reports
        runs = [dataclasses.replace(run, name=run.name or name, earlier=(*run.earlier, *reports)) for run in runs]
        return [_without_a_verdict(run) for run in runs] if OBSERVER.evaluations.has_calls else runs


def _without_a_verdict(run: Artifacts) -> Artifacts:
    """The Trainer's record has no evaluation, but the program may have evaluated in its own way."""
    return dataclasses.replace(
        run,
        evidence=tuple(
            dataclasses.replace(one, has_evaluation=one.has_evaluation or None)
            if isinstance(one, StepEvidence)
            else one
            for one in run.evidence
        ),
    )
