"""Encoders small enough for tests: two layers, 32 wide, random weights, the embedded encoder's tokenizer."""

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import torch

from tenor.config.schema import Model
from tenor.data.sources.embedded import embedded_encoder_folder
from tenor.model.classifier import Classifier, load_classifier, quiet_transformers

LAYERS, WIDTH, HEADS = 2, 32, 4

KINDS = ("distilbert", "bert", "roberta", "electra", "deberta-v2")


def save_tiny_model(kind: str, folder: Path, seed: int = 7) -> Path:
    """Save a headless encoder of one of `KINDS` with its tokenizer below `folder`, and return it.

    The weights are drawn wider than usual, so that two texts differ by far more in their logits than rounding does.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(embedded_encoder_folder())
    config = AutoConfig.for_model(
        kind,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.2,
        **_shape(kind),
    )
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed)
        AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def load_tiny(folder: Path, seed: int = 0, **settings: Any) -> Classifier:
    """The encoder of `folder` with a head of two classes on a CPU; `settings` are those of `Model`."""
    return load_classifier(Model(name=str(folder), **settings), ("negative", "positive"), seed, "cpu")


def fresh_tiny_model(folder: Path) -> Any:
    """A model of one's own that `load_tiny` loaded once: quicker than to load it again."""
    return deepcopy(_load_once(folder).model)


@cache
def _load_once(folder: Path) -> Classifier:
    return load_tiny(folder)


def _shape(kind: str) -> dict[str, Any]:
    if kind == "distilbert":
        return {"n_layers": LAYERS, "dim": WIDTH, "n_heads": HEADS, "hidden_dim": 2 * WIDTH}
    shape = {
        "num_hidden_layers": LAYERS,
        "hidden_size": WIDTH,
        "num_attention_heads": HEADS,
        "intermediate_size": 2 * WIDTH,
    }
    match kind:
        case "roberta":
            return {**shape, "max_position_embeddings": 514, "type_vocab_size": 1}
        case "electra":
            return {**shape, "embedding_size": WIDTH // 2}
        case "deberta-v2":
            return {**shape, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "norm_rel_ebd": "layer_norm"}
    return shape
