"""Programs under `tenor watch`: what they do stays bit-identical, and what is wrong with them is said."""

from pathlib import Path

import pytest

from watched_programs import LOOP, START, Programs

SAVE = """
import hashlib
print(hashlib.sha256(b"".join(v.numpy().tobytes() for v in model.state_dict().values())).hexdigest())
"""
OWN_RANDOMNESS = """
import random
import numpy as np
rng = np.random.default_rng(0)
class Rows(torch.utils.data.Dataset):
    def __init__(self):
        self.own = random.Random(0)
    def __len__(self):
        return len(x)
    def __getitem__(self, k):
        print("reading", k)
        return x[k] + self.own.gauss(0, 0.1), y[k]
def collate(rows):
    inputs, labels = torch.utils.data.default_collate(rows)
    return inputs.float() + rng.normal() + torch.randn(1), labels
"""


@pytest.mark.parametrize(
    ("rows", "loader"),
    [
        ("", "DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)"),
        ("", "DataLoader(TensorDataset(x, y), 16, shuffle=True, generator=torch.Generator().manual_seed(3))"),
        (OWN_RANDOMNESS, "DataLoader(Rows(), batch_size=16, shuffle=True, collate_fn=collate)"),
        pytest.param(
            OWN_RANDOMNESS.replace('        print("reading", k)\n', ""),  # Two workers print in any order.
            "DataLoader(Rows(), 16, shuffle=True, collate_fn=collate, num_workers=2, persistent_workers=True)",
            marks=pytest.mark.slow,
        ),
        ("", "[(x[k : k + 16], y[k : k + 16]) for k in range(0, 96, 16)]"),
    ],
)
def test_output_and_weights_are_bit_identical(programs: Programs, tmp_path: Path, rows: str, loader: str) -> None:
    first = next(line for line in LOOP.splitlines() if line.startswith("loader"))
    program = START + rows + LOOP.replace(first, f"loader = {loader}") + SAVE
    watched, alone = (
        programs.run(tmp_path / name, program, watched=name == "watched") for name in ("watched", "alone")
    )
    assert watched.status == alone.status == 0
    assert watched.out == alone.out
    assert watched.record is not None
    assert alone.record is None
    assert not [code for code, severity in watched.codes.items() if severity == "error"]


def test_a_healthy_program_is_judged_and_found_sound(programs: Programs, tmp_path: Path) -> None:
    watched = programs.run(tmp_path, START + LOOP)
    assert watched.record is not None
    assert len(watched.record["checked"]) > 30
    assert "18 steps" in watched.record["conclusion"]
    assert "error" not in watched.codes.values()
    assert "watched" not in watched.out
    assert (watched.folder / "report.html").is_file()


AS_USUAL = "        optimizer.zero_grad()\n        loss.backward()\n        optimizer.step()\n"
CLEARED_TOO_EARLY = "        loss.backward()\n        optimizer.zero_grad()\n        optimizer.step()\n"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("model.parameters()", "model[0].parameters()", "OPT002"),
        ("        optimizer.zero_grad()\n", "", "OPT012"),
        ("        optimizer.step()\n", "", "OPT021"),
        (AS_USUAL, CLEARED_TOO_EARLY, "OPT021"),
        ("lr=1e-2", "lr=0.0", "OPT005"),
        ("cross_entropy(model(inputs), labels)", "cross_entropy(model(inputs).softmax(1), labels)", "LOS013"),
        ("cross_entropy(model(inputs), labels)", "cross_entropy(model(inputs) * float('nan'), labels)", "LOS007"),
        ("        loss = ", "        loss = -", "LOS003"),
        ("cross_entropy(model(inputs), labels)", "cross_entropy(model(inputs), labels * 0)", "LOS017"),
        ("functional.cross_entropy(model(inputs), labels)", "CrossEntropyLoss()(model(inputs), labels * 0)", "LOS017"),
        ("model(inputs), labels)", "model(inputs), model(inputs).argmax(1))", "LOS017"),
    ],
)
def test_a_fault_in_the_program_is_found(programs: Programs, tmp_path: Path, old: str, new: str, code: str) -> None:
    assert old in LOOP
    watched = programs.run(tmp_path, START + LOOP.replace(old, new))
    assert code in watched.codes, watched.record and watched.record["findings"]
    assert code in watched.err
    assert code not in watched.out


def test_a_program_that_fails_before_its_first_step_hears_why(programs: Programs, tmp_path: Path) -> None:
    in_a_dictionary = "for batch in loader:\n        inputs, labels = batch.pop('x'), batch.pop('labels')"
    program = START.replace("(x[:, 0] > 0).long()", "(x[:, 0] > 0).long() + 1") + LOOP.replace(
        "TensorDataset(x, y)", "[{'x': a, 'labels': b} for a, b in zip(x, y)]"
    ).replace("for inputs, labels in loader:", in_a_dictionary)
    watched = programs.run(tmp_path, program)
    assert watched.status == 1
    assert "IndexError" in watched.err
    assert "error" in watched.codes.values(), watched.record
    assert watched.record is not None
    assert any("the program ended with IndexError" in note for note in watched.record["notes"])


def test_stop_on_error_ends_the_program_with_status_3(programs: Programs, tmp_path: Path) -> None:
    watched = programs.run(tmp_path, START + LOOP.replace("lr=1e-2", "lr=0.0"), stop_on="error")
    assert watched.status == 3
    assert watched.out == ""
    assert watched.record is not None
    assert watched.record["stopped"]
    assert watched.record["findings"]


def test_an_accepted_finding_does_not_stop_the_program(programs: Programs, tmp_path: Path) -> None:
    program = START + LOOP.replace("lr=1e-2", "lr=0.0")
    allow = dict.fromkeys(("OPT005", "OPT021", "OPT006", "OPT017", "LOS004"), "a dry run")
    watched = programs.run(tmp_path, program, stop_on="error", allow=allow)
    assert watched.status == 0


EVALUATED = """
from sklearn.metrics import accuracy_score
model.eval()
with torch.no_grad():
    predicted = model(held_x).argmax(1)
print(accuracy_score(held_y, TOLD))
"""
HELD = "\nheld_x = torch.randn(300, 8)\nheld_y = (held_x[:, 0] > 0).long()\n"


def test_an_evaluation_is_judged_with_the_logits_that_the_model_gave(programs: Programs, tmp_path: Path) -> None:
    told = {"sound": "predicted", "swapped": "1 - predicted", "one class": "predicted * 0"}
    runs = {
        name: programs.run(tmp_path / name, START + HELD + LOOP + EVALUATED.replace("TOLD", what))
        for name, what in told.items()
    }
    assert "error" not in runs["sound"].codes.values()
    assert "300" in (runs["sound"].record or {})["conclusion"]
    assert {"EVL001", "EVL002", "EVL003"} & set(runs["one class"].codes), runs["one class"].codes
    assert "EVL007" in runs["swapped"].codes, runs["swapped"].codes


def test_a_training_that_is_no_classification_is_named_and_not_judged(programs: Programs, tmp_path: Path) -> None:
    program = START + LOOP.replace(
        "cross_entropy(model(inputs), labels)", "mse_loss(model(inputs)[:, 0], labels.float())"
    )
    watched = programs.run(tmp_path, program)
    assert watched.status == 0
    assert watched.record is not None
    assert not watched.codes
    assert any("no classification loss" in note for note in watched.record["notes"])
    assert "no problem found" not in watched.record["conclusion"]


def test_a_program_without_training_leaves_no_folder(programs: Programs, tmp_path: Path) -> None:
    watched = programs.run(tmp_path, "import torch\nprint(torch.ones(2).sum().item())")
    assert watched.record is None
    assert not watched.folder.exists()
    assert watched.err == ""


def test_a_fault_of_the_hooks_does_not_end_the_program(programs: Programs, tmp_path: Path) -> None:
    break_it = "from tenor.watch.observer import Observer\nObserver.on_loss = lambda self, *given: 1 / 0\n"
    watched = programs.run(tmp_path, break_it + START + LOOP)
    assert watched.status == 0
    assert watched.err.count("ZeroDivisionError") == 1
    assert watched.record is not None
    assert any("failed" in note for note in watched.record["notes"])


LOOKS_AHEAD = """
import sys, types
sys.modules.setdefault("accelerate.data_loader", types.ModuleType("accelerate.data_loader"))
def one_ahead(loader):
    batches = iter(loader)
    current = next(batches)
    for following in batches:
        yield current
        current = following
    yield current
"""


def test_a_loader_that_is_ahead_of_the_program_is_not_mistaken(programs: Programs, tmp_path: Path) -> None:
    ahead = LOOP.replace("in loader:", "in one_ahead(loader):")
    evaluated = """
from sklearn.metrics import accuracy_score
model.eval()
with torch.no_grad():
    pairs = [(model(a).argmax(1), b) for a, b in one_ahead(DataLoader(TensorDataset(held_x, held_y), batch_size=32))]
print(accuracy_score(torch.cat([b for _, b in pairs]), torch.cat([a for a, _ in pairs])))
"""
    watched = programs.run(tmp_path, START + HELD + LOOKS_AHEAD + ahead + evaluated)
    assert watched.status == 0, watched.err
    assert "error" not in watched.codes.values(), watched.record and watched.record["findings"]
    assert "LOS017" in (watched.record or {})["checked"]


def test_a_list_of_texts_and_classes_is_judged_before_the_first_step(programs: Programs, tmp_path: Path) -> None:
    program = (
        START
        + """
rows = [(f"text {k}", 0) for k in range(400)] + [(f"text {k}", 1) for k in range(400)]
def collate(batch):
    return torch.randn(len(batch), 8), torch.tensor([label for _, label in batch])
loader = DataLoader(rows[:400], batch_size=16, shuffle=True, collate_fn=collate)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for inputs, labels in loader:
    nn.functional.cross_entropy(model(inputs), labels).backward()
    optimizer.step()
    optimizer.zero_grad()
    print("a step")
"""
    )
    watched = programs.run(tmp_path, program, stop_on="error")
    assert watched.status == 3
    assert "DAT001" in watched.codes
    assert watched.out == ""


def test_the_labels_of_a_model_that_computes_its_own_loss_are_those_of_its_call(
    programs: Programs, tmp_path: Path
) -> None:
    program = (
        START
        + HELD
        + """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    def forward(self, inputs, classes):
        logits = self.layers(inputs)
        return {"loss": nn.functional.cross_entropy(logits, classes), "logits": logits}
model = Model()
"""
        + LOOP.replace("nn.functional.cross_entropy(model(inputs), labels)", "model(inputs, labels)['loss']")
        + """
model.eval()
with torch.no_grad():
    for inputs, labels in DataLoader(TensorDataset(held_x, held_y), batch_size=32):
        model(inputs, labels)
"""
    )
    watched = programs.run(tmp_path, program)
    assert watched.status == 0, watched.err
    assert "300 rows" in (watched.record or {})["conclusion"]
    assert "error" not in watched.codes.values(), watched.record and watched.record["findings"]


TWO_OPTIMIZERS = """
loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
head = torch.optim.AdamW(HEAD, lr=1e-2)
body = torch.optim.AdamW(model[0].parameters(), lr=1e-2)
for epoch in range(3):
    for inputs, labels in loader:
        nn.functional.cross_entropy(model(inputs), labels).backward()
        for optimizer in (body, head):
            optimizer.step()
        model.zero_grad()
"""


def test_two_optimizers_of_one_model_are_judged_together(programs: Programs, tmp_path: Path) -> None:
    sound = programs.run(tmp_path / "sound", START + TWO_OPTIMIZERS.replace("HEAD", "model[2].parameters()"))
    faulty = programs.run(tmp_path / "faulty", START + TWO_OPTIMIZERS.replace("HEAD", "[model[2].bias]"))
    assert sound.status == faulty.status == 0, sound.err + faulty.err
    assert "error" not in sound.codes.values(), sound.record and sound.record["findings"]
    assert "training 2" in (sound.record or {})["conclusion"]
    assert {"OPT001", "OPT002"} & set(faulty.codes)


def test_a_second_optimizer_of_the_same_parameters_is_no_second_group(programs: Programs, tmp_path: Path) -> None:
    watched = programs.run(tmp_path, START + LOOP + LOOP.replace("optimizer", "second"))
    assert watched.status == 0, watched.err
    assert "error" not in watched.codes.values(), watched.record and watched.record["findings"]


PRINTING_TRAINER = """
import random
import tempfile
from transformers import Trainer, TrainingArguments
class Rows(torch.utils.data.Dataset):
    def __init__(self):
        self.own = random.Random(0)
    def __len__(self):
        return len(x)
    def __getitem__(self, k):
        print("reading", k)
        return {"inputs": x[k] + self.own.gauss(0, 0.1), "labels": y[k]}
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 2)
    def forward(self, inputs, labels=None):
        logits = self.layer(inputs)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}
model = Model()
arguments = TrainingArguments(tempfile.mkdtemp(), num_train_epochs=1, report_to="none", use_cpu=True, disable_tqdm=True,
                              save_strategy="no", logging_strategy="no")
Trainer(model, arguments, train_dataset=Rows()).train()
"""


def test_a_trainer_s_output_and_weights_are_bit_identical(programs: Programs, tmp_path: Path) -> None:
    program = START + PRINTING_TRAINER + SAVE
    watched, alone = (programs.run(tmp_path / str(on), program, watched=on) for on in (True, False))
    assert watched.status == alone.status == 0, watched.err

    def without_times(text: str) -> list[str]:
        return [line for line in text.splitlines() if "train_runtime" not in line]

    assert without_times(watched.out) == without_times(alone.out)
    assert watched.record is not None


NOTEBOOK = """
loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
import tenor.watch
class Notebook:
    def register_magic_function(self, function, magic_name):
        self.magics = {magic_name: function}
notebook = Notebook()
tenor.watch.load_ipython_extension(notebook)
for inputs, labels in loader:
    nn.functional.cross_entropy(model(inputs), labels).backward()
    optimizer.step()
    optimizer.zero_grad()
print("trained")
notebook.magics["tenor_watch"]("")
print("concluded")
"""


def test_a_notebook_is_watched_from_the_extension_on(programs: Programs, tmp_path: Path) -> None:
    watched = programs.run(tmp_path, START + NOTEBOOK)
    assert watched.status == 0, watched.err
    assert "watching" in watched.out
    assert "OPT005" in watched.codes
    assert watched.err.count("rules checked on 6 steps") == 2  # By the magic, and when the process ends.
