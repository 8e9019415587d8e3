#!/usr/bin/env bash
# transformers 5.23.0: beside `model_type: qwen2`, AutoTokenizer replaces the folder's own tokenizer and loses words.
#
# qwen2 is in the library's list of model types whose published `tokenizer_class` is wrong. For these AutoTokenizer takes
# the class registered for the model type, whatever tokenizer_config.json says, even for a folder that this version has
# written itself. `Qwen2Tokenizer` keeps the vocabulary and the template of special tokens of tokenizer.json, but puts a
# byte-level BPE in place of its model and its pre-tokenizer. A word-level tokenizer then finds no word after a space, and as
# the BPE has no unknown token, the words vanish: no error, no [UNK]. A classifier sees [CLS] [SEP] for any text.
# Expected: what save_pretrained wrote reads texts as before, as beside bert, qwen3 and the others, or an error.
#
# Seen: "really fine film" gives [2, 1, 4, 5, 3] before saving and beside bert and qwen3; beside qwen2 Qwen2Tokenizer
# gives [2, 3]; `PreTrainedTokenizerFast.from_pretrained` of the same folder gives [2, 1, 4, 5, 3].
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.23.0 tokenizers==0.23.3
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

transformers.logging.set_verbosity_error()
text = "really fine film"
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "fine", "film"]
backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
backend.pre_tokenizer = pre_tokenizers.Whitespace()
backend.post_processor = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
)
special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
original = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
expected = original(text)["input_ids"]
print(transformers.__version__, "before saving", expected)
assert expected == [2, 1, 4, 5, 3], "the tokenizer itself reads otherwise"
for kind in ("bert", "qwen3", "qwen2"):
    original.save_pretrained(kind)
    AutoConfig.for_model(kind).save_pretrained(kind)
    loaded = AutoTokenizer.from_pretrained(kind)
    ids = loaded(text)["input_ids"]
    print(kind, type(loaded).__name__, type(loaded.backend_tokenizer.model).__name__, ids)
    assert ids == ([2, 3] if kind == "qwen2" else expected), f"{kind}: other ids"
own = PreTrainedTokenizerFast.from_pretrained("qwen2")(text)["input_ids"]
print("qwen2, read with PreTrainedTokenizerFast", own)
assert own == expected, "the folder does not hold the tokenizer"
PYTHON
