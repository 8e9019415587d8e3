#!/usr/bin/env bash
# argilla 2.8.0: `Record.to_dict` drops the status of each response, so a discarded answer reads like a submitted one.
#
# An annotator's response is a draft, submitted or discarded. `Record.to_dict`, and with it the nested export (the default
# of `dataset.records.to_list`, `to_dict` and `to_json`, and the records of `Dataset.to_disk`), writes "value" and "user_id"
# only. The three cannot be told apart, and a program that takes labels from the export takes the discarded ones. Nor
# does the library read its own export back: `Record.from_dict` gives responses without a status, which are sent as
# drafts, the submitted ones too. The flat export (`flatten=True`) does write the status.
# Expected: the status next to the value, as in the flat export. (requests is installed because argilla imports it.)
#
# Seen: the same dictionary {"value": "positive", "user_id": …} for all three; flat: "label.responses.status" differs; read
# back: status None, and draft for the response of the user.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet argilla==2.8.0 requests==2.34.2
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import uuid
from importlib.metadata import version

import argilla as rg
from argilla.records._io import GenericIO  # what `dataset.records.to_list` calls; the public way needs a server

user = uuid.UUID(int=1)
nested, flat, restored = [], [], []
for status in ("submitted", "discarded", "draft"):
    response = rg.Response("label", "positive", user_id=user, status=status)
    record = rg.Record(id="1", fields={"text": "a fine film"}, responses=[response])
    assert GenericIO.to_list([record]) == [record.to_dict()], "the nested export is no longer that of to_dict"
    nested.append(record.to_dict()["responses"])
    flat.append(GenericIO.to_list([record], flatten=True)[0]["label.responses.status"])
    responses = list(rg.Record.from_dict(record.to_dict()).responses)
    restored.append((responses[0].status, rg.UserResponse(responses=responses).status))
    print("argilla", version("argilla"), status, nested[-1], "flat:", flat[-1], "read back:", restored[-1])
assert nested == [{"label": [{"value": "positive", "user_id": str(user)}]}] * 3, "the nested export tells them apart"
assert flat == [["submitted"], ["discarded"], ["draft"]], "the flat export has lost the status too"
assert [(status, sent.value) for status, sent in restored] == [(None, "draft")] * 3, "the status is read back"
PYTHON
