#!/usr/bin/env bash
# transformers 5.23.0: with `train_sampling_strategy="group_by_length"`, `Trainer.predict` returns rows in another order.
#
# The documentation calls this setting the sampler of the training dataloader. But it also chooses the sampler for
# evaluation and prediction, which then shuffles the rows and groups them by length. `predict` does not put them back: row
# i of `predictions` is not row i of the data set. `label_ids` are shuffled alike, so the metrics are right and nothing
# looks wrong; whoever joins the predictions with the data set's own texts or labels, or submits them, gets other rows.
# Expected: the order of the data set, as with the other strategies, or a word in the documentation of `predict`.
#
# Seen: label_ids 0 to 7 with "random", "sequential" and "batch_rebalance"; [1, 7, 0, 3, 6, 4, 2, 5] with
# "group_by_length"; the predictions are those of the rows in the same order.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.23.0 tokenizers==0.23.3 torch==2.13.0 accelerate==1.15.0
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import torch
import transformers
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

transformers.logging.set_verbosity_error()
torch.manual_seed(0)
sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
model = BertForSequenceClassification(BertConfig(vocab_size=60, num_labels=8, **sizes)).eval()
lengths = [3, 9, 5, 2, 8, 4, 7, 6]  # each row has its own length, first word and label
rows = [{"input_ids": [7 * i + 1] + [59] * (n - 1), "label": i} for i, n in enumerate(lengths)]


def collate(batch: list[dict]) -> dict[str, torch.Tensor]:
    ids = [torch.tensor(row["input_ids"]) for row in batch]
    return {
        "input_ids": torch.nn.utils.rnn.pad_sequence(ids, batch_first=True),
        "attention_mask": torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        "labels": torch.tensor([row["label"] for row in batch]),
    }


with torch.no_grad():
    single = np.concatenate([model(torch.tensor([row["input_ids"]])).logits.numpy() for row in rows])
order = {}
for strategy in ("random", "sequential", "batch_rebalance", "group_by_length"):
    options = {"output_dir": "run", "use_cpu": True, "report_to": "none", "disable_tqdm": True}
    arguments = TrainingArguments(train_sampling_strategy=strategy, per_device_eval_batch_size=4, **options)
    result = Trainer(model, arguments, data_collator=collate, eval_dataset=rows).predict(rows)
    order[strategy] = result.label_ids.tolist()
    assert np.allclose(result.predictions, single[result.label_ids], atol=1e-5), "label_ids are of other rows"
    print(transformers.__version__, strategy, order[strategy], [lengths[i] for i in order[strategy]])
assert not np.allclose(single, np.roll(single, 1, axis=0), atol=1e-3), "the rows cannot be told apart"
grouped = order.pop("group_by_length")
assert all(other == list(range(8)) for other in order.values()), "another strategy changes the order too"
assert sorted(grouped) == list(range(8)) and grouped != list(range(8)), "group_by_length keeps the order of the rows"
PYTHON
