"""Small classifiers with PEFT's adapters, hand-written ones, wrappers and heads of all kinds, and a short training."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from small_models import BAD, GOOD
from tenor.checks import Watchdog, preflight
from tenor.checks.finding import Finding

TASK = "SEQ_CLS"
NAMES = {0: "negative", 1: "positive"}
ATTENTION = {"bert": ["query", "value"], "roberta": ["query", "value"], "distilbert": ["q_lin", "v_lin"]}
SCALED = {
    "bert": (["key", "value", "output.dense"], ["output.dense"]),
    "roberta": (["key", "value", "output.dense"], ["output.dense"]),
    "distilbert": (["k_lin", "v_lin", "lin2"], ["lin2"]),
}
PROMPTS = {"task_type": TASK, "num_virtual_tokens": 4, "token_dim": 32, "num_layers": 2, "num_attention_heads": 4}


def _adapting(method: type[peft.PeftConfig], **more: Any) -> Callable[[str], peft.PeftConfig]:
    return lambda kind: method(**{"task_type": TASK, "target_modules": ATTENTION[kind], **more})


def _on_the_head(kind: str) -> peft.PeftConfig:
    head = {"bert": ["classifier"], "roberta": ["classifier.dense", "out_proj"]}
    return peft.LoraConfig(r=4, target_modules=ATTENTION[kind] + head.get(kind, ["pre_classifier", "classifier"]))


def _on_all_layers(kind: str) -> peft.PeftConfig:
    saved = ["pre_classifier", "classifier"] if kind == "distilbert" else None
    return peft.LoraConfig(task_type=TASK, r=4, target_modules="all-linear", modules_to_save=saved)


def _ia3(kind: str) -> peft.PeftConfig:
    targets, feed_forward = SCALED[kind]
    return peft.IA3Config(task_type=TASK, target_modules=targets, feedforward_modules=feed_forward)


METHODS: dict[str, Callable[[str], peft.PeftConfig]] = {
    "LoRA": _adapting(peft.LoraConfig, r=4, lora_dropout=0.1),
    "LoRA on all linear layers": _on_all_layers,
    "LoRA with biases": _adapting(peft.LoraConfig, r=4, bias="all", use_rslora=True),
    "LoRA as wide as the layer": _adapting(peft.LoraConfig, r=32),
    "LoRA on the head": _on_the_head,
    "LoRA, the head saved": _adapting(peft.LoraConfig, r=4, task_type=None, modules_to_save=["classifier"]),
    "LoRA, embeddings saved": _adapting(peft.LoraConfig, r=4, modules_to_save=["classifier", "word_embeddings"]),
    "LoRA and some tokens": _adapting(peft.LoraConfig, r=4, trainable_token_indices={"word_embeddings": [5, 6]}),
    "DoRA": _adapting(peft.LoraConfig, r=4, use_dora=True),
    "AdaLoRA": _adapting(peft.AdaLoraConfig, init_r=4, target_r=2, total_step=40),
    "LoHa": _adapting(peft.LoHaConfig, r=4),
    "LoKr": _adapting(peft.LoKrConfig, r=4),
    "VeRA": _adapting(peft.VeraConfig, r=16),
    "BOFT": _adapting(peft.BOFTConfig, boft_block_size=4),
    "OFT": _adapting(peft.OFTConfig, oft_block_size=4),
    "HRA": _adapting(peft.HRAConfig, r=4),
    "IA3": _ia3,
    "prompt tuning": lambda kind: peft.PromptTuningConfig(**PROMPTS),
    "p-tuning": lambda kind: peft.PromptEncoderConfig(**PROMPTS, encoder_hidden_size=16),
    "prefix tuning": lambda kind: peft.PrefixTuningConfig(**PROMPTS),
}


def load(folder: Path, **settings: Any) -> tuple[Any, dict[str, Any]]:
    """A classifier whose head is drawn as narrowly as real ones, and what `from_pretrained` reports."""
    torch.manual_seed(0)
    given = {"num_labels": 2, "id2label": NAMES, "label2id": {v: k for k, v in NAMES.items()}}
    return AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True, initializer_range=0.02, **{**given, **settings}
    )


def adapted(folder: Path, method: str = "LoRA", kind: str = "bert", **settings: Any) -> tuple[Any, dict[str, Any]]:
    """The same under PEFT."""
    model, report = load(folder, **settings)
    return peft.get_peft_model(model, METHODS[method](kind)), report


def encoder(folder: Path) -> Any:
    return AutoModel.from_pretrained(folder)


class LowRank(nn.Module):
    """LoRA by hand; its two matrices may have any names."""

    def __init__(self, base: nn.Linear, rank: int = 4, down: str = "down", up: str = "up") -> None:
        super().__init__()
        self.base, self.names = base.requires_grad_(False), (down, up)
        setattr(self, down, nn.Linear(base.in_features, rank, bias=False))
        setattr(self, up, nn.Linear(rank, base.out_features, bias=False))
        nn.init.zeros_(getattr(self, up).weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        down, up = (getattr(self, name) for name in self.names)
        return self.base(x) + up(down(x))


class LowRankChange(nn.Module):
    """The same as a parametrization of a weight."""

    def __init__(self, outputs: int, inputs: int, rank: int = 4) -> None:
        super().__init__()
        self.left, self.right = nn.Parameter(torch.zeros(outputs, rank)), nn.Parameter(torch.randn(rank, inputs) / 9)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + self.left @ self.right


def by_hand(model: Any, rank: int = 4, down: str = "down", up: str = "up") -> Any:
    """LoRA on queries and values of a BERT, its head left as it is."""
    model.bert.requires_grad_(False)
    for layer in model.bert.encoder.layer:
        attention = layer.attention.self
        attention.query = LowRank(attention.query, rank, down, up)
        attention.value = LowRank(attention.value, rank, down, up)
    return model


class Passing(nn.Module):
    """Passes calls on, and puts `module.` before every name."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **named: Any) -> Any:
        return self.module(*args, **named)


class Own(nn.Module):
    """A head of one's own on the first token of a bare encoder, which may be wrapped by PEFT."""

    def __init__(
        self, inside: Any, head: str = "fc", hidden: int = 0, outputs: int = 2, detached: bool = False
    ) -> None:
        super().__init__()
        self.backbone, self.head, self.detached = inside, head, detached
        self.dense = nn.Linear(32, hidden) if hidden else None
        setattr(self, head, nn.Linear(hidden or 32, outputs))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.detached):
            first = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state[:, 0]
        return getattr(self, self.head)(first if self.dense is None else torch.tanh(self.dense(first)))


class Tied(nn.Module):
    """The embeddings of two words are the head."""

    def __init__(self, inside: Any) -> None:
        super().__init__()
        self.backbone = inside

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        first = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state[:, 0]
        return first @ self.backbone.get_input_embeddings().weight[[410, 405]].T


def make_loader(folder: Path) -> tuple[Any, DataLoader]:
    """A tokenizer and 128 sentences whose adjective gives the class, in batches of 8."""
    drawn, tokenizer = random.Random(0), AutoTokenizer.from_pretrained(folder)
    rows = [
        (
            f"{drawn.choice((BAD, GOOD)[k % 2])} film {drawn.randrange(400)} was {drawn.choice((BAD, GOOD)[k % 2])}",
            k % 2,
        )
        for k in range(128)
    ]

    def collate(some: list[tuple[str, int]]) -> dict[str, torch.Tensor]:
        found = tokenizer([text for text, _ in some], padding=True, return_tensors="pt")
        return {
            "input_ids": found["input_ids"],
            "attention_mask": found["attention_mask"],
            "labels": torch.tensor([label for _, label in some]),
        }

    generator = torch.Generator().manual_seed(0)
    return tokenizer, DataLoader(rows, 8, shuffle=True, collate_fn=collate, generator=generator)  # type: ignore[arg-type]


def optimizer_of(model: nn.Module, rate: float = 2e-3) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, weight_decay=0.0)


def before(folder: Path, model: Any, report: dict[str, Any] | None = None, **more: Any) -> tuple[Finding, ...]:
    """What preflight finds; `report` is that of `from_pretrained`. A hundredth of a second leaves memorising out."""
    tokenizer, loader = make_loader(folder)
    known = {"new_weights": tuple(report["missing_keys"]), "unused_weights": ()} if report else {}
    given = {"optimizer": optimizer_of(model), "class_names": tuple(NAMES.values()), "seconds": 0.01, **known, **more}
    return preflight(model=model, train_loader=loader, tokenizer=tokenizer, **given).findings


def during(
    folder: Path,
    model: Any,
    every: int = 1,
    rate: float = 2e-3,
    after_step: Callable[[int], None] = lambda step: None,
) -> tuple[Finding, ...]:
    """What the watchdog finds in 16 steps and a validation."""
    _, loader = make_loader(folder)
    optimizer = optimizer_of(model, rate)
    watchdog = Watchdog(model, optimizer, n_classes=2, total_steps=16, clip_at=1.0, every=every, policy="warn")
    model.train()
    for step, batch in enumerate(loader, start=1):
        labels = batch.pop("labels")
        output = model(**batch)
        loss = nn.functional.cross_entropy(getattr(output, "logits", output), labels)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        after_step(step)
        optimizer.zero_grad()
        watchdog.step(loss, grad_norm=norm)
    model.eval()
    watchdog.validation()
    return watchdog.report.findings


def loud(findings: tuple[Finding, ...]) -> dict[str, str]:
    """Code → what was observed, of errors and warnings."""
    return {f.code: f.observed for f in findings if f.severity != "note"}
