#!/usr/bin/env bash
# transformers 5.23.0: a two-class BART classifier that `save_pretrained` wrote cannot be loaded again.
#
# config.json leaves out id2label when it is that of two classes with the names LABEL_0 and LABEL_1, the default of most
# configurations, and num_labels is never written. But `BartConfig` has a default of its own, num_labels=3. So the saved
# folder says nothing of its classes, `from_pretrained` builds a head of 3 rows and finds weights of 2: RuntimeError. The
# message names `ignore_mismatched_sizes`; with it the model loads with 3 classes and a head that is newly initialised.
# Expected: what save_pretrained wrote loads with the same number of classes, as with 3 and 5 classes, or with names.
#
# Seen: 2 classes: no id2label in config.json, RuntimeError; 3 and 5: load; 2 with names of their own: load.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.23.0 tokenizers==0.23.3 torch==2.13.0
cd "$folder"
HF_HUB_OFFLINE=1 HF_HUB_DISABLE_PROGRESS_BARS=1 "$folder/venv/bin/python" - <<'PYTHON'
import json
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForSequenceClassification, BartConfig, BartForSequenceClassification

transformers.logging.set_verbosity(transformers.logging.CRITICAL)
transformers.logging.disable_progress_bar()
sizes = {"vocab_size": 60, "d_model": 16, "max_position_embeddings": 32}
sizes |= {f"{part}_{what}": 1 for part in ("encoder", "decoder") for what in ("layers", "attention_heads", "ffn_dim")}
cases = {f"classes{count}": {"num_labels": count} for count in (2, 3, 5)}
cases["named2"] = {"id2label": {0: "negative", 1: "positive"}, "label2id": {"negative": 0, "positive": 1}}
loads, written, heads = {}, {}, {}
for name, labels in cases.items():
    model = BartForSequenceClassification(BartConfig(**sizes, **labels))
    model.save_pretrained(name)
    config = json.loads(Path(name, "config.json").read_text())
    written[name] = bool({"id2label", "label2id", "num_labels"} & set(config))
    heads[name] = model.classification_head.out_proj.weight
    try:
        loads[name] = AutoModelForSequenceClassification.from_pretrained(name).config.num_labels
    except RuntimeError as error:
        loads[name] = f"RuntimeError: {error}"
print("transformers", transformers.__version__, "classes in config.json:", written)
print(loads)
assert [len(head) for head in heads.values()] == [2, 3, 5, 2], "another number of outputs"
assert written == {"classes2": False, "classes3": True, "classes5": True, "named2": True}, "other labels are written"
assert (loads["classes3"], loads["classes5"], loads["named2"]) == (3, 5, 2), "another model does not load"
assert "ignore_mismatched_sizes" in str(loads["classes2"]), "two classes: they load, or the error is another"
forced = AutoModelForSequenceClassification.from_pretrained("classes2", ignore_mismatched_sizes=True)
head = forced.classification_head.out_proj.weight
print("with ignore_mismatched_sizes:", forced.config.num_labels, "classes")
assert len(head) == 3 and not torch.equal(head[:2], heads["classes2"]), "the saved head is kept"
PYTHON
