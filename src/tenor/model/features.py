"""Runs a frozen encoder once: its output is cached, and the head is trained on it.

This is exact, not an approximation: a frozen encoder neither changes nor applies dropout, so the head's input is the
same in every epoch.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from tenor.data.batching import Batch
from tenor.data.tokenization import TokenizedText
from tenor.model.classifier import weights_digest
from tenor.model.freezing import TrainableParameters, anatomy
from tenor.runs.files import cached_file

HEADS_ON_FIRST_TOKEN = ("BertForSequenceClassification", "DistilBertForSequenceClassification")
"""Classifiers whose head reads only the hidden state of the first token; `head_logits` supports these."""


@dataclass(frozen=True)
class FeatureExamples:
    """The head's input for every row; lengths are those of the token rows, so that the batches are the same."""

    features: np.ndarray
    """Hidden state of the first token, or the mean over all, float32, shape (rows, width)."""
    lengths: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    def collate(self, rows: np.ndarray, rounded: bool = False) -> Batch:
        """`features`, shape (rows, width); there is nothing to pad."""
        features = torch.from_numpy(self.features[rows])
        return Batch({"features": features}, torch.from_numpy(self.labels[rows]), int(self.lengths[rows].sum()))


def can_cache_features(model: nn.Module, parameters: TrainableParameters) -> bool:
    """Whether nothing below the head is trainable, and `head_logits` supports the head."""
    return type(model).__name__ in HEADS_ON_FIRST_TOKEN and anatomy(model).head >= set(parameters.trainable)


def first_token_state(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The encoder's last hidden state of each row's first token, shape (rows, width)."""
    return model.base_model(**inputs)[0][:, 0]


def mean_state(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The mean of the encoder's last hidden states over each row's real tokens, shape (rows, width)."""
    mask = inputs["attention_mask"][..., None]
    return (model.base_model(**inputs)[0] * mask).sum(dim=1) / mask.sum(dim=1)


def head_logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the classifier's own `forward` computes from the first token's hidden state: logits (rows, K)."""
    features = inputs["features"]
    if type(model).__name__ == "BertForSequenceClassification":
        return model.classifier(model.dropout(model.bert.pooler(features[:, None])))
    return model.classifier(model.dropout(torch.relu(model.pre_classifier(features))))


def cached_features(
    model: Any,
    tokens: TokenizedText,
    run_encoder: Callable[[], np.ndarray],
    pooling: Literal["first-token", "mean"] = "first-token",
) -> FeatureExamples:
    """Features for all rows: read from the cache, or computed by `run_encoder` and cached.

    `run_encoder` computes in float32. The key covers the token ids, the pooling, every weight of the encoder, and the
    settings that affect its output.
    """
    key = hashlib.sha256(f"{pooling}-state v3".encode())
    body = anatomy(model).body
    key.update(weights_digest({name: p for name, p in model.named_parameters() if name in body}).encode())
    key.update(json.dumps(_function_of(model.config), sort_keys=True).encode())
    for ids, starts in tokens.chunks:
        key.update(ids[starts[0] : starts[-1]].tobytes())
        key.update(starts.tobytes())
    path = cached_file(
        "features", f"{key.hexdigest()}.npy", lambda path: np.save(path, run_encoder(), allow_pickle=False)
    )
    return FeatureExamples(np.load(path, mmap_mode="r", allow_pickle=False), tokens.lengths, tokens.labels)


def _function_of(config: Any) -> dict[str, Any]:
    """The settings of a `transformers` configuration that can affect a frozen encoder's output: activation, epsilon,
    …."""
    ignored = (
        "id2label",
        "label2id",
        "problem_type",
        "architectures",
        "transformers_version",
        "dtype",
        "_name_or_path",
    )
    return {key: value for key, value in config.to_dict().items() if key not in ignored and "dropout" not in key}
