"""Run folders: never shared, and each is found by all of its names."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from pathlib import Path

import pytest

from tenor.errors import UserError
from tenor.runs import directory
from tenor.runs.directory import RunDirectory, create_run, find_run, list_runs


def make(root: Path, reference: str, started: str) -> RunDirectory:
    run = RunDirectory(root / reference)
    run.path.mkdir(parents=True)
    run.manifest.write_text(json.dumps({"started": started}))
    return run


@pytest.fixture
def three(tmp_path):
    """Runs whose order in time is not that of their names."""
    return [
        make(tmp_path, "demo/20260102-000000-bbbbbb", "2026-01-02T00:00:00"),
        make(tmp_path, "demo/20260102-000000-aaaaaa", "2026-01-02T00:00:01"),
        make(tmp_path, "best/20260102-000000-aaaaab", "2026-01-02T00:00:00.5"),
    ]


def test_runs_of_the_same_second_never_share_a_folder(tmp_path, monkeypatch):
    # One time for all, and few enough suffixes that several threads meet on one.
    suffixes = iter([suffix for suffix in range(40) for _ in range(4)])
    monkeypatch.setattr(directory.secrets, "token_hex", lambda _: f"{next(suffixes):06x}")

    class Frozen(directory.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    monkeypatch.setattr(directory, "datetime", Frozen)
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: create_run(tmp_path, "demo"), range(40)))
    assert len({run.path for run in runs}) == 40
    assert all(run.path.is_dir() and run.run_id.startswith("20260102-030405-") for run in runs)


def test_names_that_leave_the_root_are_refused(tmp_path):
    for name in ("..", "a/b", "", ".hidden"):
        with pytest.raises(ValueError):
            create_run(tmp_path, name)


def test_a_root_that_is_a_file_is_a_users_error(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError, match="choose another root"):
        create_run(tmp_path / "runs", "demo")


def test_runs_are_listed_by_time_without_folders_that_lack_a_manifest(tmp_path, three):
    create_run(tmp_path, "demo")
    make(tmp_path, "demo/.tmp-gone", "2027")
    assert list_runs(tmp_path) == [three[0], three[2], three[1]]


def test_every_name_finds_its_run(tmp_path, three):
    for run in three:
        for reference in (str(run.path), run.reference, run.run_id):
            assert find_run(tmp_path, reference).path == run.path.resolve()
    assert find_run(tmp_path, "latest") == three[1]
    assert find_run(tmp_path, "20260102-000000-b") == three[0]


def test_a_run_outside_the_root_is_found_by_its_folder(tmp_path, three):
    assert find_run(tmp_path / "elsewhere", str(three[0].path)).run_id == three[0].run_id


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("20260102-000000-a", "matches 2 runs; give one of best/20260102-000000-aaaaab, demo/20260102-000000-aaaaaa"),
        ("20260102-000000-bbbbbx", "Nearest: demo/20260102-000000-bbbbbb"),
        ("zzz", "Newest: demo/20260102-000000-aaaaaa, best/"),
        ("", "Newest: "),
    ],
)
def test_an_unknown_or_ambiguous_run_is_refused_with_the_nearest_names(tmp_path, three, reference, words):
    with pytest.raises(UserError) as caught:
        find_run(tmp_path, reference)
    assert words in str(caught.value)


def test_a_folder_that_is_not_a_run_is_refused(tmp_path, three):
    with pytest.raises(UserError, match=r"without manifest\.json"):
        find_run(tmp_path, str(tmp_path / "demo"))


def test_latest_of_no_runs_is_refused(tmp_path):
    with pytest.raises(UserError, match="contains no run"):
        find_run(tmp_path, "latest")


def test_a_broken_manifest_is_named(tmp_path, three):
    three[0].manifest.write_text('{"started": ')
    with pytest.raises(UserError, match=r"bbbbbb/manifest\.json, line 1"):
        find_run(tmp_path, "latest")
