"""Gradients of large embedding tables from the rows that were looked up, not from whole tables of zeros.

PyTorch fills a gradient of the table's size in every pass and adds it to the one before: 47 MB each time for 30,522
words at 384 numbers. A pass looks up two thousand of them. Kept as pairs of row and gradient until the optimizer step,
they fill one table, once.
"""

from torch import nn

LEAST_ROWS = 8192
"""Rows of a table below which a gradient of its size costs no more than one of pairs."""


def keep_looked_up_rows(model: nn.Module, keep: bool) -> None:
    """Whether backward passes give the large tables below `model` sparse gradients, from now on."""
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.num_embeddings >= LEAST_ROWS:
            # PyTorch has no sparse gradient that is scaled by the words' frequency.
            module.sparse = keep and not module.scale_grad_by_freq


def fill_tables(model: nn.Module) -> None:
    """Turn the sparse gradients of the model's parameters into dense ones: the same sums."""
    for parameter in model.parameters():
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.to_dense()
