#!/usr/bin/env bash
# transformers 5.23.0 (tokenizers 0.23.3): what save_pretrained writes depends on the last call of the tokenizer.
#
# A fast tokenizer sets the truncation and padding of a call on the tokenizer behind it, and leaves them there.
# save_pretrained writes that state into tokenizer.json. So two programs that trained on the same tokens save different
# files, if one of them calls the tokenizer once more before it saves: with truncation=True at last, everybody who reads
# tokenizer.json with the library tokenizers (or text-embeddings-inference, or a browser) truncates at that length without
# asking for it; with a plain call at last, nobody does. A logger or a checker that looks at one text changes the file.
# Expected: the same file for the same tokenizer, whatever was called.
#
# Seen: "truncation" is {"direction": "Right", "max_length": 5, ...} after a call with truncation, null after a plain call
# behind it, and tokenizers gives 5 and 9 ids for the same text.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.23.0 tokenizers==0.23.3
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
from importlib.metadata import version
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

text = "a film that nobody needs but that everybody liked"
words = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *sorted(set(text.split()))])}
inner = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
inner.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]")

found = {}
for name, last in (("truncation at last", {"truncation": True, "max_length": 5}), ("a plain call at last", {})):
    tokenizer(text, truncation=True, max_length=5)
    tokenizer(text, **last)
    tokenizer.save_pretrained(name)
    truncation = json.loads((Path(name) / "tokenizer.json").read_text())["truncation"]
    ids = len(Tokenizer.from_file(f"{name}/tokenizer.json").encode(text).ids)
    found[name] = ids
    print("transformers", version("transformers"), "|", name, "| truncation:", truncation, "| ids:", ids)
assert found == {"truncation at last": 5, "a plain call at last": 9}, "the saved file does not depend on the last call any more"
PYTHON
