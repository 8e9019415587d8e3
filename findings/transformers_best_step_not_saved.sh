#!/usr/bin/env bash
# transformers 5.23.0: `load_best_model_at_end` keeps the last weights if the best evaluation fell between two checkpoints.
#
# Checkpoints may be rarer than evaluations: `save_steps` must be a multiple of `eval_steps`. The documentation of
# `load_best_model_at_end` says that the best checkpoint is always saved. But a new best evaluation triggers no save. If
# its step has no checkpoint and no earlier best had one, `best_model_checkpoint` stays None and `train` returns the last
# weights. If one had, that checkpoint is loaded, beside the better metric of the other step, even if a later checkpoint
# scored higher. Nothing is logged (pull request 28500 of transformers proposed a warning). `save_strategy="best"` does save.
# Expected: a checkpoint at the best step, or the best of those saved and a word that it is not the best step.
#
# Seen, with eval_steps=1, save_steps=3 and 6 steps: best at step 3: checkpoint-3 is loaded; at step 2 (accuracy 0.8):
# None, and the weights of checkpoint-6 (0.6), not those of checkpoint-3 (0.75); at step 5 (0.8): checkpoint-3 (0.7), not
# checkpoint-6 (0.75).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.23.0 tokenizers==0.23.3 torch==2.13.0 accelerate==1.15.0
cd "$folder"
HF_HUB_OFFLINE=1 HF_HUB_DISABLE_PROGRESS_BARS=1 "$folder/venv/bin/python" - <<'PYTHON'
from pathlib import Path

import torch
import transformers
from transformers import BertConfig, BertForSequenceClassification, PrinterCallback, Trainer, TrainingArguments

transformers.logging.disable_progress_bar()
sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
rows = [{"input_ids": [i, i + 8, i + 16], "label": i % 2} for i in range(8)]
options = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "max_steps": 6, "learning_rate": 1e-2}
options |= {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 1, "save_steps": 3}
options |= {"load_best_model_at_end": True, "metric_for_best_model": "accuracy"}
found = {}
for best in (2, 3, 5):
    torch.manual_seed(0)
    scores = iter([0.8 - 0.05 * abs(step - best) for step in range(1, 7)])  # falls on both sides of the best step
    trainer = Trainer(
        BertForSequenceClassification(BertConfig(vocab_size=60, **sizes)),
        TrainingArguments(f"best{best}", **options),
        train_dataset=rows,
        eval_dataset=rows,
        compute_metrics=lambda _, scores=scores: {"accuracy": next(scores)},
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    kept, state = trainer.model.state_dict(), trainer.state
    equal = []
    for path in sorted(Path(f"best{best}").iterdir()):
        weights = BertForSequenceClassification.from_pretrained(path).state_dict()
        equal += [path.name] * all(torch.equal(kept[key], weights[key]) for key in kept)
    found[best] = (state.best_global_step, state.best_metric, state.best_model_checkpoint, equal)
    print("transformers", transformers.__version__, "best step, metric and checkpoint, weights:", found[best])
assert found[3] == (3, 0.8, "best3/checkpoint-3", ["checkpoint-3"]), "a best step with a checkpoint is not loaded either"
assert found[2] == (2, 0.8, None, ["checkpoint-6"]), "best step 2: other weights than the last are kept"
assert found[5] == (5, 0.8, "best5/checkpoint-3", ["checkpoint-3"]), "best step 5: another checkpoint is loaded"
PYTHON
