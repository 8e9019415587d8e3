"""torch-audit's `autopatch` at the first step of every optimizer, on the model whose parameters the optimizer holds.

What it finds is written to WILD_TORCH_AUDIT, a file per process, whenever it changes: a program may be killed.
"""

import atexit
import gc
import json
import os
from pathlib import Path
from typing import Any

SEEN: list[tuple[Any, Any]] = []
"""Each optimizer with its auditor; None if its model was not found."""
WRITTEN = [0]


def install() -> None:
    from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

    register_optimizer_step_pre_hook(before_step)
    register_optimizer_step_post_hook(after_step)
    atexit.register(write)


def before_step(optimizer: Any, args: Any, kwargs: Any) -> None:
    from torch_audit import autopatch

    if any(one is optimizer for one, _ in SEEN):
        return
    model = model_of(optimizer)
    SEEN.append((optimizer, None))
    if model is not None:
        SEEN[-1] = (optimizer, autopatch(model, optimizer=optimizer, every_n_steps=1, reporters=[]))


def model_of(optimizer: Any) -> Any:
    """The innermost module with the most parameters of the optimizer: its forward is called, whatever wraps it."""
    from torch import nn

    held = {id(one) for group in optimizer.param_groups for one in group["params"]}
    best, best_key = None, (0, 0)
    for one in gc.get_objects():
        if issubclass(type(one), nn.Module):
            count = sum(id(parameter) in held for parameter in one.parameters())
            key = (count, -sum(1 for _ in one.modules()))
            if count and key > best_key:
                best, best_key = one, key
    return best


def after_step(optimizer: Any, args: Any, kwargs: Any) -> None:
    if sum(len(auditor.findings) for _, auditor in SEEN if auditor is not None) != WRITTEN[0]:
        write()


def write() -> None:
    findings = [one for _, auditor in SEEN if auditor is not None for one in auditor.findings]
    WRITTEN[0] = len(findings)
    record = {
        "optimizers": len(SEEN),
        "without_model": sum(auditor is None for _, auditor in SEEN),
        "said": sorted({(one.rule_id, one.severity.value) for one in findings}),
    }
    Path(f"{os.environ['WILD_TORCH_AUDIT']}-{os.getpid()}.json").write_text(json.dumps(record))
