#!/usr/bin/env bash
# wandb 0.31.0: an offline run leaves no config.yaml and no wandb-summary.json; only a binary file holds its values.
#
# `wandb.init(mode="offline")` and `finish()` say "Run data is saved locally in" a folder. Its files/ has neither the
# configuration nor the summary: both are only in the binary run-ID.wandb, until `wandb sync` sends it to a server. So on a
# machine without a server a program that looks through finished runs finds no hyperparameter and no metric.
# Expected: files/config.yaml and files/wandb-summary.json, as a run with a server has. Known to the library's
# authors (wandb issue 9646, pull request 11279).
#
# Seen: files/ holds requirements.txt only; learning_rate, accuracy and 0.75 are in the .wandb file.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet wandb==0.31.0
cd "$folder"
WANDB_DIR="$folder" WANDB_SILENT=true "$folder/venv/bin/python" - <<'PYTHON'
from pathlib import Path

import wandb

with wandb.init(mode="offline", project="findings", config={"learning_rate": 2e-5}) as run:
    run.log({"accuracy": 0.75})
(folder,) = Path("wandb").glob("offline-run-*")
files = sorted(path.name for path in (folder / "files").rglob("*"))
names = {path.name for path in folder.rglob("*")}
(record,) = folder.glob("*.wandb")
raw = record.read_bytes()
held = {text: raw.count(text.encode()) for text in ("learning_rate", "accuracy", "0.75")}
print("wandb", wandb.__version__, files, held)
assert not names & {"config.yaml", "wandb-summary.json"}, "the configuration or the summary is a file now"
assert all(held.values()), "the .wandb file holds no values"
PYTHON
