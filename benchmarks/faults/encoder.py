"""A pretrained encoder that fine-tunes in seconds: MiniLM's lowest layer with its commonest word pieces.

So small, its first token knows little of a sentence; a pass over sentences that no program sees teaches it.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer, BertTokenizerFast

from tenor.data.sources.embedded import embedded_encoder_folder

PIECES = 6000


def save_small_encoder(folder: Path, texts: Sequence[str], labels: np.ndarray) -> Path:
    """Save the encoder with its tokenizer below `folder`, taught on these sentences."""
    source = embedded_encoder_folder()
    tokenizer = AutoTokenizer.from_pretrained(source)
    kept = _commonest(tokenizer, list(texts))
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=2, attention_probs_dropout_prob=0.0)
    encoder = model.bert
    embedding = encoder.embeddings.word_embeddings
    smaller = torch.nn.Embedding(len(kept), embedding.embedding_dim, padding_idx=kept.index(tokenizer.pad_token_id))
    with torch.no_grad():
        smaller.weight.copy_(embedding.weight[kept])
    encoder.embeddings.word_embeddings = smaller
    encoder.encoder.layer = encoder.encoder.layer[:1]
    model.config.num_hidden_layers, model.config.vocab_size = 1, len(kept)
    pieces = tokenizer.convert_ids_to_tokens(kept)
    small_tokenizer = BertTokenizerFast(vocab={piece: k for k, piece in enumerate(pieces)}, do_lower_case=True)
    _teach(model, small_tokenizer, texts, labels)
    encoder.save_pretrained(folder)
    small_tokenizer.save_pretrained(folder)
    return folder


def _teach(model: Any, tokenizer: Any, texts: Sequence[str], labels: np.ndarray, rate: float = 5e-4) -> None:
    """One epoch in batches of 32."""
    order = np.random.default_rng(0).permutation(len(texts))
    batches = [order[start : start + 32] for start in range(0, len(order), 32)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    model.train()
    for step, rows in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 20) * (1 - step / len(batches))
        inputs = tokenizer([texts[i] for i in rows], padding=True, truncation=True, max_length=48, return_tensors="pt")
        torch.nn.functional.cross_entropy(model(**inputs).logits, torch.from_numpy(labels[rows])).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def save_random_encoder(kind: str, source: Path, folder: Path, seed: int = 7) -> Path:
    """Save a tiny encoder of another kind with random weights and the tokenizer of `source`."""
    tokenizer = AutoTokenizer.from_pretrained(source)
    shape = (
        {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128}
        if kind == "distilbert"
        else {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    )
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _commonest(tokenizer: Any, texts: list[str]) -> list[int]:
    """Ids of the special tokens, of every single character, and of the commonest other pieces."""
    vocabulary = tokenizer.get_vocab()
    special = [vocabulary[token] for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")]
    characters = [k for piece, k in vocabulary.items() if len(piece.removeprefix("##")) == 1 and piece.isascii()]
    counts = Counter(k for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] for k in ids)
    common = [k for k, _ in counts.most_common(PIECES)]
    return list(dict.fromkeys([*special, *characters, *common]))
