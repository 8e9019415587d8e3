"""`%load_ext tenor.watch`: what a notebook has made before is watched too, as far as it can be found."""

import gc
import sys

from tenor.watch.settings import WatchSettings, default_folder
from tenor.watch.start import start


def watch_notebook() -> None:
    """Put the hooks into this process, and find loaders, optimizers, schedulers and tokenizers that exist already."""
    start(WatchSettings(default_folder()))
    if "torch" in sys.modules:
        _adopt()
    print("tenor watch: watching; findings appear below the cells that train, and %tenor_watch concludes.")


def conclusion(line: str = "") -> None:
    """`%tenor_watch`: judge what was seen so far, print the conclusion and write the report."""
    from tenor.watch.observer import OBSERVER

    if not OBSERVER.is_watching or not OBSERVER.has_seen_anything:
        print("tenor watch: no training was seen yet.")
        return
    OBSERVER.session.conclude_so_far()


def _adopt() -> None:
    import torch
    from torch.optim.lr_scheduler import LRScheduler
    from torch.utils.data import DataLoader

    from tenor.watch.observer import OBSERVER

    tokenizers = sys.modules.get("transformers.tokenization_utils_base")
    places = [
        (torch.optim.Optimizer, OBSERVER.optimizers),
        (DataLoader, OBSERVER.loaders),
        (LRScheduler, OBSERVER.schedulers),
        *([(tokenizers.PreTrainedTokenizerBase, OBSERVER.tokenizers)] if tokenizers is not None else []),
    ]
    for found in gc.get_objects():
        for kind, known in places:
            if issubclass(type(found), kind):
                known.add(found)
