"""A process that no launcher started, and launchers that are set up wrongly."""

import numpy as np
import pytest
import torch

from tenor.errors import UserError
from tenor.training.processes import ALONE, Processes, hint_on_gpus, joined, launch_words, require_one_process


@pytest.fixture(autouse=True)
def not_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GROUP_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def test_alone_every_exchange_returns_what_it_was_given() -> None:
    with joined() as processes:
        assert processes is ALONE
        assert processes.is_main
        assert processes.share({"a": [1]}) == {"a": [1]}
        assert processes.gather("x") == ["x"]
        assert [array.tolist() for array in processes.gather_arrays(np.arange(3))] == [[0, 1, 2]]
        numbers = torch.tensor([1.0, 2.0])
        processes.add(numbers)
        assert numbers.tolist() == [1.0, 2.0]
    assert launch_words() == "tenor"
    require_one_process("this command")


def test_a_single_process_of_a_launcher_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    with joined() as processes:
        assert processes is ALONE


@pytest.mark.parametrize("missing", ["RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_incomplete_variables_of_a_launcher_are_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        if name != missing:
            monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"WORLD_SIZE is 2, but {missing} is not set"), joined():
        pass


def test_what_runs_in_one_process_refuses_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UserError, match="tenor predict runs in one process, and a launcher started 4"):
        require_one_process("tenor predict")


def test_the_command_that_resumes_names_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "16")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    assert launch_words().startswith("torchrun --nnodes 2 --rdzv-backend c10d --rdzv-endpoint HOST:PORT ")
    assert launch_words().endswith("--nproc-per-node 8 -m tenor")


@pytest.mark.parametrize(
    ("gpus", "device", "processes", "words", "hint"),
    [
        (4, "cuda", ALONE, ["train", "demo", "training.epochs=3"], "-m tenor train demo training.epochs=3"),
        (4, "cuda", ALONE, ["train", "a b.yaml"], "-m tenor train 'a b.yaml'"),
        (4, "cuda", ALONE, ["experiments", "demo"], "PROGRAM.py"),
        (1, "cuda", ALONE, ["train", "demo"], None),
        (4, "cpu", ALONE, ["train", "demo"], None),
        (4, "cuda", Processes(0, 4, 4), ["train", "demo"], None),
    ],
)
def test_a_machine_with_several_gpus_is_told_the_command_that_uses_them_all(
    gpus: int, device: str, processes: Processes, words: list[str], hint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    expected = f"this run uses one of 4 GPUs; to use all: torchrun --nproc-per-node 4 {hint}" if hint else ""
    assert hint_on_gpus(processes, device, words) == expected
