"""Counts the classes of `transformers` whose loss nobody divides when gradients are accumulated (issue 47688, OPT022).

`Trainer` does not divide the loss of a model whose `forward` takes `**kwargs` (or that sets `accepts_loss_kwargs`): it
passes `num_items_in_batch` and expects the model to divide by it. A class whose loss never gets this number is
affected. The source of each `forward` is read; a `forward` that only calls `super().forward` counts as that one. No
model is built and no weights are needed:

    python benchmarks/loss_heads.py
"""

import ast
import importlib
import inspect
import pkgutil
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Literal

import transformers
from transformers import PreTrainedModel, models

Divider = Literal["the model", "Trainer", "nobody"]
NUMBER = "num_items_in_batch"


def heads() -> Iterator[type]:
    """The classes that are defined in `transformers.models`, each once."""
    for package in pkgutil.iter_modules(models.__path__, f"{models.__name__}."):
        for part in pkgutil.iter_modules(importlib.import_module(package.name).__path__, f"{package.name}."):
            if not part.name.rpartition(".")[2].startswith("modeling_"):
                continue
            try:
                module = importlib.import_module(part.name)
            except ImportError as error:
                print(f"not counted: {part.name} ({error})")
                continue
            yield from (
                one
                for one in vars(module).values()
                if inspect.isclass(one) and issubclass(one, PreTrainedModel) and one.__module__ == module.__name__
            )


def divider(head: type) -> Divider | None:
    """Who divides the loss of accumulated passes; None if `forward` computes no loss."""
    forward = _own_forward(head)
    parameters = inspect.signature(head.forward).parameters.values()  # type: ignore[attr-defined]
    catch_all = [one.name for one in parameters if one.kind is one.VAR_KEYWORD]
    calls = [node for node in ast.walk(_tree(forward)) if isinstance(node, ast.Call)]
    losses = [call for call in calls if "loss" in (name := ast.unparse(call.func).lower()) or "cross_entropy" in name]
    if not losses:
        return None
    if not getattr(head, "accepts_loss_kwargs", bool(catch_all)):
        return "Trainer"
    return "the model" if any(_gets_number(call, catch_all) for call in losses) else "nobody"


def _own_forward(head: type) -> object:
    """The `forward` of the class, or the one to which it hands everything."""
    for place in (one for one in head.__mro__ if "forward" in vars(one)):
        forward = inspect.unwrap(vars(place)["forward"])
        if "super().forward(" not in inspect.getsource(forward) or "loss_function" in inspect.getsource(forward):
            return forward
    return inspect.unwrap(head.forward)  # type: ignore[attr-defined]


def _tree(function: object) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))  # type: ignore[arg-type]


def _gets_number(call: ast.Call, catch_all: list[str]) -> bool:
    return any(
        (one.arg is None and ast.unparse(one.value) in catch_all) or NUMBER in ast.unparse(one.value)
        for one in call.keywords
    )


def main() -> None:
    warnings.filterwarnings("ignore")
    counts: dict[str, Counter[str]] = {}
    exceptions = []
    for head in heads():
        kind = head.__name__.rpartition("For")[2] if "For" in head.__name__ else ""
        who = divider(head) if kind else None
        if who is not None:
            counts.setdefault(kind, Counter())[who] += 1
            exceptions += [f"{head.__name__} ({who})"] if kind == "SequenceClassification" and who != "nobody" else []
    print(f"transformers {transformers.__version__}: who divides the loss of accumulated passes")
    for kind, of in sorted(counts.items(), key=lambda item: -sum(item[1].values()))[:12]:
        print(f"For{kind:<26} {', '.join(f'{who} {n}' for who, n in of.most_common())}")
    print("sequence classifiers that are not affected:", ", ".join(exceptions))


if __name__ == "__main__":
    main()
