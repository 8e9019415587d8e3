"""The masked language model: transformers' loss, computed for the selected tokens only; its head; the saved folder."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer

from tenor.config.schema import Model
from tenor.data.dataset import LabelledText
from tenor.data.masking import MaskedBlocks, Masking, make_blocks
from tenor.data.sources.embedded import embedded_encoder_folder
from tenor.errors import UserError
from tenor.measures.masked_tokens import MaskedTokens, unigram_entropy
from tenor.model import masked as module
from tenor.model.classifier import load_classifier, quiet_transformers
from tenor.model.masked import (
    MaskedModel,
    load_masked_model,
    masked_scores,
    save_masked_model,
    selected_logits,
    start_at_frequencies,
)
from tiny_models import KINDS


def load(folder: Path, **settings: Any) -> MaskedModel:
    return load_masked_model(Model(name=str(folder), **settings), 3, "cpu")


def examples(tokenizer: Any, embeddings: int) -> MaskedBlocks:
    words = list(tokenizer.get_vocab())[2000:2300]
    random = np.random.default_rng(1)
    texts = [" ".join(random.choice(words, size)) for size in (5, 30, 70)]
    table = pa.table({"id": list("abc"), "text": pa.array(texts, pa.large_string()), "label": np.zeros(3, np.int64)})
    masking = Masking.of(tokenizer, 2, 0.15, embeddings)
    return MaskedBlocks(make_blocks(LabelledText(table, ("text",), "tests"), tokenizer, masking, 32), 0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_transformers(kind: str, tiny_models: dict[str, Path]) -> None:
    loaded = load(tiny_models[kind])
    model = loaded.model.eval()
    rows = examples(loaded.tokenizer, model.get_input_embeddings().weight.shape[0])
    batch = rows.collate(np.arange(len(rows)))
    labels = torch.full(batch.inputs["input_ids"].shape, -100)
    labels.view(-1)[batch.inputs["selected"]] = batch.labels
    ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
    expected = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    objective = MaskedTokens()
    logits = selected_logits(model, batch.inputs)
    found = objective.summed_loss(logits, batch.labels) / objective.total_weight(torch.from_numpy(rows.labels))
    assert logits.shape == (len(batch.labels), model.config.vocab_size)
    assert abs(found.item() - expected.item()) < 1e-5
    gradients = []
    for loss in (expected, found):
        model.zero_grad()
        loss.backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-5, rtol=1e-4)


def test_scores_of_a_row_are_its_summed_loss_and_right_predictions(tiny_bert: Path) -> None:
    loaded = load(tiny_bert)
    rows = examples(loaded.tokenizer, 30522)
    batch = rows.collate(np.arange(len(rows)))
    with torch.inference_mode():
        scores = masked_scores(loaded.model.eval(), batch.inputs)
        logits = selected_logits(loaded.model, batch.inputs)
    assert scores.shape == (len(rows), 2)
    assert float(scores[:, 0].sum()) == pytest.approx(float(MaskedTokens().summed_loss(logits, batch.labels)), rel=1e-5)
    assert float(scores[:, 1].sum()) == float((logits.argmax(1) == batch.labels).sum())


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_head_is_new_and_tied_to_the_word_embeddings(kind: str, tiny_models: dict[str, Path]) -> None:
    loaded = load(tiny_models[kind])
    assert "newly initialized" in loaded.head
    assert loaded.model.get_output_embeddings().weight is loaded.model.get_input_embeddings().weight
    again = load(tiny_models[kind])
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name


def test_the_head_of_the_checkpoint_is_used(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(embedded_encoder_folder())
    config = AutoConfig.for_model(
        "bert",
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
    )
    with quiet_transformers():
        saved = AutoModelForMaskedLM.from_config(config)
        saved.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert (loaded.head, loaded.new_weights) == ("from the checkpoint", ())
    for name, tensor in saved.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name
    assert not start_at_frequencies(loaded, np.ones(len(tokenizer)))


def test_a_new_head_starts_near_the_unigram_entropy(tiny_bert: Path) -> None:
    loaded = load(tiny_bert)
    with torch.no_grad():  # Leave the frequencies alone.
        loaded.model.get_input_embeddings().weight.mul_(1e-3)
    counts = np.zeros(30522, dtype=np.int64)
    counts[2000:2300] = np.arange(300)
    assert start_at_frequencies(loaded, counts)
    targets = torch.from_numpy(np.repeat(np.arange(30522), counts))
    inputs = {"input_ids": torch.tensor([[101, 2005, 102]]), "attention_mask": torch.ones(1, 3, dtype=torch.int64)}
    with torch.inference_mode():
        logits = selected_logits(loaded.model.eval(), {**inputs, "selected": torch.tensor([1])})
    loss = torch.nn.functional.cross_entropy(logits.expand(len(targets), -1), targets)
    assert float(loss) == pytest.approx(unigram_entropy(counts), abs=0.6)  # Smoothing costs ln(1 + V/N) = 0.52.


@pytest.mark.parametrize("kind", KINDS)
def test_the_saved_folder_has_encoder_pooler_and_head(kind: str, tiny_models: dict[str, Path], tmp_path: Path) -> None:
    loaded = load(tiny_models[kind], dropout=0.3)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.add_(0.01)
    tensors = {name: one for name, one in loaded.model.state_dict().items() if "decoder" not in name}
    save_masked_model(tmp_path, loaded, {name: one.contiguous().clone() for name, one in tensors.items()})
    again = load(tmp_path)
    assert again.head == "from the checkpoint"
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name
    source = load_classifier(Model(name=str(tiny_models[kind])), ("a", "b"), 0, "cpu")
    adapted = load_classifier(Model(name=str(tmp_path)), ("a", "b"), 0, "cpu")
    assert adapted.new_weights == source.new_weights  # The classifier, and no more than before.
    encoder = f"{loaded.model.base_model_prefix}."
    for name, tensor in adapted.model.state_dict().items():
        if name.startswith(f"{encoder}pooler."):
            assert torch.equal(tensor, source.model.state_dict()[name]), name
        elif name.startswith(encoder):
            assert torch.equal(tensor, loaded.model.state_dict()[name]), name
    dropout = {name: getattr(adapted.model.config, name, None) for name in ("hidden_dropout_prob", "dropout")}
    assert dropout == {name: getattr(source.model.config, name, None) for name in dropout}


def test_a_model_without_such_a_head_is_refused(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(embedded_encoder_folder())
    config = AutoConfig.for_model("gpt2", vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, pad_token_id=0)
    from transformers import AutoModel

    with quiet_transformers():
        AutoModel.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="no masked-language-model head for a gpt2 model"):
        load(tmp_path)


def test_a_head_that_reads_other_tokens_is_refused(tiny_bert: Path) -> None:
    model = load(tiny_bert).model
    head = model.cls.forward
    model.cls.forward = lambda hidden: head(hidden.mean(dim=1, keepdim=True).expand_as(hidden))
    with pytest.raises(UserError, match="reads more than the token that it predicts"):
        module.refuse_mixing_head("mine", model)
