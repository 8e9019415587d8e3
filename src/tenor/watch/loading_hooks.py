"""What `transformers` loads: the tokenizers, and which parameters of a model are not in its checkpoint.

Both modules are hooked while the library is imported, so nothing of it may be imported here.
"""

import functools
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tenor.watch.patches import global_randomness_kept, guarded, observe

if TYPE_CHECKING:
    from tenor.runs.findings import Report


def hook_loading(module: ModuleType) -> None:
    """Remember which parameters of each model were newly initialized, and which tensors were not used."""

    def after(result: Any, model: Any, *rest: Any, **named: Any) -> None:
        _observer().loading[model] = (tuple(result.missing_keys), tuple(result.unexpected_keys))

    original = module.PreTrainedModel._finalize_model_loading

    @functools.wraps(original)
    def observed(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        with guarded("the loading of a model"):
            after(result, *args, **kwargs)
        return result

    module.PreTrainedModel._finalize_model_loading = staticmethod(observed)


@global_randomness_kept()
def unmatched_report(model: Any, result: Any, allow: Mapping[str, str]) -> "Report":
    """What follows from a state of which `load_state_dict(strict=False)` used no tensor; `result` is what it
    returned."""
    from tenor.checks.catalogue import BY_CODE, run_rules
    from tenor.checks.gather.model import model_evidence

    evidence = model_evidence(
        model,
        getattr(getattr(model, "config", None), "num_labels", 2),
        new_weights=tuple(result.missing_keys),
        unused_weights=tuple(result.unexpected_keys),
    )
    return run_rules([evidence], "preflight", allow, [BY_CODE["MOD004"]])


def hook_tokenizers(module: ModuleType) -> None:
    """Remember the tokenizers of the program."""
    observe(module.PreTrainedTokenizerBase, "__call__", _after_tokenizing)
    observe(
        module.PreTrainedTokenizerBase,
        "__init__",
        lambda result, tokenizer, *rest, **named: _observer().tokenizers.add(tokenizer),
    )


def _after_tokenizing(result: Any, tokenizer: Any, text: Any = None, *rest: Any, **named: Any) -> None:
    if "torch" in sys.modules and text is not None and not named.get("text_pair") and not rest:
        _observer().texts.add(text, result)


def _observer() -> Any:
    """The observer, which imports torch; a model or a tokenizer exists only after that."""
    from tenor.watch.observer import OBSERVER

    return OBSERVER
