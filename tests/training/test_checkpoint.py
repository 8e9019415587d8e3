"""A checkpoint is complete or does not exist, and is read only if every byte is as written."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from torch import nn

from tenor.errors import TenorError
from tenor.training import checkpoint as module
from tenor.training.checkpoint import (
    FILES,
    MANIFEST,
    MODEL,
    DamagedCheckpointError,
    TrainState,
    Validation,
    Window,
    _restore_random_state,
    checkpoint_path,
    list_checkpoints,
    load_weights,
    restore,
    save_checkpoint,
    verify_checkpoint,
)


def _model(seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    named = list(model.named_parameters())
    groups = [
        {"params": [p for _, p in part], "names": [n for n, _ in part], "weight_decay": decay}
        for part, decay in ((named[:3], 0.1), (named[3:], 0.0))
    ]
    return model, torch.optim.AdamW(groups, lr=0.01, fused=True)


def _steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
    for _ in range(count):
        optimizer.zero_grad()
        nn.functional.dropout(model(torch.randn(5, 3)), 0.5).square().sum().backward()
        optimizer.step()


def _state(step: int) -> TrainState:
    best = Validation(step, 0.1 + 0.2, {"accuracy": 2 / 3, "macro_f1": 1 / 3, "loss": 1e-17})
    return TrainState(step, 1, 2, 345, 1, False, [best], best, Window(0.1, 3.0, 2.5, 7, 1.5, [1, 2], [2, 1]))


def _saved(folder: Path, step: int = 5) -> Path:
    model, optimizer = _model()
    _steps(model, optimizer, 2)
    return save_checkpoint(folder, model, optimizer, _state(step)).path


def test_training_resumes_from_a_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    model, optimizer = _model()
    _steps(model, optimizer, 3)
    saved = save_checkpoint(tmp_path, model, optimizer, _state(3))
    _steps(model, optimizer, 4)

    other, other_optimizer = _model(seed=99)
    state = restore(verify_checkpoint(saved.path), other, other_optimizer)
    _steps(other, other_optimizer, 4)

    assert state == _state(3)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    for (_, one), (_, two) in zip(optimizer.state.items(), other_optimizer.state.items(), strict=True):
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_checkpoint_names_its_step_and_the_digest_of_its_weights(tmp_path: Path) -> None:
    saved = save_checkpoint(tmp_path, *_model(), _state(500))
    assert saved.path == tmp_path / "step-000500"
    assert sorted(p.name for p in saved.path.iterdir()) == sorted((*FILES, MANIFEST))
    assert verify_checkpoint(saved.path) == saved


def test_checkpoints_are_listed_by_step_and_nothing_else_is_one(tmp_path: Path) -> None:
    for step in (1_000_000, 999_999, 2):
        checkpoint_path(tmp_path, step).mkdir(parents=True)
    (tmp_path / ".tmp-abc-step-000003").mkdir()
    (tmp_path / "step-x").mkdir()
    (tmp_path / "step-000004").write_text("a file")
    assert [p.name for p in list_checkpoints(tmp_path)] == ["step-000002", "step-999999", "step-1000000"]
    assert list_checkpoints(tmp_path / "none") == []


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_is_found(name: str, data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "step-000005"
    if not path.exists():
        _saved(tmp_path)
    file, whole = path / name, (path / name).read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        file.write_bytes(damaged)
        # A changed digest in the manifest looks the same as a changed file.
        with pytest.raises(DamagedCheckpointError, match=None if name == MANIFEST else name.replace(".", r"\.")):
            verify_checkpoint(path)
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_truncated_file_is_found(name: str, share: float, tmp_path: Path) -> None:
    path = _saved(tmp_path)
    os.truncate(path / name, int((path / name).stat().st_size * share))
    with pytest.raises(DamagedCheckpointError, match=name):
        verify_checkpoint(path)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_file_is_found(name: str, tmp_path: Path) -> None:
    path = _saved(tmp_path)
    (path / name).unlink()
    with pytest.raises(DamagedCheckpointError, match=name):
        verify_checkpoint(path)


def test_a_renamed_checkpoint_is_found(tmp_path: Path) -> None:
    path = _saved(tmp_path).rename(tmp_path / "step-000006")
    with pytest.raises(DamagedCheckpointError, match="step 5"):
        verify_checkpoint(path)


@pytest.mark.parametrize("content", ["[]", "3", '{"step": 5, "sha256": []}', '{"step": 5}', '{"step": null}'])
def test_a_manifest_of_another_shape_is_damage(content: str, tmp_path: Path) -> None:
    path = _saved(tmp_path)
    (path / MANIFEST).write_text(content)
    with pytest.raises(DamagedCheckpointError):
        verify_checkpoint(path)


@pytest.mark.parametrize("failing_call", [1, 2, 3])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("IoError 28")])
def test_a_failed_write_leaves_the_last_good_checkpoint(
    failing_call: int, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = _saved(tmp_path, step=5)
    real, calls = module.save_file, []

    def failing(*arguments: object, **options: object) -> None:
        calls.append(arguments)
        if len(calls) == failing_call:
            raise error
        real(*arguments, **options)

    monkeypatch.setattr(module, "save_file", failing)
    with pytest.raises(TenorError, match="could not be written") as caught:
        save_checkpoint(tmp_path, *_model(), _state(6))
    assert "resume the run" in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["step-000005"]
    assert verify_checkpoint(good).step == 5


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from torch import nn
from tenor.errors import TenorError
from tenor.training.checkpoint import list_checkpoints, save_checkpoint, verify_checkpoint
from tenor.training.checkpoint import TrainState

model = nn.Linear(64, 64)
named = list(model.named_parameters())
optimizer = torch.optim.AdamW([{"params": [p for _, p in named], "names": [n for n, _ in named]}])
model(torch.randn(2, 64)).sum().backward()
optimizer.step()
folder = Path(sys.argv[1])
save_checkpoint(folder, model, optimizer, TrainState(step=1))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
try:
    save_checkpoint(folder, model, optimizer, TrainState(step=2))
except TenorError as error:
    assert "could not be written" in str(error), error
    assert [p.name for p in folder.iterdir()] == ["step-000001"]
    verify_checkpoint(list_checkpoints(folder)[0])
    sys.exit(7)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_file_that_cannot_grow_is_reported_and_the_last_good_one_is_kept(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 7, done.stderr


def test_weights_of_another_shape_are_not_loaded(tmp_path: Path) -> None:
    found = verify_checkpoint(_saved(tmp_path))
    with pytest.raises(TenorError, match="is intact, but belongs to another model"):
        load_weights(found, nn.Linear(3, 4))


def test_loading_only_weights_keeps_the_random_state(tmp_path: Path) -> None:
    found = verify_checkpoint(_saved(tmp_path))
    model, _ = _model(seed=1)
    before = torch.get_rng_state()
    load_weights(found, model)
    assert torch.equal(before, torch.get_rng_state())
    assert (found.path / MODEL).is_file()


def test_any_change_of_the_manifest_is_found(tmp_path: Path) -> None:
    """No digest covers it, so spaces and the order of keys count too."""
    path = _saved(tmp_path)
    whole = (path / MANIFEST).read_text()
    content = json.loads(whole)
    changed = [
        json.dumps(content),
        whole + "\n",
        whole.replace(" ", "", 1),
        json.dumps(dict(reversed(content.items())), indent=1) + "\n",
        json.dumps({**content, "more": 1}, indent=1) + "\n",
        whole.replace('"step": 5', '"step": "5"'),
        whole.replace('"step": 5', '"step": 5.0'),
    ]
    for text in changed:
        assert text != whole
        (path / MANIFEST).write_text(text)
        with pytest.raises(DamagedCheckpointError):
            verify_checkpoint(path)
    (path / MANIFEST).write_text(whole)
    assert verify_checkpoint(path).step == 5


def test_a_folder_or_a_dangling_link_in_a_file_s_place_is_damage(tmp_path: Path) -> None:
    path = _saved(tmp_path)
    (path / MODEL).unlink()
    (path / MODEL).mkdir()
    with pytest.raises(DamagedCheckpointError, match=MODEL):
        verify_checkpoint(path)
    (path / MODEL).rmdir()
    (path / MODEL).symlink_to(tmp_path / "nowhere")
    with pytest.raises(DamagedCheckpointError, match=MODEL):
        verify_checkpoint(path)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux to tell which file was flushed")
def test_a_checkpoint_is_on_the_disk_before_it_has_its_name_and_its_name_before_an_older_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power cut leaves is decided by the order of flushes and renames."""
    from tenor.runs import files

    done: list[tuple[str, str]] = []
    flush, replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        done.append(("flush", os.readlink(f"/proc/self/fd/{descriptor}")))
        flush(descriptor)

    def rename(source: str, target: str) -> None:
        done.append(("rename", str(target)))
        replace(source, target)

    monkeypatch.setattr(files.os, "fsync", fsync)
    monkeypatch.setattr(files.os, "replace", rename)
    folder = tmp_path / "deep" / "checkpoints"
    path = _saved(folder)
    renamed = done.index(("rename", str(path)))
    flushed_before = {Path(place).name for what, place in done[:renamed] if what == "flush"}
    assert {*FILES, MANIFEST} <= flushed_before
    assert any(what == "flush" and Path(place).parent == folder for what, place in done[:renamed]), "the folder itself"
    assert ("flush", str(folder)) in done[renamed:]
    # The folders that had to be made are entered durably into those above them.
    assert {("flush", str(tmp_path)), ("flush", str(tmp_path / "deep"))} <= set(done)


def test_the_random_state_of_a_gpu_is_ignored_on_a_machine_without_one() -> None:
    before = torch.get_rng_state()
    torch.rand(3)
    _restore_random_state({"cpu": before, "cuda": torch.zeros(16, dtype=torch.uint8)})
    assert torch.equal(torch.get_rng_state(), before)
