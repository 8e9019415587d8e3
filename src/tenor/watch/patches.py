"""How a function of a library is observed: its result is returned as it is, whatever the observer does."""

import functools
import random
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_STATE = threading.local()


@contextmanager
def own_work() -> Iterator[None]:
    """Inside, the hooks observe nothing: Tenor itself calls the model, the loader and the metrics."""
    before = getattr(_STATE, "busy", False)
    _STATE.busy = True
    try:
        yield
    finally:
        _STATE.busy = before


def is_own_work() -> bool:
    return getattr(_STATE, "busy", False)


def observe(owner: Any, name: str, after: Callable[..., None], even_if_refused: bool = False) -> None:
    """Replace `owner.name` by a function that calls it, and then `after(result, *args, **kwargs)`; with
    `even_if_refused` also, without a result, if it raises a ValueError."""
    original = getattr(owner, name, None)
    if original is None:
        return

    @functools.wraps(original)
    def observed(*args: Any, **kwargs: Any) -> Any:
        try:
            result = original(*args, **kwargs)
        except ValueError:
            if even_if_refused and not is_own_work():
                with guarded(name):
                    after(None, *args, **kwargs)
            raise
        if not is_own_work() and not _is_compiling():
            with guarded(name):
                after(result, *args, **kwargs)
        return result

    setattr(owner, name, observed)


@contextmanager
def global_randomness_kept() -> Iterator[None]:
    """Restore the global random states after the block: some libraries draw numbers while they are imported, as Rich
    does."""
    numpy, torch = (sys.modules.get(name) for name in ("numpy", "torch"))
    state = random.getstate()
    of_numpy = numpy.random.get_state() if numpy is not None else None
    of_torch = torch.get_rng_state() if torch is not None and hasattr(torch, "get_rng_state") else None
    try:
        yield
    finally:
        random.setstate(state)
        if numpy is not None:
            numpy.random.set_state(of_numpy)
        if torch is not None and of_torch is not None:
            torch.set_rng_state(of_torch)


_FAILED: set[str] = set()


@contextmanager
def guarded(what: str) -> Iterator[None]:
    """A fault of Tenor must not end somebody's training: it is reported once, on stderr, and the program goes on."""
    try:
        with own_work():
            yield
    except Exception as error:
        if what not in _FAILED:
            _FAILED.add(what)
            place = traceback.extract_tb(error.__traceback__)[-1]
            print(
                f"tenor watch: observing {what} failed, and is not repeated in this report: {type(error).__name__}: "
                f"{error} ({place.name}, line {place.lineno} of {place.filename}). The program goes on; please report "
                "it.",
                file=sys.stderr,
            )


def failures() -> tuple[str, ...]:
    """What could not be observed because of a fault of Tenor."""
    return tuple(sorted(_FAILED))


def _is_compiling() -> bool:
    """Whether torch.compile is tracing, which must see the original function."""
    torch = sys.modules.get("torch")
    return bool(torch is not None and hasattr(torch, "compiler") and torch.compiler.is_compiling())
