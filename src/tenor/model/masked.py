"""Load an encoder with its masked-language-model (MLM) head, and compute logits for the selected tokens only."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import cross_entropy
from transformers.modeling_outputs import BaseModelOutput

from tenor.config.schema import Model
from tenor.errors import UserError
from tenor.model.classifier import RANDOM, load_classifier, load_model, locate, newly_initialized, quiet_transformers
from tenor.model.speed import with_children
from tenor.runs.process_state import SETTINGS

TOLERANCE = 1e-4
"""Relative to the largest logit: a hundred times the rounding error of float32 when sums change their order."""


@dataclass(frozen=True)
class MaskedModel:
    """A `transformers` masked language model, its tokenizer, and the origin of both."""

    model: Any
    tokenizer: Any
    origin: str
    new_weights: tuple[str, ...]
    """Newly initialized parameters of the head; none if the checkpoint contains it."""
    kept: dict[str, torch.Tensor]
    """Tensors of the encoder that masked-token prediction doesn't use (BERT's pooler) and the checkpoint contains: the
    adapted model keeps them as they are."""
    config: Any
    """The configuration as the checkpoint has it, with its own dropout."""
    attention_dropout: float

    @property
    def head(self) -> str:
        """Where the head is from, for the console and the summary."""
        if not self.new_weights:
            return "from the checkpoint"
        return f"newly initialized ({', '.join(self.new_weights)}); its output layer is tied to the word embeddings"


def load_masked_model(settings: Model, seed: int, device: str) -> MaskedModel:
    """Load an encoder with the checkpoint's MLM head, otherwise with a new one tied to the word embeddings.

    The initial weights of a new head depend only on `seed`.

    Raises:
        UserError: as `load_classifier`; or a kind of model that `transformers` has no MLM head for, or whose head reads
            more than the token that it predicts.
    """
    from transformers import AutoModelForMaskedLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

    # Every check of a model that is fine-tuned holds here too, and it knows the encoder's weights outside the MLM.
    classifier = load_classifier(settings, ("0", "1"), seed, device)
    config = copy.deepcopy(classifier.model.config)
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
        raise UserError(
            f"{settings.name}: transformers has no masked-language-model head for a {config.model_type} model. Choose "
            "one such as BERT, DistilBERT, RoBERTa or MiniLM"
        )
    config.tie_word_embeddings = True
    with SETTINGS:  # The generator is shared by the process: two loads at once would mix their seeds.
        torch.manual_seed(seed)
        if settings.name == RANDOM:
            model = AutoModelForMaskedLM.from_config(config)
            model.base_model.load_state_dict(classifier.model.base_model.state_dict())
            new = {name for name, _ in model.named_parameters() if not name.startswith(f"{model.base_model_prefix}.")}
        else:
            model, loading = load_model(AutoModelForMaskedLM, settings.name, locate(settings.name), config)
            new = {name for name, _ in model.named_parameters()} & newly_initialized(loading)
    refuse_mixing_head(settings.name, model)
    names = model.state_dict().keys()
    prefix = f"{classifier.model.base_model_prefix}."
    kept = {
        name: tensor.detach().clone()
        for name, tensor in classifier.model.state_dict().items()
        if name.startswith(prefix) and name not in names and name not in classifier.new_weights
    }
    own = copy.deepcopy(config) if settings.name == RANDOM else _source_config(settings.name)
    own.tie_word_embeddings, own.architectures = True, [type(model).__name__]
    return MaskedModel(
        model, classifier.tokenizer, settings.name, tuple(sorted(new)), kept, own, classifier.attention_dropout
    )


def _source_config(name: str) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(locate(name), trust_remote_code=False)


class _Computed(nn.Module):
    """Stands in for an encoder whose hidden states are computed already; everything else is the encoder's own."""

    def __init__(self, encoder: nn.Module, hidden: torch.Tensor) -> None:
        super().__init__()
        self.__dict__["encoder"], self.__dict__["hidden"] = encoder, hidden

    def forward(self, *_: Any, **__: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=self.hidden)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["encoder"], name)


def selected_logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The logits of the selected tokens, shape (selected, vocabulary), from a batch of `MaskedBlocks`.

    The encoder computes every token, the head only the selected ones: logits over the whole vocabulary cost more than a
    small encoder, and six of seven would be thrown away.
    """
    encoder = model.base_model
    hidden = encoder(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])[0]
    chosen = hidden.flatten(0, 1)[inputs["selected"]]
    shell = with_children(model, {model.base_model_prefix: _Computed(encoder, chosen[None])})
    # The ids are not read, but some models ask for their shape.
    return shell(input_ids=inputs["input_ids"].flatten()[inputs["selected"]][None]).logits[0]


def masked_scores(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """For each row the summed loss of its selected tokens and how many are predicted right, shape (rows, 2)."""
    logits, targets = selected_logits(model, inputs).float(), inputs["targets"]
    row = inputs["selected"] // inputs["input_ids"].shape[1]
    values = torch.stack([cross_entropy(logits, targets, reduction="none"), (logits.argmax(1) == targets).float()], 1)
    return values.new_zeros(len(inputs["input_ids"]), 2).index_add_(0, row, values)


def start_at_frequencies(masked: MaskedModel, counts: np.ndarray) -> bool:
    """Set a newly initialized output bias to the logarithms of the tokens' relative frequencies in the corpus.

    So the first loss is near the unigram entropy, and no step is spent on learning that `the` is frequent, with
    gradients that would change the encoder. `counts` has shape (vocabulary,). Returns whether there is such a bias.
    """
    bias = getattr(masked.model.get_output_embeddings(), "bias", None)
    if bias is None or not any(
        one is bias for name, one in masked.model.named_parameters() if name in masked.new_weights
    ):
        return False
    smoothed = np.ones(len(bias))
    smoothed[: len(counts)] += counts
    with torch.no_grad():
        bias.copy_(torch.from_numpy(np.log(smoothed / smoothed.sum())))
    return True


def refuse_mixing_head(name: str, model: Any) -> None:
    """Raises UserError if the head's logits for a token depend on other tokens, tried on eight arbitrary ones."""
    ids = torch.arange(8).remainder(model.get_input_embeddings().num_embeddings)[None]
    mask = torch.ones_like(ids)
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        whole = model(input_ids=ids, attention_mask=mask).logits[0, 2::3]
        alone = selected_logits(model, {"input_ids": ids, "attention_mask": mask, "selected": torch.tensor([2, 5])})
    model.train(was_training)
    if not torch.allclose(whole, alone, rtol=0, atol=TOLERANCE * float(whole.abs().max())):
        raise UserError(
            f"{name}: the head of a {type(model).__name__} reads more than the token that it predicts, which "
            "`tenor adapt` doesn't support. Choose a model such as BERT, DistilBERT, RoBERTa or MiniLM"
        )


def save_masked_model(folder: Path, masked: MaskedModel, tensors: dict[str, torch.Tensor]) -> None:
    """Write the adapted model as `transformers` saves one: encoder, MLM head, kept tensors, tokenizer."""
    whole = {**{name: one.contiguous() for name, one in masked.kept.items()}, **tensors}
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
    with quiet_transformers():
        masked.config.save_pretrained(folder)
        masked.tokenizer.save_pretrained(folder)
