"""The manifest: complete, without nulls, rewritten atomically."""

import dataclasses
import json
import subprocess
import sys

import psutil
import pytest

from tenor.errors import UserError
from tenor.runs.directory import create_run
from tenor.runs.environment import commits, hardware, package_versions
from tenor.runs.manifest import new_manifest, process_lives, read_manifest, update_manifest
from tenor.runs.missing import is_missing, missing_because


@pytest.fixture
def run(tmp_path):
    return create_run(tmp_path, "demo")


def nulls(value) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value is None or any(nulls(item) for item in items)


def test_a_new_manifest_reads_back_equal_and_contains_no_null(run):
    manifest = new_manifest(
        run, seed=3, accelerators=["H100"], fingerprints={"data": "abc"}, command=["tenor", "train"]
    )
    assert read_manifest(run) == manifest
    assert not nulls(json.loads(run.manifest.read_text()))
    assert (manifest.status, manifest.seed, manifest.command) == ("running", 3, ["tenor", "train"])
    assert manifest.hardware["accelerators"] == ["H100"]
    assert manifest.fingerprints["data"] == "abc"
    assert is_missing(manifest.fingerprints["tokenizer"])
    assert is_missing(manifest.ended)


def test_updates_merge_parts_and_end_a_run(run):
    new_manifest(run, seed=3)
    update_manifest(run, timings={"data": 1.5})
    manifest = update_manifest(run, status="completed", timings={"training": 2.5}, digests={"model": "d"})
    assert manifest.timings == {"data": 1.5, "training": 2.5}
    assert manifest.duration_sec >= 0
    assert manifest.ended > manifest.started
    assert read_manifest(run) == manifest
    assert update_manifest(run, status="failed", duration_sec=9.0, error="no space").duration_sec == 9.0


def test_a_resumed_run_is_under_way_again(run):
    new_manifest(run, seed=3)
    ended = update_manifest(run, status="interrupted", error="SIGINT")
    assert not process_lives(ended)
    resumed = update_manifest(run, status="running")
    assert process_lives(resumed)
    assert is_missing(resumed.ended)
    assert is_missing(resumed.error)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"status": "ok"}, ValueError),
        ({"threads": None}, ValueError),
        ({"digests": {"model": None}}, ValueError),
        ({"timings": {"a": float("nan")}}, ValueError),
        ({"colour": "red"}, TypeError),
    ],
)
def test_a_bad_update_changes_nothing(run, changes, error):
    manifest = new_manifest(run, seed=3)
    with pytest.raises(error):
        update_manifest(run, **changes)
    assert read_manifest(run) == manifest


@pytest.mark.parametrize("content", ["[]", "{}", '{"status": "running"}', ""])
def test_an_invalid_manifest_is_refused(run, content):
    run.manifest.write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json"):
        read_manifest(run)


def test_a_dead_process_and_a_reused_process_id_are_not_taken_for_the_run(run):
    manifest = new_manifest(run, seed=3)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert process_lives(manifest)
    assert not process_lives(dataclasses.replace(manifest, pid=ended.pid, pid_born=0.0))
    assert not process_lives(dataclasses.replace(manifest, pid_born=psutil.Process().create_time() - 60))
    assert process_lives(dataclasses.replace(manifest, host="another host"))


def git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_the_projects_commit_is_recorded_and_whether_it_was_changed(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert is_missing(commits()["project"])
    (tmp_path / "a").write_text("1")
    git(tmp_path, "init")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-m", "one")
    clean = commits()["project"]
    (tmp_path / "a").write_text("2")
    assert (len(clean["commit"]), clean["dirty"]) == (40, False)
    assert commits()["project"] == {**clean, "dirty": True}


def test_a_machine_without_git_says_so(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert commits()["project"] == missing_because("git is not installed")


def test_the_environment_contains_no_null():
    assert not nulls([hardware(), package_versions(), commits()])
    assert {"python", "torch", "transformers"} <= set(package_versions())
