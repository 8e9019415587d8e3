"""What the hooks hear besides steps and losses: samplers, schedulers, loss scalers, refused metrics, modes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tenor.watch.evaluations import SeenEvaluation
from tenor.watch.heard_rows import SeenRows
from tenor.watch.observer import Observer
from watched_programs import LOOP, START, Programs

EVALUATED = """
import numpy as np
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
with torch.no_grad():
    logits = model(x)
p = logits.softmax(1).double().numpy()
print(accuracy_score(y, logits.argmax(1)))
"""
WITH_DROPOUT = START.replace("nn.ReLU()", "nn.ReLU(), nn.Dropout(0.2)")
REFUSED = "\ntry:\n    log_loss(y, np.log(p / p[:, ::-1]))\nexcept ValueError as error:\n    print(error)\n"
WARM_UP = "lambda step: min(1.0, (step + 1) / 6) * max(0.0, 1 - step / 18)"


def loop_with(scheduler: str, call: str = "", parts: int = 1, epochs: int = 3) -> str:
    """The loop with a scheduler that is called, if at all, after each pass or each step of several passes."""
    made = f"optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)\nscheduler = {scheduler}\n"
    program = LOOP.replace("optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)\n", made)
    if parts == 1:
        program = program.replace("optimizer.step()\n", f"optimizer.step()\n        {call or 'pass'}\n")
    else:
        old = "        optimizer.zero_grad()\n        loss.backward()\n        optimizer.step()\n"
        new = (
            f"        (loss / {parts}).backward()\n        passes = globals().get('passes', 0) + 1\n        {call}\n"
            f"        if passes % {parts} == 0:\n            optimizer.step()\n            optimizer.zero_grad()\n"
        )
        assert old in program
        program = program.replace(old, new)
    return program.replace("range(3)", f"range({epochs})")


LAMBDA = f"torch.optim.lr_scheduler.LambdaLR(optimizer, {WARM_UP})"
CONSTANT = "torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)"
SHORT = "torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / 9))"
LONG = "torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / 37))"
SCALED = """
scaler = torch.amp.GradScaler("cpu", init_scale=SCALE, backoff_factor=0.999)
for epoch in range(8):
    for inputs, labels in DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True):
        loss = nn.functional.cross_entropy(model(inputs), labels)
        scaler.scale(50 * loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
"""
OPTIMIZER = "optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)\n"


@pytest.mark.parametrize(
    ("code", "program", "is_faulty"),
    [
        ("EVL012", WITH_DROPOUT + LOOP + EVALUATED, True),
        ("EVL012", WITH_DROPOUT + LOOP + "model.eval()" + EVALUATED, False),
        ("EVL014", START + LOOP + EVALUATED + REFUSED, True),
        ("EVL014", START + LOOP + EVALUATED + "log_loss(y, p)\nroc_auc_score(y, logits[:, 1])\n", False),
        ("OPT033", START + loop_with(LAMBDA), True),
        ("OPT033", START + loop_with(LAMBDA, epochs=1), True),
        ("OPT033", START + loop_with(LAMBDA, "scheduler.step()"), False),
        ("OPT033", START + loop_with(CONSTANT), False),
        ("OPT033", START + loop_with(SHORT, "scheduler.step()", parts=2, epochs=6), True),
        ("OPT033", START + loop_with(LONG, "scheduler.step()", parts=2, epochs=6), False),
        ("PRC003", START + OPTIMIZER + SCALED.replace("SCALE", "3e38"), True),
        ("PRC003", START + OPTIMIZER + SCALED.replace("SCALE", "1024.0"), False),
        ("OPT031", START + OPTIMIZER + SCALED.replace("SCALE", "3e38"), False),
        (
            "OPT031",
            START + LOOP.replace("        optimizer.step()", "        optimizer.zero_grad();optimizer.step()"),
            True,
        ),
    ],
)
def test_a_call_is_heard(programs: Programs, tmp_path: Path, code: str, program: str, is_faulty: bool) -> None:
    watched = programs.run(tmp_path, program)
    assert watched.status == 0, watched.err
    assert (code in watched.codes) == is_faulty, (watched.codes, watched.err)


def test_a_loss_on_other_labels_is_not_told_as_missing_rows(programs: Programs, tmp_path: Path) -> None:
    watched = programs.run(tmp_path, START + LOOP.replace("(inputs), labels)", "(inputs), labels * 0)"))
    assert "LOS017" in watched.codes
    assert "DAT001" not in watched.codes


def test_rows_come_in_the_order_of_the_dataset_where_the_sampler_was_heard() -> None:
    rows = SeenRows()
    for numbers in ([3, 0], [2, 1]):
        ids = torch.tensor([[10 + n] for n in numbers])
        rows.add((ids,), {}, torch.tensor([n % 2 for n in numbers]), numbers)
    ids, labels = rows.first(4)
    assert [int(row[0]) for row in ids] == [10, 11, 12, 13]
    assert labels.tolist() == [0, 1, 0, 1]
    rows.add((torch.tensor([[19]]),), {}, torch.tensor([1]))  # Not from a sampler: the order of the calls is kept.
    assert [int(row[0]) for row in rows.first(5)[0]] == [13, 10, 12, 11, 19]


def test_an_iterator_that_begins_anew_forgets_what_it_had_drawn() -> None:
    observer, iterator = Observer(), torch.nn.Identity()
    observer.on_rows_drawn(iterator, [0, 1])
    observer.before_restart(iterator)
    observer.on_rows_drawn(iterator, [4, 5])
    observer.on_batch(iterator, torch.zeros(2, 1))
    assert observer._recent[-1][2] == [4, 5]


@pytest.mark.parametrize(
    ("sizes", "measured", "expected"),
    [
        ([80, 200], 80, None),  # Two sets of rows, one after the other; a metric of the first.
        ([80, 80], 80, None),
        ([80], 400, None),  # Gathered from five folds.
        ([80, 80], 168, 160),  # Rows repeated for even ranks.
        ([32, 32, 16], 64, 80),  # The last batch of one set is missing …
        ([32, 32, 16], 16, 80),  # … or only the last one was measured.
    ],
)
def test_a_metric_of_fewer_rows_than_were_passed(sizes: list[int], measured: int, expected: int | None) -> None:
    from tenor.watch.evaluations import Evaluations

    evaluations = Evaluations(Observer())
    seen = SeenEvaluation(0, logits=[np.zeros((n, 2)) for n in sizes], heard_labels=[None] * len(sizes))
    evaluations.all = [seen]
    evaluations._open = seen
    evaluations.on_metric(np.zeros(measured, dtype=int), np.zeros(measured, dtype=int), 1.0)
    judged = next(one for one in evaluations.all if one.labels is not None)
    assert judged.expected_n == expected
