"""Faults between text and token ids."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, BertTokenizerFast

from faults.fault import fault, faults_of
from faults.in_data import rewritten
from faults.program import Program


def own(program: Program) -> Any:
    return AutoTokenizer.from_pretrained(program.encoder)


@fault("preflight", "TOK001")
def another_models_vocabulary(program: Program) -> Program:
    """The tokenizer of another model: the same words under other ids."""

    def load(program: Program) -> Any:
        pieces = [piece for piece, _ in sorted(own(program).get_vocab().items(), key=lambda item: item[1])]
        special, others = pieces[:5], pieces[5:]
        mixed = [others[i] for i in np.random.default_rng(program.seed).permutation(len(others))]
        return BertTokenizerFast(vocab={piece: k for k, piece in enumerate([*special, *mixed])}, do_lower_case=True)

    return replace(program, load_tokenizer=load)


@fault("preflight", "TOK002")
def capitals_kept(program: Program) -> Program:
    """A tokenizer that keeps capitals, beside a model without any."""
    return replace(
        program, load_tokenizer=lambda program: BertTokenizerFast(vocab=own(program).get_vocab(), do_lower_case=False)
    )


@fault("preflight", "TOK003")
def another_script(program: Program) -> Program:
    """Half of the texts is in a script that the vocabulary does not have."""
    greek = str.maketrans("abcdefghiklmnoprstuvwxyz", "αβγδεφγηιικλμνοπρστυυωξυζ"[:24])
    rows = np.arange(0, len(program.train), 2)
    return replace(program, train=rewritten(program.train, rows, lambda text: text.lower().translate(greek)))


@fault("preflight", "TOK004")
def no_special_tokens(program: Program) -> Program:
    """Texts are encoded without [CLS] and [SEP]."""
    return replace(
        program,
        encode=lambda tokenizer, texts: dict(
            tokenizer(
                texts, padding=True, truncation=True, max_length=48, add_special_tokens=False, return_tensors="pt"
            )
        ),
    )


@fault("preflight", "TOK005")
def special_tokens_twice(program: Program) -> Program:
    """[CLS] and [SEP] are written into the text, and added by the tokenizer."""
    healthy = program.encode
    return replace(
        program, encode=lambda tokenizer, texts: healthy(tokenizer, [f"[CLS] {text} [SEP]" for text in texts])
    )


@fault("preflight", "TOK006")
def added_tokens_without_rows(program: Program) -> Program:
    """New tokens were added and the embedding was not resized."""

    texts = rewritten(program.train, np.arange(0, len(program.train), 3), lambda text: f"{text} filmcomedy")

    def load_new(program: Program) -> Any:
        tokenizer = own(program)
        tokenizer.add_tokens(["filmcomedy"])
        return tokenizer

    return replace(program, train=texts, load_tokenizer=load_new)


@fault("preflight", "TOK007")
def padding_without_mask(program: Program) -> Program:
    """The collate function drops the attention mask."""
    healthy = program.encode

    def encode(tokenizer: Any, texts: list[str]) -> dict[str, torch.Tensor]:
        return {"input_ids": healthy(tokenizer, texts)["input_ids"]}

    return replace(program, encode=encode)


@fault("preflight", "TOK007")
def a_mask_of_ones(program: Program) -> Program:
    """The mask is made anew, of ones."""
    healthy = program.encode

    def encode(tokenizer: Any, texts: list[str]) -> dict[str, torch.Tensor]:
        batch = healthy(tokenizer, texts)
        return {**batch, "attention_mask": torch.ones_like(batch["attention_mask"])}

    return replace(program, encode=encode)


@fault("preflight", "TOK008")
def padded_with_another_id(program: Program) -> Program:
    """Padding is written by hand, with [MASK] instead of [PAD]."""
    healthy = program.encode

    def encode(tokenizer: Any, texts: list[str]) -> dict[str, torch.Tensor]:
        batch = healthy(tokenizer, texts)
        ids = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, tokenizer.mask_token_id)
        return {**batch, "input_ids": ids}

    return replace(program, encode=encode)


FAULTS = faults_of(globals())
