#!/usr/bin/env bash
# transformers 5.23.0: `pipeline("text-classification")` reads `config.function_to_apply`, but never applies it.
#
# `postprocess` chooses the function in this order: by config.problem_type, sigmoid for one output, softmax for several,
# and only then config.function_to_apply. One of the conditions before it holds for every classifier, so the value in
# config.json has no effect: a model published with "sigmoid" or "none" gets softmax, without a word. The argument of
# the same name, given to the pipeline, works.
# Expected: the configuration's value wins over the number of outputs, or an error says that it is not supported.
#
# Seen: the probabilities of softmax for "softmax", "sigmoid" and "none" in config.json (2 outputs, no problem_type); those
# of sigmoid and the raw outputs if the argument says so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.23.0 tokenizers==0.23.3 torch==2.13.0
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import json
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast, pipeline

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.manual_seed(0)
vocabulary = {"[PAD]": 0, "[UNK]": 1, "a": 2, "fine": 3, "film": 4}
backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
backend.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")
sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
model = BertForSequenceClassification(BertConfig(vocab_size=len(vocabulary), num_labels=2, **sizes)).eval()
with torch.no_grad():
    model.classifier.bias += torch.tensor([1.0, -2.0])
    outputs = model(**tokenizer("a fine film", return_tensors="pt")).logits[0]
expected = {"softmax": outputs.softmax(0), "sigmoid": outputs.sigmoid(), "none": outputs}


def scores(classify, **options) -> torch.Tensor:
    by_label = {row["label"]: row["score"] for row in classify("a fine film", top_k=None, **options)}
    return torch.tensor([by_label["LABEL_0"], by_label["LABEL_1"]])


for function, wanted in expected.items():
    model.config.function_to_apply = function
    for part in (model, tokenizer):
        part.save_pretrained(function)
    assert json.loads(Path(function, "config.json").read_text())["function_to_apply"] == function, "it is not saved"
    classify = pipeline("text-classification", model=function, device=-1)
    assert classify.model.config.function_to_apply == function, "the pipeline's model has lost it"
    configured, argument = scores(classify), scores(classify, function_to_apply=function)
    print(transformers.__version__, function, "in config.json:", configured.tolist(), "argument:", argument.tolist())
    assert torch.allclose(configured, expected["softmax"], atol=1e-5), f"{function}: the configuration has an effect"
    assert torch.allclose(argument, wanted, atol=1e-5), f"{function}: the argument has no effect"
PYTHON
