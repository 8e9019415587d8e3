#!/usr/bin/env bash
# lightning 2.6.6 with transformers 5.23.0: a pretrained encoder in a LightningModule trains without its dropout.
#
# `from_pretrained` returns a model in evaluation mode. Since 2.2, `Trainer.fit` leaves every submodule in the mode in
# which it was given, so the encoder stays in evaluation mode for the whole training, next to a head in training mode.
# The configured dropout of the encoder never acts. No warning is given (the summary of the model has "eval" in its
# column "Mode"); the same module in a plain loop, with `module.train()`, trains with it. `AutoModel.from_config` of the same configuration does have its dropout.
# Expected: dropout in training, or a warning. A way round: `AutoModel.from_pretrained(…).train()`.
#
# Seen: from_pretrained: head in training mode, 0 of 4 dropout layers of the encoder; from_config: 4 of 4.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 lightning==2.6.6
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON' 2>/dev/null
from importlib.metadata import version

import lightning
import torch
from torch import nn
from transformers import AutoModel, BertConfig, BertModel

config = BertConfig(vocab_size=32, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
BertModel(config).save_pretrained("encoder")


class Classifier(lightning.LightningModule):
    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(8, 2)

    def training_step(self, batch, _):
        ids, labels = batch
        layers = [one for one in self.encoder.modules() if isinstance(one, nn.Dropout)]
        self.seen = (self.head.training, sum(one.training for one in layers), len(layers))
        return nn.functional.cross_entropy(self.head(self.encoder(input_ids=ids).last_hidden_state[:, 0]), labels)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def modes(encoder):
    rows = torch.utils.data.TensorDataset(torch.randint(32, (4, 6)), torch.tensor([0, 1, 0, 1]))
    module = Classifier(encoder)
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(module, torch.utils.data.DataLoader(rows, batch_size=2))
    return module.seen


loaded, made = modes(AutoModel.from_pretrained("encoder")), modes(AutoModel.from_config(config))
print("lightning", version("lightning"), "transformers", version("transformers"), end=": ")
print("head in training mode, encoder's dropout layers in training mode, of:", loaded, "from_config:", made)
assert loaded[0] and loaded[1] == 0 < loaded[2], "the encoder is in training mode now"
assert made[0] and made[1] == made[2], "from_config is not in training mode either"
PYTHON
