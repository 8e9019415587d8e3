"""What makes an encoder fast on a CPU.

Dropout with masks from whole random words (nearly three times as fast as PyTorch's); the last layer for the first token
only, if the head reads no other; several forward passes at once that share the CPU's threads.
"""

import ctypes
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from typing import Any, TypeVar

import torch
from torch import nn


class WordDropout(nn.Module):
    """Dropout from 16 random bits per element: the probability is rounded to 1/65536 and never to 0 or 1, and the
    scale is exact for it."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.generator: torch.Generator | None = None

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return hidden
        kept = min(max(round((1.0 - self.p) * 65536), 1), 65535)
        words = torch.empty((hidden.numel() + 3) // 4, dtype=torch.int64).random_(
            -(2**63), None, generator=self.generator
        )
        # Interpreted as signed 16-bit numbers, uniform over -32768 … 32767.
        mask = words.view(torch.int16)[: hidden.numel()].view(hidden.shape) < kept - 32768
        return hidden * mask.to(hidden.dtype).mul_(65536 / kept)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def set_generator(model: nn.Module, generator: torch.Generator | None) -> None:
    """Set the random generator of every `WordDropout` in `model`; None: PyTorch's global generator."""
    for module in model.modules():
        if isinstance(module, WordDropout):
            module.generator = generator


def use_word_dropout(model: nn.Module) -> int:
    """Replace every active `nn.Dropout` in `model`, which must be on the CPU; returns their count."""
    active = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Dropout) and 0.0 < child.p < 1.0
    ]
    for parent, name, child in active:
        setattr(parent, name, WordDropout(child.p).train(child.training))
    return len(active)


def with_children(module: nn.Module, children: Mapping[str, nn.Module]) -> nn.Module:
    """A shallow copy of `module` with some of its children replaced."""
    copied = copy(module)
    copied._modules = {**module._modules, **children}
    return copied


BERT_LIKE = (
    "BertForSequenceClassification",
    "RobertaForSequenceClassification",
    "XLMRobertaForSequenceClassification",
    "ElectraForSequenceClassification",
)
DISTILBERT = "DistilBertForSequenceClassification"


class FirstTokenLayer(nn.Module):
    """Replaces an encoder's last layer: hidden states (rows, length, d) → hidden states of the first token (rows, 1,
    d).

    It has the children of the original layer under the same names, so that the model's parameters keep their names.
    """

    def __init__(self, layer: Any, kind: str) -> None:
        super().__init__()
        for name, child in layer.named_children():
            self.add_module(name, child)
        self.train(layer.training)
        self.distilbert = kind == DISTILBERT
        attention = layer.attention if self.distilbert else layer.attention.self
        self.heads = attention.n_heads if self.distilbert else attention.num_attention_heads

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any
    ) -> torch.Tensor:
        own: Any = self
        first = hidden_states[:, :1]
        if self.distilbert:
            attended = self._attend(own.attention, hidden_states, attention_mask)
            normed = own.sa_layer_norm(own.attention.out_lin(attended) + first)
            return own.output_layer_norm(own.ffn(normed) + normed)
        attended = self._attend(own.attention.self, hidden_states, attention_mask)
        normed = own.attention.output(attended, first)
        return own.output(own.intermediate(normed), normed)

    def _attend(self, attention: Any, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """The attention output of the first token, shape (rows, 1, d)."""
        rows, _, width = hidden.shape
        size = width // self.heads
        to_query, to_key, to_value = (
            (attention.q_lin, attention.k_lin, attention.v_lin)
            if self.distilbert
            else (attention.query, attention.key, attention.value)
        )
        query = to_query(hidden[:, 0]).view(rows, self.heads, size)
        key, value = (linear.weight.view(self.heads, size, width) for linear in (to_key, to_value))
        scores = torch.einsum("bhe,hed->bhd", query, key) @ hidden.transpose(1, 2)
        # Shifts all scores of a head equally, which softmax ignores; kept so that this bias has its (zero) gradient.
        scores = (scores + (query * to_key.bias.view(self.heads, size)).sum(dim=-1, keepdim=True)) * size**-0.5
        if mask is not None:
            row = mask[:, 0, :1]
            scores = scores.masked_fill(~row, float("-inf")) if row.dtype == torch.bool else scores + row
        weights = attention.dropout(scores.softmax(dim=-1))
        mean = torch.einsum("bhd,hed->bhe", weights @ hidden, value)
        # Without dropout the weights' sum is 1.
        mean = mean + weights.sum(dim=-1, keepdim=True) * to_value.bias.view(self.heads, size)
        return mean.reshape(rows, 1, width)


def read_first_token_only(model: Any) -> bool:
    """Make `model` compute its last layer for the first token only. Returns whether its head allows that."""
    if not reads_first_token(model):
        return False
    layers = _encoder(model)[1].layer
    layers[-1] = FirstTokenLayer(layers[-1], type(model).__name__)
    return True


def with_first_token_layer(model: Any) -> Any:
    """A model that shares the weights of `model` and computes the last layer for the first token only.

    Returns `model` itself if its head is not known to read only the first token, or if this is already done.
    """
    if not reads_first_token(model):
        return model
    holder, encoder = _encoder(model)
    layers = nn.ModuleList([*list(encoder.layer)[:-1], FirstTokenLayer(encoder.layer[-1], type(model).__name__)])
    base = with_children(model.base_model, {holder: with_children(encoder, {"layer": layers})})
    return with_children(model, {model.base_model_prefix: base})


def reads_first_token(model: Any) -> bool:
    """Whether the head is known to read only the first token, and the last layer still computes all tokens."""
    if type(model).__name__ not in (*BERT_LIKE, DISTILBERT) or getattr(model.config, "is_decoder", False):
        return False
    return not isinstance(_encoder(model)[1].layer[-1], FirstTokenLayer)


def pads_exactly(model: Any) -> bool:
    """Whether padding on the right, masked, is known not to change the logits of `model`."""
    return type(model).__name__ in (*BERT_LIKE, DISTILBERT)


def _encoder(model: Any) -> tuple[str, Any]:
    name = "transformer" if type(model).__name__ == DISTILBERT else "encoder"
    return name, getattr(model.base_model, name)


_LOCK = threading.Lock()
_MODES: dict[int, tuple[int, bool]] = {}
"""For the id of every module in evaluation mode: the count of blocks, and whether it was in training mode before the
first. Its hash may change meanwhile: that of a torchmetrics object is the hash of its state."""


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode within the block; every module returns to its previous mode once all such blocks have ended.

    Blocks of several threads may overlap, on one model or on models that share modules.
    """
    modules = list(model.modules())
    with _LOCK:
        for module in modules:
            blocks, before = _MODES.get(id(module), (0, module.training))
            _MODES[id(module)] = blocks + 1, before
        model.eval()
    try:
        yield
    finally:
        with _LOCK:
            for module in modules:
                blocks, before = _MODES.pop(id(module))
                if blocks > 1:
                    _MODES[id(module)] = blocks - 1, before
                else:
                    module.training = before


Item = TypeVar("Item")
Result = TypeVar("Result")

OWN_NUMBERS = ("omp_set_num_threads", "MKL_Set_Num_Threads_Local")
"""Functions of C libraries that set the count of threads for computations of the calling thread."""

_LIBRARIES = ctypes.CDLL(torch._C.__file__)
"""PyTorch's library, and those that it is linked with."""
_NUMBER_OF_PROCESS = threading.Lock()


def map_side_by_side(work: Callable[[Item], Result], items: Sequence[Item], threads: int) -> Generator[Result]:
    """`work` of every item, in order, with at most `threads` items at a time, which share `threads` CPU threads.

    Inference mode and autocast are set per thread, so `work` must set them itself. Close the iterator if it is not
    consumed; pending items are then cancelled.
    """
    count = min(threads, len(items))
    if count <= 1:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(count, "pass", use_threads, (threads // count,))
    try:
        yield from pool.map(work, items)
    finally:
        pool.shutdown(cancel_futures=True)


def use_threads(count: int) -> None:
    """Let the calling thread compute with `count` CPU threads, without affecting any other thread.

    `torch.set_num_threads` also changes the default of the process, which every thread takes over when it first
    computes. So only the thread's own setting is changed: in OpenMP and, if PyTorch uses it, in Intel's MKL.
    """
    torch.get_num_threads()  # Initializes the thread's setting now, not when it first computes.
    for name in OWN_NUMBERS:
        if hasattr(_LIBRARIES, name):
            getattr(_LIBRARIES, name)(count)
    if torch.get_num_threads() != count:
        _set_and_restore_default(count)


def _set_and_restore_default(count: int) -> None:
    """The same for a PyTorch without OpenMP: the default of the process is changed for a moment.

    One thread at a time, so that none takes the temporary value of another thread for the default.
    """
    with _NUMBER_OF_PROCESS, ThreadPoolExecutor(1) as other:
        before = other.submit(torch.get_num_threads).result()
        torch.set_num_threads(count)
        other.submit(torch.set_num_threads, before).result()
