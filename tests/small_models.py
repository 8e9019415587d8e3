"""Encoders that know only the words of the small runs: quicker to load and to keep than the tiny ones."""

from pathlib import Path

WORDS = ("film", "was", "and", "scene", "movie", *(str(number) for number in range(400)))
GOOD, BAD = ("bright", "moving", "superb", "funny"), ("dull", "awful", "stale", "boring")


def save_small_model(kind: str, folder: Path, masks: bool = False) -> Path:
    """Save a headless two-layer encoder that knows the words of these sentences alone: quick to load and to keep. With
    `masks` its tokenizer has a mask token."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, PreTrainedTokenizerFast

    vocabulary = {word: k for k, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *GOOD, *BAD))}
    if masks:
        vocabulary["[MASK]"] = len(vocabulary)
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    if masks:
        names["mask_token"] = "[MASK]"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        if kind == "bert":
            sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
            model = BertModel(BertConfig(vocab_size=len(vocabulary), initializer_range=0.2, **sizes))
        else:
            sizes = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
            model = DistilBertModel(DistilBertConfig(vocab_size=len(vocabulary), initializer_range=0.2, **sizes))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
