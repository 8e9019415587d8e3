"""Sparse gradients of embedding tables end as the dense ones would."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tenor.model import table_gradients
from tenor.model.table_gradients import LEAST_ROWS, fill_tables, keep_looked_up_rows
from tiny_models import KINDS, fresh_tiny_model


def _gradients(model: nn.Module, batches: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    for ids in batches:
        model(input_ids=ids, labels=torch.zeros(len(ids), dtype=torch.long)).loss.backward()
    fill_tables(model)
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_over_several_passes_are_those_of_dense_tables(kind: str, tiny_models: dict[str, Path]) -> None:
    model = fresh_tiny_model(tiny_models[kind]).eval()
    batches = [torch.randint(5, 900, (4, 20)) for _ in range(3)]
    expected = {name: gradient.clone() for name, gradient in _gradients(model, batches).items()}
    keep_looked_up_rows(model, keep=True)
    assert any(module.sparse for module in model.modules() if isinstance(module, nn.Embedding))
    found = _gradients(model, batches)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert not gradient.is_sparse
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-7, msg=name)


def test_small_tables_keep_dense_gradients_and_all_do_afterwards() -> None:
    small, large = nn.Embedding(LEAST_ROWS - 1, 2), nn.Embedding(LEAST_ROWS, 2)
    scaled = nn.Embedding(LEAST_ROWS, 2, scale_grad_by_freq=True)
    model = nn.ModuleList([small, large, scaled])
    keep_looked_up_rows(model, keep=True)
    assert [module.sparse for module in (small, large, scaled)] == [False, True, False]
    keep_looked_up_rows(model, keep=False)
    assert not large.sparse


def test_the_sum_is_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_gradients, "LEAST_ROWS", 1)
    table, ids, weights = nn.Embedding(50, 64), torch.randint(50, (4000,)), torch.randn(4000, 64)
    keep_looked_up_rows(table, keep=True)

    def gradient() -> torch.Tensor:
        table.weight.grad = None
        for _ in range(2):
            (table(ids) * weights).sum().backward()
        fill_tables(table)
        assert table.weight.grad is not None
        return table.weight.grad

    first = gradient()
    assert all(torch.equal(gradient(), first) for _ in range(5))
