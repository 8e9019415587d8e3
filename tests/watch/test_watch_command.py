"""`tenor watch` as a command: exit status, signals, files, and what it says where it could see nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from watched_programs import LOOP, START

pytestmark = pytest.mark.slow

TENOR = (sys.executable, "-m", "tenor.cli.main", "watch")


def watch(folder: Path, *words: str, program: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `tenor watch WORDS` in a folder with the program as train.py."""
    (folder / "train.py").write_text(program)
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run([*TENOR, *words], cwd=folder, env=variables, capture_output=True, text=True, check=False)


def record(folder: Path) -> dict[str, object]:
    return json.loads((folder / "w" / "diagnosis.json").read_text())


def test_the_exit_status_and_the_output_are_the_programs_own(tmp_path: Path) -> None:
    program = START + LOOP + "\nimport sys\nprint(sys.path, sys.argv)\nsys.exit(7)"
    done = watch(tmp_path, "--output", "w", "--", sys.executable, "train.py", "--lr", "1", program=program)
    alone = subprocess.run(
        [sys.executable, "train.py", "--lr", "1"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == alone.returncode == 7
    assert done.stdout == alone.stdout
    assert alone.stderr == ""
    assert "rules checked" in done.stderr
    assert "exit status 7" in (tmp_path / "w" / "report.html").read_text()


def test_libraries_that_are_imported_on_the_way_draw_no_number_of_the_program(tmp_path: Path) -> None:
    # Rich draws one from Python's global generator when it is imported.
    shuffled = "import random\nrandom.seed(5)\n" + LOOP.replace("print(epoch,", "print(random.random(), epoch,")
    done = watch(tmp_path, "--output", "w", "train.py", program=START + shuffled)
    alone = subprocess.run([sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == alone.returncode == 0
    assert done.stdout == alone.stdout != ""


def test_the_hooks_import_no_library_before_training_and_no_statistics_for_a_healthy_one(tmp_path: Path) -> None:
    libraries = {"jinja2", "pyarrow", "pydantic", "rich", "scipy", "scipy.stats"}
    told = f"\nimport sys\nprint(sorted({libraries} & {{*sys.modules}}))\n"
    # More than 40 records of 4 steps: the rules on the course of the loss are applied.
    program = START + told + LOOP.replace("range(3)", "range(30)").replace("lr=1e-2", "lr=1e-3") + told
    done = watch(tmp_path, "--output", "w", "train.py", program=program)
    assert done.returncode == 0
    before, *_, after = done.stdout.splitlines()
    assert before == "[]"
    assert "scipy.stats" not in after
    assert {"LOS006", "LOS008", "LOS012"} <= set(record(tmp_path)["checked"])


def test_a_killed_program_leaves_a_report(tmp_path: Path) -> None:
    program = START + LOOP.replace("lr=1e-2", "lr=0.0") + "\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    done = watch(tmp_path, "--output", "w", "train.py", program=program)
    assert done.returncode == 128 + signal.SIGKILL
    assert "SIGKILL" in done.stderr
    report = (tmp_path / "w" / "report.html").read_text()
    assert "OPT005" in report
    assert "SIGKILL" in report


def test_a_signal_reaches_the_program(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        START + LOOP + "\nimport signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n"
        "open('ready', 'w').close()\nwhile True: time.sleep(0.1)"
    )
    process = subprocess.Popen([*TENOR, "--output", "w", "train.py"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 5
    assert (tmp_path / "w" / "report.html").exists()


def test_sarif_and_junit_hold_the_findings(tmp_path: Path) -> None:
    program = START + LOOP.replace("lr=1e-2", "lr=0.0")
    watch(tmp_path, "--output", "w", "--sarif", "a.sarif", "--junit", "a.xml", "train.py", program=program)
    sarif = json.loads((tmp_path / "a.sarif").read_text())
    results = sarif["runs"][0]["results"]
    assert {"OPT005"} <= {one["ruleId"] for one in results}
    uris = {one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in results}
    assert uris == {"train.py"}
    suite = ElementTree.parse(tmp_path / "a.xml").getroot()
    failed = {case.get("name") for case in suite if case.find("failure") is not None}
    assert "OPT005" in failed
    assert int(suite.get("failures", "0")) == len(failed)
    assert int(suite.get("tests", "0")) == len(suite) > len(failed)


def test_where_nothing_could_be_seen_it_says_so(tmp_path: Path) -> None:
    for words, program in (
        ([sys.executable, "-I", "train.py"], START + LOOP),
        ([sys.executable, "train.py"], "print('no training')"),
    ):
        done = watch(tmp_path, "--output", "w", "--", *words, program=program)
        assert done.returncode == 0
        assert "nothing was checked" in done.stderr
        assert not (tmp_path / "w").exists()


def test_children_are_watched(tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(START + LOOP.replace("lr=1e-2", "lr=0.0"))
    program = "import subprocess, sys\nsubprocess.run([sys.executable, 'child.py'], check=True)"
    done = watch(tmp_path, "--output", "w", "--stop-on", "error", "train.py", program=program)
    assert done.returncode == 3
    assert record(tmp_path)["stopped"]


def test_a_module_runs(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text(START + LOOP + "\nimport sys\nprint(sys.argv[1:])")
    done = watch(tmp_path, "--output", "w", "-m", "package", "--lr", "1")
    assert done.returncode == 0, done.stderr
    assert "['--lr', '1']" in done.stdout
    assert record(tmp_path)["checked"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no command was given"),
        (["--", "no-such-command"], "was not found"),
        (["--allow", "OPT005", "x.py"], "no reason"),
    ],
)
def test_a_wrong_command_is_refused(tmp_path: Path, words: list[str], said: str) -> None:
    done = watch(tmp_path, *words)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.parametrize("is_sorted", [True, False])
def test_the_example_in_the_docs(tmp_path: Path, is_sorted: bool) -> None:
    import pandas

    from small_models import BAD, GOOD, save_small_model

    save_small_model("bert", tmp_path / "encoder")
    words = [(f"film {k} was {(BAD, GOOD)[k % 2][k // 2 % 4]} and {k % 97}", k % 2) for k in range(400)]
    rows = sorted(words, key=lambda row: row[1]) if is_sorted else words
    pandas.DataFrame(rows, columns=["text", "label"]).to_csv(tmp_path / "reviews.csv", index=False)
    program = (Path(__file__).parents[2] / "docs" / "examples" / "finetune_reviews.py").read_text()
    arguments = ("reviews.csv", "encoder", "200")
    done = watch(tmp_path, "--output", "w", "--stop-on", "error", "train.py", *arguments, program=program)
    assert (done.returncode == 3) == is_sorted, done.stderr
    assert ("DAT001" in done.stderr) == is_sorted
    assert ("accuracy" in done.stdout) != is_sorted
