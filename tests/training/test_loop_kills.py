"""The loop in its own process, killed at several moments: resumed, it ends with the same bits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# One process loads PyTorch and forks the others: each of them is killed for real.
SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from forked import Fault, put_in
from tenor.training.checkpoint import list_checkpoints, verify_checkpoint
from training_tasks import make_task, run_task
from tenor.model.classifier import weights_digest

model, folder = Path(sys.argv[1]), Path(sys.argv[2])
SETTINGS = {"epochs": 2, "evaluate_every": 0.5, "checkpoint_every": 2, "patience": 50}
LOOP = "tenor.training.loop"
FAULTS = {
    "mid-accumulation": Fault("accelerate.Accelerator.backward", 8, "after"),
    "between epochs": Fault(f"{LOOP}.epoch_batches", 2),
    "during validation": Fault("tenor.measures.objective.measure", 2),
    "a checkpoint half written": Fault("tenor.training.checkpoint.save_file", 1, "half", "step-000006"),
    "an old checkpoint half removed": Fault("tenor.runs.files.shutil.rmtree", 2, "before", "step-"),
}

def trained(checkpoints, fault=None, resume=False):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        task = make_task(model, checkpoints, **SETTINGS)
        newest = list_checkpoints(checkpoints)[-1:] if resume else []
        if fault:
            put_in(fault)
        state = run_task(task, verify_checkpoint(newest[0]) if newest else None)
        digest = weights_digest(dict(task.model.named_parameters()))
        steps = [path.name for path in list_checkpoints(checkpoints)]
        end = [digest, state.step, [vars(v) for v in state.validations], steps]
        checkpoints.with_suffix(".json").write_text(json.dumps(end))
        status = 0
    finally:
        os._exit(status)

run_task(make_task(model, folder / "warm", epochs=1))  # What is imported now need not be imported by each.
found = {"whole": [trained(folder / "whole")]}
for name, fault in FAULTS.items():
    place = folder / name.replace(" ", "-")
    found[name] = [trained(place, fault), trained(place, resume=True)]
    found[name].append(place.with_suffix(".json").read_text() == (folder / "whole.json").read_text())
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs to fork")
def test_a_killed_loop_resumes_to_the_same_bits(small_model: Path, tmp_path: Path) -> None:
    paths = [str(Path(__file__).parents[1]), *(path for path in sys.path if path)]
    command = [sys.executable, "-c", SCRIPT, str(small_model), str(tmp_path)]
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment = {**os.environ, **one_thread, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("whole") == [0], done.stderr
    assert len(found) == 5
    assert found == {moment: [-9, 0, True] for moment in found}, done.stderr
