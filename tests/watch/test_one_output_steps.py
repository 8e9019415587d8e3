"""Models with one output per row and a binary cross-entropy are judged as classifiers of two classes."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tenor.checks.one_output import gradient_of_two, scores_in, two_logits, zero_one
from watched_programs import Programs

PROGRAM = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
x = torch.randn(320, 8)
y = (x[:, 0] > 0).float()
held_x = torch.randn(300, 8)
held_y = (held_x[:, 0] > 0).float()
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for epoch in range(3):
    for inputs, labels in loader:
        out = model(inputs).squeeze(1)
        loss = nn.functional.binary_cross_entropy_with_logits(out, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        right = total = 0
        for inputs, labels in DataLoader(TensorDataset(held_x, held_y), 64):
            right += ((model(inputs).squeeze(1) > 0).float() == labels).sum().item()
            total += len(labels)
    print(epoch, loss.item(), right / total)
"""
LOSS = "nn.functional.binary_cross_entropy_with_logits(out, labels)"
SIGMOID_LAST = [("nn.Linear(16, 1))", "nn.Linear(16, 1), nn.Sigmoid())"), (LOSS, "nn.BCELoss()(out, labels)")]
HEALTHY = {
    "logits": [],
    "a column": [(".squeeze(1)\n        loss", "\n        loss"), ("y = (x[:, 0] > 0)", "y = (x[:, :1] > 0)")],
    "a module": [(LOSS, "nn.BCEWithLogitsLoss(pos_weight=torch.tensor(1.0))(out, labels)")],
    "probabilities": SIGMOID_LAST,
    "sigmoid outside": [(LOSS, "nn.functional.binary_cross_entropy(out.sigmoid(), labels)")],
}


def changed(changes: list[tuple[str, str]]) -> str:
    program = PROGRAM
    for old, new in changes:
        assert old in program
        program = program.replace(old, new)
    return program


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_program_is_judged_and_found_sound(programs: Programs, tmp_path: Path, name: str) -> None:
    program = changed(HEALTHY[name])
    watched = programs.run(tmp_path / "watched", program)
    alone = programs.run(tmp_path / "alone", program, watched=False)
    assert watched.out == alone.out
    assert watched.record is not None
    assert {"LOS002", "LOS004", "LOS013", "OPT022", "DAT001", "EVL001"} <= set(watched.record["checked"])
    assert set(watched.codes.values()) <= {"note"}, watched.codes


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("DAT001", [("model =", "keep = y == 1\nx, y = x[keep], y[keep]\nmodel =")]),
        ("LOS002", [(LOSS, "nn.functional.binary_cross_entropy_with_logits(out.sigmoid(), labels)")]),
        ("LOS003", [("loss = ", "loss = -")]),
        ("LOS005", [(LOSS, "nn.BCEWithLogitsLoss(reduction='sum')(out, labels)")]),
        ("LOS014", [*SIGMOID_LAST[:1], (LOSS, "nn.BCELoss(reduction='sum')(out, labels)")]),
        ("LOS017", [(LOSS, "nn.functional.binary_cross_entropy_with_logits(out, labels * 0)")]),
        ("OPT005", [("lr=1e-2", "lr=0.0")]),
        ("EVL001", [("\ny = (x[:, 0] > 0)", "\ny = (torch.rand(320) > 0.05)")]),
    ],
)
def test_a_fault_is_found(programs: Programs, tmp_path: Path, code: str, changes: list[tuple[str, str]]) -> None:
    watched = programs.run(tmp_path, changed(changes))
    assert code in watched.codes, watched.record


UNJUDGED = {
    "regression": [("y = (x[:, 0] > 0).float()", "y = x[:, 0]"), (LOSS, "nn.functional.mse_loss(out, labels)")],
    "soft labels": [("y = (x[:, 0] > 0).float()", "y = x[:, 0].sigmoid()")],
    "several labels per row": [
        ("nn.Linear(16, 1)", "nn.Linear(16, 3)"),
        (".squeeze(1)\n        loss", "\n        loss"),
        ("y = (x[:, 0] > 0).float()", "y = (x[:, :3] > 0).float()"),
    ],
    "labels of the program's own": [(LOSS, "nn.functional.binary_cross_entropy_with_logits(out, torch.ones(16))")],
}


@pytest.mark.parametrize("name", UNJUDGED)
def test_other_tasks_are_named_and_not_judged(programs: Programs, tmp_path: Path, name: str) -> None:
    changes = UNJUDGED[name]
    if name == "labels of the program's own":  # As the discriminator of an adversarial network is trained.
        changes = [*changes, ("TensorDataset(x, y), batch_size", "TensorDataset(x, x), batch_size")]
    watched = programs.run(tmp_path, changed(changes).partition("    with torch.no_grad")[0])
    assert watched.record is not None
    assert any("no classification loss was seen" in note for note in watched.record["notes"]), watched.record
    assert "error" not in watched.codes.values()


@pytest.mark.parametrize("kind", ["logit", "probability"])
def test_two_logits_have_the_probabilities_loss_and_gradient_of_one(kind: str) -> None:
    torch.manual_seed(0)
    z, labels = torch.randn(12, dtype=torch.float64, requires_grad=True), torch.randint(2, (12,))
    outputs = z if kind == "logit" else z.sigmoid()
    outputs.retain_grad()
    is_logit = kind == "logit"
    loss = (nn.BCEWithLogitsLoss() if is_logit else nn.BCELoss())(outputs, labels.double())
    loss.backward()
    logits = two_logits(outputs.detach(), kind).requires_grad_()  # type: ignore[arg-type]
    of_two = nn.functional.cross_entropy(logits, labels)
    of_two.backward()
    assert torch.allclose(of_two, loss)
    assert outputs.grad is not None
    assert logits.grad is not None
    found = gradient_of_two(outputs.grad, outputs.detach(), kind)  # type: ignore[arg-type]
    assert torch.allclose(found, logits.grad)


def test_one_number_per_row_is_found_in_outputs_of_any_form() -> None:
    column = torch.randn(4, 1)
    assert scores_in(column) is column
    assert scores_in((column[:, 0], torch.randn(4, 3, 2))) is not None
    assert scores_in(torch.randn(4, 2)) is None
    assert scores_in("text") is None


def test_labels_are_classes_only_if_all_are_zero_or_one() -> None:
    assert zero_one(torch.tensor([[0.0], [1.0]])).tolist() == [0, 1]  # type: ignore[union-attr]
    assert zero_one(torch.tensor([True, False])).tolist() == [1, 0]  # type: ignore[union-attr]
    for other in (torch.tensor([0.0, 0.5]), torch.tensor([0, 2]), torch.zeros(2, 3), torch.zeros(0), [0, 1]):
        assert zero_one(other) is None
