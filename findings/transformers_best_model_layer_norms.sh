#!/usr/bin/env bash
# transformers 5.23.0: `load_best_model_at_end` leaves LayerNorms of the last step in a model whose files call them gamma.
#
# Older files (those of bert-base-uncased among them) call the weight and bias of a LayerNorm gamma and beta.
# `from_pretrained` renames them, and `save_pretrained`, so every checkpoint of the Trainer too, names them back. But at the
# end the Trainer reads the best checkpoint with `load_state_dict` and strict=False, without the renaming. So the model is
# a mixture: every LayerNorm from the last step, the rest from the best. What is then evaluated and saved is a model
# that was never scored. Two warnings name missing and unexpected keys, and `train` returns as always.
# Expected: the weights that `from_pretrained` reads from the same checkpoint, or an error.
#
# Seen: with the new names no weight is the last step's; with gamma and beta the weight and bias of all three LayerNorms.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.23.0 tokenizers==0.23.3 torch==2.13.0 accelerate==1.15.0
cd "$folder"
HF_HUB_OFFLINE=1 HF_HUB_DISABLE_PROGRESS_BARS=1 "$folder/venv/bin/python" - <<'PYTHON'
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForSequenceClassification, PrinterCallback, Trainer, TrainingArguments

transformers.logging.disable_progress_bar()
torch.manual_seed(0)
sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
for name in ("new", "old"):
    BertForSequenceClassification(BertConfig(vocab_size=60, **sizes)).save_pretrained(name)
weights = load_file("old/model.safetensors")
old_names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
for new_name, old_name in old_names.items():
    weights = {key.replace(new_name, old_name): value for key, value in weights.items()}
save_file(weights, "old/model.safetensors", metadata={"format": "pt"})
rows = [{"input_ids": [i, i + 8, i + 16], "label": i % 2} for i in range(8)]

wrong = {}
for name in ("new", "old"):
    scores = iter([0.9, 0.8])  # the first of the two steps is the best
    options = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "per_device_train_batch_size": 4}
    options |= {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 1, "save_steps": 1, "max_steps": 2}
    options |= {"load_best_model_at_end": True, "metric_for_best_model": "accuracy", "learning_rate": 1e-2}
    model, loading = BertForSequenceClassification.from_pretrained(name, output_loading_info=True)
    assert not any(loading.values()), f"{name}: from_pretrained does not read every weight"
    trainer = Trainer(
        model,
        TrainingArguments(f"run_{name}", **options),
        train_dataset=rows,
        eval_dataset=rows,
        compute_metrics=lambda _, scores=scores: {"accuracy": next(scores)},
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    best, last = (f"run_{name}/checkpoint-{step}" for step in (1, 2))
    assert trainer.state.best_model_checkpoint == best, "another step is the best"
    kept = trainer.model.state_dict()
    expected, other = (BertForSequenceClassification.from_pretrained(path).state_dict() for path in (best, last))
    assert not any(torch.equal(expected[key], other[key]) for key in kept), "a weight does not change between the steps"
    wrong[name] = [key for key in kept if not torch.equal(kept[key], expected[key])]
    assert all(torch.equal(kept[key], other[key]) for key in wrong[name]), "weights of neither step"
    print("transformers", transformers.__version__, name, "weights of the last step:", wrong[name])
norms = [key for key in kept if "LayerNorm" in key]
assert len(norms) == 6 and wrong == {"new": [], "old": norms}, "other weights are those of the last step"
PYTHON
