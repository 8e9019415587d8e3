"""What a user writes besides a configuration: a sweep, and a file of rows to leave out."""

import contextlib
from pathlib import Path

from tenor.errors import UserError


def file_or_overrides(folder: Path, kind: int, content: bytes, sound: str) -> tuple[Path, list[str]]:
    """The content as a file of settings, or as overrides of one that is sound."""
    file = folder / "mine.yaml"
    if kind % 2:
        file.write_bytes(content)
        return file, []
    file.write_text(sound)
    return file, content.decode("utf-8", "replace").split("\0")


def read_sweep(folder: Path, kind: int, content: bytes) -> None:
    """Refused, or a sweep whose every range can be drawn from and whose every end is a configuration."""
    from tenor.config.sweep import load_sweep, values_of
    from tenor.workflows.sweep.study import base_values, definition_of, distribution

    sound = "phases: {a: {space: {training.learning_rate: {low: 1e-5, high: 1e-3, log: true}}}}"
    file, overrides = file_or_overrides(folder, kind, content, sound)
    with contextlib.suppress(UserError):
        plan = load_sweep(file, overrides)
        for name, phase in plan.sweep.phases.items():
            base_values(plan, name)
            definition_of(plan, name)
            for key, dimension in phase.space.items():
                distribution(key, dimension)
                for value in values_of(dimension):
                    plan.config(name, {key: value})


def sweeps() -> list[bytes]:
    from tenor.config.loading import builtin_names, builtin_text

    odd = [
        b"phases: {a: {space: {training.epochs: {low: 1, high: 9, step: 2}, model.freeze: {choices: [none, base]}}}}",
        b"phases.a.space.training.warmup={low: 0.0, high: 0.5, step: 0.25}\0seed=3\0storage=sqlite:///x.db",
        b"phases.a.trials=3\0objective=report.1.recall\0direction=maximize\0phases.a.pruner=none",
    ]
    return [*(builtin_text(name, "sweep").encode() for name in builtin_names("sweep")), *odd]


def read_exclusions(folder: Path, kind: int, content: bytes) -> None:
    from tenor.data.splits import read_excluded

    file = folder / "out.csv"
    file.write_bytes(content)
    with contextlib.suppress(UserError):
        assert all(read_excluded(str(file)))


def exclusions() -> list[bytes]:
    return [b"id,exclude\nx,yes\ny,NO\n", b'\xef\xbb\xbfrank,id\r\n1,"a ""b"""\r\n', b"id\nx\n\ny\n"]
