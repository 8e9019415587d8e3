"""Every reader, on valid files that a fuzzer changed: each input is read or refused without any other error."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "fuzz"
TARGETS = (
    *("text files", "parquet", "packed files", "configurations", "archives", "checkpoints", "files of runs"),
    *("foreign files", "results", "model folders", "files to predict", "exports and jobs", "sweeps", "exclusions"),
    "run folders",
)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this system")
@pytest.mark.parametrize("target", TARGETS)
def test_no_input_is_more_than_a_reader_can_refuse(target: str, tmp_path: Path) -> None:
    """Guided by the coverage of Tenor's code, from a fixed seed, for a bounded number of inputs."""
    done = ran("run.py", target, folder=tmp_path)
    assert done.returncode == 0, done.stderr[-5000:]
    (tried,) = (int(line.split()[-1]) for line in done.stderr.splitlines() if "number_of_executed_units" in line)
    assert tried > 100


@pytest.mark.slow
def test_no_value_in_a_json_file_is_more_than_a_reader_can_refuse(tmp_path: Path) -> None:
    done = ran("odd_values.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr[-5000:]
    assert int(done.stdout) > 1000


def ran(program: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    paths = [str(FOLDER), str(FOLDER.parent), *(path for path in sys.path if path)]
    return subprocess.run(
        [sys.executable, str(FOLDER / program), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=600,
    )


@pytest.mark.slow
def test_every_target_is_run() -> None:
    script = "import json, targets; print(json.dumps(list(targets.TARGETS)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=FOLDER, capture_output=True, text=True, check=True)
    assert sorted(TARGETS) == sorted(json.loads(done.stdout))
