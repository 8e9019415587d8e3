"""Calls a function when a library has been imported, without importing it."""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from tenor.watch.patches import global_randomness_kept, guarded

Action = Callable[[ModuleType], None]


def when_imported(name: str, action: Action) -> None:
    """Call `action` with the module `name` at the end of its import; at once if it is imported already."""
    if name in sys.modules:
        with guarded(f"the import of {name}"), global_randomness_kept():
            action(sys.modules[name])
        return
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    finder = next(finder for finder in sys.meta_path if isinstance(finder, _Finder))
    finder.actions.setdefault(name, []).append(action)


class _Finder(MetaPathFinder):
    """Finds nothing itself: it asks the other finders, and has their loader call the actions afterwards."""

    def __init__(self) -> None:
        self.actions: dict[str, list[Action]] = {}

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in self.actions:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    # A spec is often only asked for, to see whether a library is installed: nothing is imported yet.
                    spec.loader = _Loader(spec.loader, self.actions)
                return spec
        return None


class _Loader(Loader):
    """Loads with the given loader, which the module keeps, and calls the actions."""

    def __init__(self, loader: Any, actions: dict[str, list[Action]]) -> None:
        self.loader, self.actions = loader, actions

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The program must find the module as it is without this: resources are read through the loader.
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        self.loader.exec_module(module)
        for action in self.actions.pop(module.__name__, []):
            with guarded(f"the import of {module.__name__}"), global_randomness_kept():
                action(module)
