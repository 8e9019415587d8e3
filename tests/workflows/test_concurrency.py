"""Several processes at once: no folder is shared, no row is lost, and a run is resumed by only one of them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from same_end import differences
from small_runs import write_config
from tenor.runs.directory import list_runs
from tenor.runs.files import sha256_file
from tenor.runs.manifest import read_manifest
from tenor.runs.summary import read_summary

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs to fork")]

STARTED = 4

# In a process of its own, which may fork: the process of the tests has threads.
SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path
from forked import Fault, fork, warm

folder, config, cut = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
warm(folder / "warm")
os.environ["TENOR_CACHE"] = str(folder / "cache")

def ended(children):
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

def start(count, arguments, place):
    place.mkdir(exist_ok=True)
    return ended([fork(folder, arguments, place / f"{number}.txt") for number in range(count)])

found = {"train": start(4, ["train", config, "--runs", str(folder / "runs")], folder / "train")}
fault = Fault("tenor.training.loop.set_rates", 6)
found["cut"] = ended([fork(folder, ["train", cut, "--runs", str(folder / "cut")], folder / "cut.txt", fault)])
found["resume"] = start(3, ["train", "--resume", "latest", "--runs", str(folder / "cut")], folder / "resume")
print(json.dumps(found))
"""


def test_runs_started_together_and_a_run_resumed_thrice(small_model: Path, tmp_path: Path) -> None:
    config, cut = write_config(tmp_path / "a", small_model), write_config(tmp_path / "b", small_model)
    paths = [str(Path(__file__).parents[1]), *(path for path in sys.path if path)]
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(config), str(cut)],
        env={**os.environ, **one_thread, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)

    # Four runs of one configuration, begun in the same second, over one empty cache.
    assert found["train"] == [0] * STARTED
    runs = list_runs(tmp_path / "runs")
    assert len({run.path for run in runs}) == STARTED
    assert {row.run_id for row in read_summary(tmp_path / "runs")} == {run.run_id for run in runs}
    assert all(read_manifest(run).status == "completed" for run in runs)
    assert all(differences(run, runs[0]) == [] for run in runs[1:])
    entries = list((tmp_path / "cache" / "tokens").glob("*.arrow"))
    assert len(entries) == 3  # One for each split.
    for entry in entries:
        assert entry.with_name(f"{entry.name}.sha256").read_text().strip() == sha256_file(entry)
    assert not list((tmp_path / "cache").rglob(".tmp-*"))

    # One run, killed, and resumed by three processes at once: one does it, the others say why not.
    assert found["cut"] == [-signal.SIGKILL]
    assert sorted(found["resume"]) == [0, 2, 2]
    said = [file.read_text() for file in sorted((tmp_path / "resume").iterdir())]
    assert sum("locked by another process" in text or "is complete" in text for text in said) == 2
    (run,) = list_runs(tmp_path / "cut")
    assert differences(run, runs[0]) == []
