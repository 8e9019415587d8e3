"""`tenor serve` as a process: it says where it is, ends as it should, and refuses what should not be served."""

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tenor.cli.main import main
from tenor.errors import UserError
from tenor.runs.directory import RunDirectory
from tenor.runs.findings import Finding, Report, write_findings
from tenor.runs.manifest import new_manifest
from tenor.serving.http_server import bind

ERROR = Finding(
    code="EVL001",
    title="One class is predicted",
    severity="error",
    stage="evaluation",
    observed="all 200 rows are predicted as bad",
    expected="both classes",
    n=200,
    cause="",
    fix="train again",
)


@contextmanager
def process(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running `tenor serve`, and its address."""
    command = [sys.executable, "-m", "tenor.cli.main", "serve", str(folder), "--port", "0", "--device", "cpu", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            line = server.stderr.readline()
            found = re.match(r"tenor: (http://127\.0\.0\.1:\d+) serves ", line)
            assert found, line
            yield server, found[1]
        finally:
            server.kill()


def post(address: str, texts: list[str]) -> int:
    body = json.dumps({"texts": texts}).encode()
    request = urllib.request.Request(f"{address}/v1/predict", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert len(json.load(answer)["predictions"]) == len(texts)
        return int(answer.status)


def tokens(address: str) -> float:
    """Tokens that the model has read so far."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=60) as answer:
        (line,) = (line for line in answer.read().decode().splitlines() if line.startswith("tenor_tokens_total"))
    return float(line.split()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_after_the_accepted_requests(served_folder: Path, number: signal.Signals, status: int) -> None:
    with process(served_folder) as (server, address):
        assert post(address, ["good", "bad"]) == 200
        before = tokens(address)
        with ThreadPoolExecutor(1) as client:
            accepted = client.submit(post, address, ["good film " * 20] * 100)
            while tokens(address) == before:
                assert server.poll() is None
            server.send_signal(number)
            assert accepted.result() == 200
        assert server.wait(60) == status


@pytest.mark.slow
def test_a_run_with_an_open_error_is_refused_unless_allowed(served_folder: Path, tmp_path: Path, capsys) -> None:
    run = RunDirectory(tmp_path / "runs" / "small" / "one")
    run.path.mkdir(parents=True)
    new_manifest(run, 0)
    run.model.symlink_to(_saved_by_tenor(served_folder, tmp_path))
    write_findings(run.findings, [Report("evaluation", ("EVL001",), (), (ERROR,))])
    assert main(["serve", str(run.path), "--port", "0", "--device", "cpu"]) == 3
    assert "EVL001 (One class is predicted): all 200 rows are predicted as bad" in capsys.readouterr().err
    with process(run.path, "--allow-unverified") as (_, address):
        assert post(address, ["good"]) == 200
    write_findings(run.findings, [Report("evaluation", ("EVL001",), (), (replace(ERROR, allowed="known"),))])
    with process(run.path) as (_, address):
        assert post(address, ["good"]) == 200


def test_a_port_that_is_taken_and_impossible_settings_are_refused(served_folder: Path, capsys) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", str(served_folder), "--port", port, "--device", "cpu"]) == 2
    assert f"127.0.0.1:{port} cannot be used: Address already in use" in capsys.readouterr().err
    for options in (
        ["--max-texts", "0"],
        ["--port", "99999"],
        ["--deadline", "-1"],
        ["--deadline", "nan"],
        ["--deadline", "inf"],
        ["--abstain-below", "2"],
        ["--abstain-below", "nan"],
        ["--host", ""],
        ["--host", "a" * 70],
        ["--host", f"{'a' * 70}.ä"],
    ):
        assert main(["serve", str(served_folder), "--device", "cpu", *options]) == 2


def test_two_servers_that_start_at_once_do_not_get_the_same_port() -> None:
    with bind("127.0.0.1", 0) as first, pytest.raises(UserError, match="already in use"):
        bind("127.0.0.1", first.getsockname()[1])


def _saved_by_tenor(folder: Path, place: Path) -> Path:
    """A copy with the notes of a model that Tenor saved."""
    import shutil

    from tenor.runs.files import sha256_file
    from tenor.runs.model_notes import WEIGHTS, ModelNotes, write_model_notes

    model = place / "saved"
    shutil.copytree(folder, model)
    notes = ModelNotes(
        max_length=64,
        truncation="head",
        head_share=1.0,
        temperature=1.0,
        weights_sha256=sha256_file(model / WEIGHTS),
        checkpoint_step=1,
    )
    write_model_notes(model, notes)
    return model
