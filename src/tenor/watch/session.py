"""The findings of one watched process: printed at once, written at once, and concluded when the process ends."""

import atexit
import os
import sys
import time
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenor.watch.patches import global_randomness_kept
from tenor.watch.settings import WatchSettings

if TYPE_CHECKING:
    from tenor.checks.diagnosis import Diagnosis
    from tenor.runs.findings import Finding, Report

STOPPED = 3
EVERY_SECONDS = 30.0
"""The record of a training without findings is written anew after this time."""


class Session:
    """What is known about this process; files are written below `settings.folder`."""

    def __init__(self, settings: WatchSettings) -> None:
        self.settings = settings
        self.notes: list[str] = []
        self.trouble = ""
        """How the program ended, if it ended with an exception."""
        self._printed: dict[str, str] = {}
        self._process = os.getpid()
        self._folder: Path | None = None
        self._written = 0.0
        self._is_ended = False
        self.is_stopped = False
        """Whether a finding ended the program."""
        for name in ("thread", "process"):  # Neither can be imported any more when the process ends.
            import_module(f"concurrent.futures.{name}")
        self._hook_exceptions()
        atexit.register(self.conclude)

    @property
    def is_mine(self) -> bool:
        """Whether this is the process that began the session: a forked worker inherits it, and reports nothing."""
        return os.getpid() == self._process

    def note(self, text: str) -> None:
        """Something that the reader of the report must know, such as a training that could not be judged."""
        if text not in self.notes:
            self.notes.append(text)

    @global_randomness_kept()
    def add(self, findings: "Iterable[Finding]") -> None:
        """Print new findings, write the report, and end the program if one of them is severe enough."""
        if not self.is_mine:
            return
        new = [one for one in findings if self._printed.get(one.code) != one.severity]
        self._printed.update({one.code: one.severity for one in new})
        loud = [one for one in new if one.severity != "note"]
        if loud and is_first_rank():
            print_findings(loud)
        self.write()
        stops = {"error": ("error",), "warning": ("error", "warning"), "never": ()}[self.settings.stop_on]
        stopping = [one for one in new if one.severity in stops and not one.allowed]
        if stopping:
            self.is_stopped = True
            self.note(f"stopped at {stopping[0].code}, as --stop-on {self.settings.stop_on} asks for")
            self.conclude()
            raise SystemExit(STOPPED)

    @global_randomness_kept()
    def write(self) -> None:
        """Write what is known so far, in a form that is complete if the process is killed at any time."""
        from tenor.watch.outputs import write_record

        self._written = time.monotonic()
        write_record(self._own_folder(), self.diagnosis(), self.program, self.is_stopped, self.reports())

    def write_if_due(self) -> None:
        """Write again after some time, so that the record of a killed program says how far it came."""
        if time.monotonic() - self._written > EVERY_SECONDS:
            self.write()

    @property
    def program(self) -> str:
        """The command line of this process."""
        words = getattr(sys, "orig_argv", sys.argv)
        return " ".join([Path(words[0]).name, *words[1:]]) if words else "a program"

    def diagnosis(self) -> "Diagnosis":
        from tenor.watch.judgement import diagnosis_of

        return diagnosis_of(self, is_final=False)

    def reports(self) -> "list[Report]":
        from tenor.watch.judgement import reports_of

        return reports_of()

    @global_randomness_kept()
    def conclude(self) -> None:
        """At the end of the process: judge what is left, print the conclusion, write the report."""
        from tenor.watch.observer import OBSERVER
        from tenor.watch.patches import guarded

        if self._is_ended or not self.is_mine:
            return
        self._is_ended = True
        if not OBSERVER.has_seen_anything:
            return
        with guarded("the end of the program"):
            for training in OBSERVER.trainings:
                training.end()
            self.conclude_so_far()

    @global_randomness_kept()
    def conclude_so_far(self) -> None:
        """Judge what was seen so far, print the conclusion and write the report."""
        from tenor.watch.judgement import diagnosis_of
        from tenor.watch.outputs import print_conclusion, write_record

        diagnosis = diagnosis_of(self, is_final=True)
        write_record(self._own_folder(), diagnosis, self.program, self.is_stopped, self.reports())
        if is_first_rank():
            print_conclusion(diagnosis, set(self._printed), self._own_folder())

    def _own_folder(self) -> Path:
        """The folder of the session; of further processes that train, one below it for each."""
        from tenor.watch.outputs import RECORD

        if self._folder is None:
            rank = os.environ.get("RANK", "0")
            folder = self.settings.folder if rank in ("", "0") else self.settings.folder / f"rank-{rank}"
            if (folder / RECORD).exists():
                folder = folder / f"process-{self._process}"
            folder.mkdir(parents=True, exist_ok=True)
            self._folder = folder
        return self._folder

    def _hook_exceptions(self) -> None:
        """Remember the exception with which the program ends; it is printed as without this."""
        before = sys.excepthook

        def hook(kind: type[BaseException], error: BaseException, place: Any) -> None:
            text = f"{kind.__name__}: {error}".splitlines()[0].rstrip(" .:")
            self.trouble = f"the program ended with {text}"
            before(kind, error, place)
            # Now, while the traceback keeps the program's model and optimizer alive.
            from tenor.watch.observer import OBSERVER
            from tenor.watch.patches import guarded

            if self.is_mine and OBSERVER.session is self:
                with guarded("the end of the program"):
                    OBSERVER.after_failure()

        sys.excepthook = hook


def print_findings(findings: "list[Finding]") -> None:
    """To stderr: standard output belongs to the program."""
    from rich.console import Console

    from tenor.checks.finding import findings_view

    Console(stderr=True, markup=False).print(findings_view(findings))


def is_first_rank() -> bool:
    """Whether this process speaks for a distributed program."""
    return os.environ.get("RANK", "0") in ("", "0")
