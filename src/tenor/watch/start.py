"""Puts the hooks into a process: called at its start by `tenor watch`, or by a notebook's `%load_ext tenor.watch`.

No library is imported here: each is hooked when the program imports it.
"""

from types import ModuleType

from tenor.watch.imports import when_imported
from tenor.watch.settings import WatchSettings

_STARTED: list[WatchSettings] = []


def start(settings: WatchSettings | None = None) -> None:
    """Watch this process; a second call changes nothing. `settings` are by default those of the environment."""
    if _STARTED:
        return
    _STARTED.append(settings or WatchSettings.from_environment())
    when_imported("torch", _hook_torch)
    when_imported("transformers.trainer", _hook_trainer)
    when_imported("transformers.modeling_utils", _hook_models)
    when_imported("transformers.tokenization_utils_base", _hook_tokenizers)
    when_imported("sklearn.metrics", _hook_sklearn)
    when_imported("torchmetrics.classification.stat_scores", _hook_torchmetrics)
    when_imported("torchmetrics.metric", _hook_metric_objects)
    for name in ("jax", "tensorflow"):
        when_imported(name, _name_unwatched)


def _hook_torch(module: ModuleType) -> None:
    from tenor.watch.torch_hooks import hook_torch

    hook_torch(_STARTED[0])


def _hook_trainer(module: ModuleType) -> None:
    from tenor.watch.trainer_hooks import hook_trainer

    hook_trainer(module)


def _hook_models(module: ModuleType) -> None:
    from tenor.watch.loading_hooks import hook_loading

    hook_loading(module)


def _hook_tokenizers(module: ModuleType) -> None:
    from tenor.watch.loading_hooks import hook_tokenizers

    hook_tokenizers(module)


def _hook_sklearn(module: ModuleType) -> None:
    from tenor.watch.metric_hooks import hook_sklearn

    hook_sklearn(module)


def _hook_torchmetrics(module: ModuleType) -> None:
    from tenor.watch.metric_hooks import hook_torchmetrics

    hook_torchmetrics(module)


def _hook_metric_objects(module: ModuleType) -> None:
    from tenor.watch.metric_hooks import hook_metric_objects

    hook_metric_objects(module)


def _name_unwatched(module: ModuleType) -> None:
    from tenor.watch.settings import UNWATCHED

    UNWATCHED.append(module.__name__)
