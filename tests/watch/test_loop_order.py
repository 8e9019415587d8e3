"""What programs under `tenor watch` do in a wrong order, and the look-alikes that do it on purpose."""

from pathlib import Path

import pytest

from watched_programs import START, Programs

pytestmark = pytest.mark.slow

BATCHES = """
loader = DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)
valid = DataLoader(TensorDataset(x, y), batch_size=48)
model.insert(2, nn.Dropout(0.1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
cross_entropy = nn.functional.cross_entropy
def accuracy():
    model.eval()
    with torch.no_grad():
        right = sum(int((model(inputs).argmax(1) == labels).sum()) for inputs, labels in valid)
    return right / len(x)
"""
SIMPLE = """
for epoch in range(4):
    model.train()
    for k, (inputs, labels) in enumerate(loader, 1):
        loss = cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    accuracy()
"""
MICRO_BATCHES = """
for epoch in range(4):
    for k, (inputs, labels) in enumerate(loader, 1):
        optimizer.zero_grad()
        (cross_entropy(model(inputs), labels) / 4).backward()
        if k % 4 == 0:
            optimizer.step()
"""
ACCUMULATED = MICRO_BATCHES.replace("        optimizer.zero_grad()\n", "") + "            optimizer.zero_grad()\n"
SHARPNESS_AWARE = """
for epoch in range(4):
    for inputs, labels in loader:
        cross_entropy(model(inputs), labels).backward()
        with torch.no_grad():
            moves = [p.grad * 0.01 for p in model.parameters()]
            for p, move in zip(model.parameters(), moves):
                p.add_(move)
        optimizer.zero_grad()
        cross_entropy(model(inputs), labels).backward()
        with torch.no_grad():
            for p, move in zip(model.parameters(), moves):
                p.sub_(move)
        optimizer.step()
        optimizer.zero_grad()
"""
CLIP = "        nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
STEP = "        optimizer.step()\n"
CLIPPED_LATE = SIMPLE.replace(STEP, STEP + CLIP)
CLIPPED = SIMPLE.replace(STEP, CLIP + STEP)
SCALED = SIMPLE.replace("loss.backward()", "scaler.scale(loss).backward()").replace(
    STEP, CLIP + "        scaler.step(optimizer)\n        scaler.update()\n"
)
SCALER = "scaler = torch.amp.GradScaler('cpu')\n"
UNSCALED = SCALER + SCALED.replace(CLIP, "        scaler.unscale_(optimizer)\n" + CLIP)
SCHEDULE = "schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, epochs=4, steps_per_epoch=12)\n"
PER_EPOCH = SCHEDULE + SIMPLE.replace("    accuracy()", "    accuracy()\n    schedule.step()")
PER_STEP = SCHEDULE + SIMPLE.replace(STEP, STEP + "        schedule.step()\n")
STEPS = "schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)\n"
PER_PASS = STEPS + ACCUMULATED.replace("        if k % 4", "        schedule.step()\n        if k % 4")
PER_ACCUMULATION = STEPS + ACCUMULATED.replace(
    "            optimizer.step()", "            optimizer.step(); schedule.step()"
)
PLATEAU = "schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode={!r})\n" + SIMPLE.replace(
    "    accuracy()", "    schedule.step({})"
)
FORGOT_TRAINING_MODE = SIMPLE.replace("    model.train()\n", "")
AVERAGED = """
averaged = [p.detach().clone() for p in model.parameters()]
def swap(values):
    with torch.no_grad():
        for p, value in zip(model.parameters(), values):
            p.copy_(value)
""" + SIMPLE.replace(
    "    accuracy()", "    kept = [p.detach().clone() for p in model.parameters()]; swap(averaged); accuracy(){}"
)
BEST = SIMPLE.replace("    accuracy()", "    accuracy(); best = {}(model.state_dict())")
BEST += "model.load_state_dict(best)\n"
SEEDED_ANEW = SIMPLE.replace("model.train()", "loader.sampler.generator = torch.manual_seed(1)\n    model.train()")


@pytest.mark.parametrize(
    ("faulty", "sound", "code"),
    [
        (MICRO_BATCHES, ACCUMULATED, "OPT031"),
        (MICRO_BATCHES, SHARPNESS_AWARE, "OPT031"),
        (CLIPPED_LATE, CLIPPED, "OPT032"),
        (SCALER + SCALED, UNSCALED, "OPT014"),
        (PER_EPOCH, PER_STEP, "OPT033"),
        (PER_PASS, PER_ACCUMULATION, "OPT033"),
        (PLATEAU.format("min", "100 * accuracy()"), PLATEAU.format("max", "100 * accuracy()"), "OPT034"),
        (PLATEAU.format("min", "accuracy()"), PLATEAU.format("min", "1 - accuracy()"), "OPT034"),
        (AVERAGED.format(""), AVERAGED.format("; swap(kept)"), "OPT035"),
        (FORGOT_TRAINING_MODE, SIMPLE, "MOD012"),
        (SEEDED_ANEW, SIMPLE, "DAT032"),
        (BEST.format(""), BEST.format("__import__('copy').deepcopy"), "CKP014"),
    ],
)
def test_an_order_of_calls_is_found_and_its_look_alike_passes(
    programs: Programs, tmp_path: Path, faulty: str, sound: str, code: str
) -> None:
    wrong = programs.run(tmp_path / "faulty", START + BATCHES + faulty)
    right = programs.run(tmp_path / "sound", START + BATCHES + sound)
    assert wrong.status == right.status == 0, wrong.err + right.err
    assert "observing" not in wrong.err + right.err
    assert code in wrong.codes
    assert code not in right.codes
    assert wrong.record is not None
    assert wrong.record["causes"][0]["code"] == code


def test_a_short_last_accumulation_is_no_loss_that_is_divided_twice(programs: Programs, tmp_path: Path) -> None:
    uneven = ACCUMULATED.replace("/ 4", "/ 5").replace("if k % 4 == 0", "if k % 5 == 0 or k == len(loader)")
    twice = ACCUMULATED.replace("/ 4", "/ 4 / 2")
    assert "OPT022" not in programs.run(tmp_path / "sound", START + BATCHES + uneven).codes
    assert "OPT022" in programs.run(tmp_path / "faulty", START + BATCHES + twice).codes


ADVERSARIAL = """
for epoch in range(4):
    for inputs, labels in loader:
        cross_entropy(model(inputs), labels).backward()
        cross_entropy(model(inputs + 0.1 * torch.randn_like(inputs)), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
"""
NEXT = "        inputs, labels = next(iter(loader))\n"
TWO_BATCHES = ADVERSARIAL.replace("inputs), labels).backward()\n", "inputs), labels).backward()\n" + NEXT)


def test_two_losses_of_the_same_rows_are_no_accumulation(programs: Programs, tmp_path: Path) -> None:
    assert "OPT022" not in programs.run(tmp_path / "sound", START + BATCHES + ADVERSARIAL).codes
    assert "OPT022" in programs.run(tmp_path / "faulty", START + BATCHES + TWO_BATCHES).codes


NESTED = """
class Sharpness(torch.optim.Optimizer):
    def __init__(self, parameters):
        super().__init__(parameters, {})
        self.inner = torch.optim.AdamW(self.param_groups, lr=1e-2)
    @torch.no_grad()
    def step(self, closure=None):
        self.inner.step()
optimizer = Sharpness(model.parameters())
for epoch in range(4):
    model.train()
    for inputs, labels in loader:
        cross_entropy(model(inputs), labels).backward()
        optimizer.zero_grad()
        cross_entropy(model(inputs), labels).backward()
        optimizer.inner.step()
        optimizer.zero_grad()
accuracy()
"""


def test_experiments_for_one_optimizer_are_no_evaluation_of_another(programs: Programs, tmp_path: Path) -> None:
    watched = programs.run(tmp_path, START + BATCHES + NESTED)
    assert watched.status == 0, watched.err
    assert "EVL012" not in watched.codes


LIST_OF_LAYERS = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = {}([nn.Linear(8, 8), nn.Linear(8, 8)])
        self.out = nn.Linear(8, 2)
    def forward(self, inputs):
        for layer in self.layers:
            inputs = inputs + layer(inputs).relu()
        return self.out(inputs)
model = Net()
"""


def test_layers_in_a_plain_list_are_found(programs: Programs, tmp_path: Path) -> None:
    for name, container in (("faulty", "list"), ("sound", "nn.ModuleList")):
        program = START + LIST_OF_LAYERS.format(container) + BATCHES.replace("model.insert", "pass  # ") + SIMPLE
        assert ("MOD014" in programs.run(tmp_path / name, program).codes) == (name == "faulty")


def test_layers_that_are_unfrozen_later_must_be_given_to_the_optimizer(programs: Programs, tmp_path: Path) -> None:
    frozen = "model[0].requires_grad_(False)\n"
    own = "optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)\n"
    loop = SIMPLE.replace("    model.train()", "    model[0].requires_grad_(epoch > 0)\n    model.train()")
    faulty = programs.run(tmp_path / "faulty", START + BATCHES + frozen + own + loop)
    sound = programs.run(tmp_path / "sound", START + BATCHES + frozen + loop)
    assert "OPT001" in faulty.codes
    assert "OPT001" not in sound.codes


SERVED = """
import transformers
config = transformers.BertConfig(
    vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
)
make = transformers.BertForSequenceClassification
state = {{{!r} + name: value for name, value in make(config).state_dict().items()}}
served = make(config).eval()
served.load_state_dict(state, strict=False)
with torch.no_grad():
    served(input_ids=torch.ones(4, 8, dtype=torch.long), labels=torch.tensor([0, 1, 0, 1]))
del served
"""


@pytest.mark.parametrize("prefix", ["model.", ""])
def test_a_state_of_which_nothing_was_loaded_is_found(programs: Programs, tmp_path: Path, prefix: str) -> None:
    watched = programs.run(tmp_path, START + SERVED.format(prefix))
    assert watched.status == 0, watched.err
    assert ("MOD004" in watched.codes) == bool(prefix)
