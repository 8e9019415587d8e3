#!/usr/bin/env bash
# transformers 5.23.0, accelerate 1.15.0: after `evaluate`, several processes each `train` a model of their own.
#
# `evaluate` and `predict` prepare the model with `evaluation_mode=True`, which wraps nothing but marks it as prepared.
# When `train` then prepares it for training, accelerate sees the mark and returns the bare model: there is no
# DistributedDataParallel, so no gradient is averaged. Each process trains on its own share of the rows and the weights
# drift apart; what is saved is the first process's model, which has seen only its share. To measure a model before it is
# trained is usual. Nothing is logged and no loss looks wrong.
# Expected: the wrapper, and with it the same weights in every process, as without the call before; or an error.
#
# Seen: `train` alone: wrapped, and the weights of both processes equal (difference 0.0); after `evaluate` or `predict`: not
# wrapped, and after three steps the weights differ by up to 0.038 (learning rate 0.01).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.23.0 tokenizers==0.23.3 torch==2.13.0 accelerate==1.15.0
cd "$folder"
cat >train.py <<'PYTHON'
import accelerate
import torch
import transformers
from torch.nn.parallel import DistributedDataParallel
from transformers import BertConfig, BertForSequenceClassification, PrinterCallback, Trainer, TrainingArguments

transformers.logging.set_verbosity_error()
sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
rows = [{"input_ids": [i, i + 8, i + 16], "label": i % 2} for i in range(8)]
options = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "no", "max_steps": 3}
options |= {"per_device_train_batch_size": 2, "learning_rate": 1e-2, "ddp_backend": "gloo"}
seen = {}
for first in ("train", "evaluate", "predict"):
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(vocab_size=60, **sizes))
    trainer = Trainer(model, TrainingArguments("run", **options), train_dataset=rows, eval_dataset=rows)
    trainer.remove_callback(PrinterCallback)
    if first == "evaluate":
        trainer.evaluate()
    if first == "predict":
        trainer.predict(rows)
    trainer.train()
    own = torch.cat([weight.detach().flatten() for weight in model.parameters()])
    ranks = [torch.empty_like(own) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(ranks, own)
    difference = float((ranks[0] - ranks[1]).abs().max())
    seen[first] = (len(ranks), isinstance(trainer.model_wrapped, DistributedDataParallel), difference)
    if torch.distributed.get_rank() == 0:
        print("transformers", transformers.__version__, "accelerate", accelerate.__version__, first, "first:", seen[first])
assert seen.pop("train") == (2, True, 0.0), "without a call before, the processes differ too"
for first, (processes, wrapped, difference) in seen.items():
    assert processes == 2 and not wrapped and difference > 1e-3, f"{first} before train: the gradients are averaged"
torch.distributed.destroy_process_group()
PYTHON
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
"$folder/venv/bin/python" -m torch.distributed.run --standalone --nproc-per-node 2 train.py
