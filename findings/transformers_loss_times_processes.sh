#!/usr/bin/env bash
# transformers 5.23.0: the Trainer multiplies a classifier's loss by the numbers of processes and of accumulation steps.
#
# The Trainer takes a model whose `forward` has **kwargs for one that divides its loss by `num_items_in_batch`, the rows of
# all processes and accumulation steps. It then multiplies by the processes (`average_tokens_across_devices`, on by
# default) and does not divide by the accumulation steps. But BERT, DeBERTa and other encoders for classification have the
# **kwargs and ignore the number: their loss is the mean over the rows that they are given. So the training loss and the
# gradient grow with both numbers, and the evaluation loss with the processes. Clipping then cuts more, and SGD takes
# larger steps.
# Expected: the loss of the rows. Known for the accumulation (issue 47688 of transformers). The remedy below is to set
# `model_accepts_loss_kwargs` of the Trainer to False.
#
# Seen, as multiples of the loss and gradient of all rows at once, for bert and deberta-v2: 2 processes: 2 in training and
# evaluation; 4 accumulation steps: 4 in training; both: 8 in training, 2 in evaluation; with the remedy 1 everywhere;
# with average_tokens_across_devices=False 1 for the processes, still 4 for the accumulation.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.23.0 tokenizers==0.23.3 torch==2.13.0 accelerate==1.15.0
cd "$folder"
cat >losses.py <<'PYTHON'
import itertools

import torch
import transformers
from transformers import AutoConfig, AutoModelForSequenceClassification, PrinterCallback, Trainer, TrainingArguments

transformers.logging.set_verbosity_error()
sizes = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
sizes |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
rows = [{"input_ids": [i, i + 8, i + 16], "label": i % 2} for i in range(1, 9)]
ids, labels = torch.tensor([row["input_ids"] for row in rows]), torch.tensor([row["label"] for row in rows])
options = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "no", "ddp_backend": "gloo"}
options |= {"max_steps": 1, "logging_steps": 1, "learning_rate": 0.0}  # one step over all rows, which changes no weight
for kind, case, accumulation in itertools.product(("bert", "deberta-v2"), ("default", "no average", "remedy"), (1, 4)):
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(kind, **sizes))
    loss = torch.nn.functional.cross_entropy(model(ids).logits, labels)
    loss.backward()
    loss = loss.item()
    gradient = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]).norm()
    model.zero_grad()
    arguments = TrainingArguments("run", gradient_accumulation_steps=accumulation, **options)
    assert arguments.average_tokens_across_devices, "another default"
    arguments.average_tokens_across_devices = case != "no average"
    processes = arguments.world_size
    arguments.per_device_train_batch_size = len(rows) // processes // accumulation
    trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows)
    trainer.remove_callback(PrinterCallback)
    if case == "remedy":
        trainer.model_accepts_loss_kwargs = False
    trainer.train()
    step, evaluation = trainer.state.log_history[0], trainer.evaluate()
    seen = torch.tensor([step["loss"] / loss, step["grad_norm"] / gradient, evaluation["eval_loss"] / loss])
    if arguments.process_index == 0:
        multiples = [round(multiple, 3) for multiple in seen.tolist()]
        print(transformers.__version__, kind, case, processes, "x", accumulation, multiples, flush=True)
    averaged = processes if case == "default" else 1
    training = 1 if case == "remedy" else averaged * accumulation
    expected = torch.tensor([training, training, averaged], dtype=torch.float)
    assert torch.allclose(seen, expected, rtol=1e-3), f"{kind}, {case}: other multiples of the losses or gradient"
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()
PYTHON
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
for processes in 1 2; do
    "$folder/venv/bin/python" -m torch.distributed.run --standalone --nproc-per-node "$processes" losses.py
done
