#!/usr/bin/env bash
# torchmetrics 1.9.0: the hash of a metric depends on where its states lie in memory, so it is lost as a dictionary's key.
#
# `Metric.__hash__` includes its states, and the hash of a tensor is its address, which changes with most updates. A metric
# is an `nn.Module`, and modules are otherwise hashed by identity: code that keeps something for each module of a model (its
# mode, its hooks, its name) in a dictionary or a set does not find the metrics among them after a batch, now and then does.
# Expected: a hash that stays equal during the life of the object, as Python's data model demands.
#
# Seen: after 20 updates each, the metric was found again after some of them only; the Linear next to it always.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 torchmetrics==1.9.0 numpy==2.3.5
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import torch
from torch import nn
from torchmetrics.classification import BinaryAccuracy

metric, layer = BinaryAccuracy(), nn.Linear(2, 2)
modes = {module: module.training for module in nn.ModuleList([layer, metric]).modules()}
found, found_layer = 0, 0
for _ in range(20):
    metric.update(torch.tensor([1, 0]), torch.tensor([1, 1]))
    with torch.no_grad():
        layer.weight.add_(1)
    found, found_layer = found + (metric in modes), found_layer + (layer in modes)
print("torchmetrics", version("torchmetrics"), "metric found:", found, "of 20, layer found:", found_layer)
assert found < 20, "the metric is always found again"
assert found_layer == 20
PYTHON
