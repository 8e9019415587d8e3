"""Encoders small enough for tests: two layers, 32 wide, random weights, the embedded encoder's tokenizer."""

from pathlib import Path

import pyarrow as pa
import torch

from tenor.data.dataset import LabelledText
from tenor.data.sources.embedded import embedded_encoder_folder

LAYERS, WIDTH, HEADS = 2, 32, 4


def save_tiny_model(kind: str, folder: Path, seed: int = 7) -> Path:
    """Save a headless `distilbert`, `bert` or `roberta` encoder with its tokenizer below `folder`, and return it.

    The weights are drawn wider than usual, so that two texts differ by far more in their logits than rounding does.
    """
    from transformers import AutoTokenizer, BertConfig, DistilBertConfig, RobertaConfig
    from transformers import BertModel, DistilBertModel, RobertaModel

    tokenizer = AutoTokenizer.from_pretrained(embedded_encoder_folder())
    common = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "initializer_range": 0.2}
    bert = common | {
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 2 * WIDTH,
    }
    distilbert = common | {"dim": WIDTH, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": 2 * WIDTH}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        match kind:
            case "distilbert":
                model = DistilBertModel(DistilBertConfig(**distilbert))
            case "bert":
                model = BertModel(BertConfig(**bert))
            case "roberta":
                model = RobertaModel(RobertaConfig(**bert, max_position_embeddings=514, type_vocab_size=1))
            case _:
                raise ValueError(f"no tiny {kind}")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def labelled(
    texts: list[str],
    labels: list[int],
    class_names: tuple[str, ...] = ("negative", "positive"),
    groups: list[str] | None = None,
) -> LabelledText:
    """Rows in memory, as a source hands them over."""
    columns = {
        "id": pa.array([str(number) for number in range(1, len(texts) + 1)], pa.string()),
        "text": pa.array(texts, pa.large_string()),
        "label": pa.array(labels, pa.int64()),
    }
    if groups is not None:
        columns["group"] = pa.array(groups, pa.string())
    return LabelledText(pa.table(columns), class_names, "a test")
