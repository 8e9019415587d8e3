#!/usr/bin/env bash
# transformers 5.23.0, tokenizers 0.23.3: `AutoTokenizer.from_pretrained` answers for a folder without tokenizer files.
#
# `model.save_pretrained(folder)` writes config.json and the weights. For such a folder `AutoTokenizer.from_pretrained`
# raises nothing: it builds the class that belongs to the configuration, with its special tokens as the whole
# vocabulary. Every text becomes [CLS] [UNK] … [SEP] or <s> </s>, and a program that trains or predicts goes on. The
# length alone misleads for DeBERTa: `len(tokenizer)` is 7 for a vocabulary of 5. Other classes (ModernBERT) raise.
# Expected: an error for all of them, that says that the folder has no tokenizer.
#
# Seen: "a fine film" gives [CLS] [UNK] [UNK] [UNK] [SEP] (bert) and <s> </s> (roberta), each with a vocabulary of 5
# special tokens; deberta-v2 the same with a length of 7; modernbert a ValueError.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.23.0 tokenizers==0.23.3
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import transformers
from transformers import AutoConfig, AutoTokenizer

transformers.logging.set_verbosity_error()
for kind in ("bert", "roberta", "deberta-v2"):
    AutoConfig.for_model(kind).save_pretrained(kind)
    tokenizer = AutoTokenizer.from_pretrained(kind)
    vocabulary, ids = tokenizer.get_vocab(), tokenizer("a fine film")["input_ids"]
    pieces = tokenizer.convert_ids_to_tokens(ids)
    print(transformers.__version__, kind, type(tokenizer).__name__, sorted(vocabulary), len(tokenizer), pieces)
    assert set(vocabulary) == set(tokenizer.all_special_tokens), f"{kind}: it knows a word"
    assert set(pieces) <= set(tokenizer.all_special_tokens), f"{kind}: a text is read"
    if kind == "deberta-v2":
        assert len(tokenizer) == len(vocabulary) + 2, "DeBERTa's length is that of its vocabulary now"
AutoConfig.for_model("modernbert").save_pretrained("modernbert")
try:
    AutoTokenizer.from_pretrained("modernbert")
except ValueError as error:
    print("modernbert ValueError:", str(error).splitlines()[0])
else:
    raise AssertionError("modernbert: no error")
PYTHON
