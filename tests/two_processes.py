"""A program for one of two processes: a Trainer in several arrangements, and what TenorCallback finds in each."""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from tenor.checks.callback import TenorCallback

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
CODES = ("DST001", "DST002", "DST005", "DST006", "DST008")


class Dividing(BertForSequenceClassification):
    """Divides its loss by the number of rows of all processes, as a class that uses `num_items_in_batch` does."""

    def forward(self, input_ids: Any = None, labels: Any = None, num_items_in_batch: Any = None, **more: Any) -> Any:
        outputs = super().forward(input_ids=input_ids, **more)
        if labels is not None:
            total = nn.functional.cross_entropy(outputs.logits, labels, reduction="sum")
            outputs.loss = total / (len(labels) if num_items_in_batch is None else num_items_in_batch)
        return outputs


class OwnLoss(Trainer):
    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = nn.functional.cross_entropy(outputs.logits, labels)
        return (loss, outputs) if return_outputs else loss


def made(folder: Path, kind: type[Trainer] = Trainer, model: type[Any] = BertForSequenceClassification, **more: Any):
    torch.manual_seed(0)
    rows = [{"input_ids": [4 + row, 5, 6, 7], "attention_mask": [1] * 4, "labels": row % 2} for row in range(16)]
    arguments = {"use_cpu": True, "max_steps": 2, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
    return kind(
        model(BertConfig(vocab_size=64, max_position_embeddings=16, **SIZES)),
        TrainingArguments(str(folder), per_device_train_batch_size=4, logging_steps=1, **arguments, **more),
        train_dataset=rows,
        eval_dataset=rows,
        callbacks=[TenorCallback(policy="warn", seconds=0)],
    )


def evaluated(trainer: Trainer) -> Trainer:
    trainer.evaluate()
    return trainer


def copy_evaluated(trainer: Trainer) -> Trainer:
    """As the fix says: another Trainer, of a copy of the model."""
    Trainer(copy.deepcopy(trainer.model), trainer.args, eval_dataset=trainer.eval_dataset).evaluate()
    return trainer


def outcome(trainer: Trainer) -> dict[str, Any]:
    """The findings, and whether the processes still have the same weights after training."""
    trainer.train()
    callback = next(one for one in trainer.callback_handler.callbacks if isinstance(one, TenorCallback))
    codes = {finding.code: finding.severity for report in callback.all_reports for finding in report.findings}
    weights = torch.cat([p.detach().reshape(-1).double() for p in trainer.model.parameters()])
    others = [torch.zeros_like(weights) for _ in range(2)]
    torch.distributed.all_gather(others, weights)
    loss = next(record["loss"] for record in trainer.state.log_history if "loss" in record)
    kept = {code: codes[code] for code in CODES if code in codes}
    return {"codes": kept, "same": bool(torch.equal(*others)), "loss": loss}


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    plain = {"average_tokens_across_devices": False}
    results = {
        "as it is": outcome(made(folder)),
        "not averaged across devices": outcome(made(folder, **plain)),
        "evaluated before": outcome(evaluated(made(folder, **plain))),
        "a copy evaluated before": outcome(copy_evaluated(made(folder, **plain))),
        "a model that divides": outcome(made(folder, model=Dividing)),
        "a loss of its own": outcome(made(folder, kind=OwnLoss)),
    }
    if torch.distributed.get_rank() == 0:
        (folder / "results.json").write_text(json.dumps(results))
