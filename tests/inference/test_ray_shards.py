"""Files on a Ray cluster: the same bytes as from one process, whatever is killed."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from prediction_files import texts_of, write_input
from tenor.errors import UserError
from tenor.inference import ray_shards
from tenor.inference.file_job import FileJob, model_and_options
from tenor.inference.file_shards import FolderResult, find_shards
from tenor.inference.predictor import Predictor
from tenor.inference.ray_shards import ATTEMPTS, RayPool, ShardWorker, WorkerModel, attempts_of, worker_count
from tenor.workflows.predict import FinishedJob
from tenor.workflows.predict_folder import predict_to_folder

FILES, ROWS = 6, 9_000
"""Three chunks per file, so that there is something in the middle of each."""
OBJECT_STORE_BYTES = 80 * 2**20


def worker_model(predictor: Predictor, reference: Path, job: FileJob) -> WorkerModel:
    described = model_and_options(predictor, job)
    return WorkerModel(str(reference), "torch", "cpu", 1, False, json.loads(json.dumps(described)))


@pytest.fixture
def one_file(tmp_path: Path) -> FileJob:
    write_input(tmp_path / "in.csv", ["film", "dull"])
    (shard,), _ = find_shards(FileJob(tmp_path / "in.csv", tmp_path / "out"))
    attempts_of(shard).parent.mkdir(parents=True)
    return shard


@pytest.fixture
def model(small_predictor: Predictor, small_classifier: Path, one_file: FileJob) -> WorkerModel:
    return worker_model(small_predictor, small_classifier, one_file)


def test_a_worker_predicts_the_file_that_it_is_given(model: WorkerModel, one_file: FileJob) -> None:
    end = ray_shards._end_of(ShardWorker(asdict(model))({"job": ray_shards._text_of(one_file)})["end"])
    assert end.file == str(one_file.input)
    assert end.result is not None
    assert (end.fault, end.result.rows) == ("", 2)
    assert not attempts_of(one_file).exists()


def test_a_file_of_which_workers_die_is_given_up_unless_they_get_on(model: WorkerModel, one_file: FileJob) -> None:
    worker = ShardWorker(asdict(model))
    attempts_of(one_file).write_text("0\n" * ATTEMPTS)
    end = worker.end(one_file)
    assert end.result is None
    assert f"{ATTEMPTS} workers in a row died" in end.fault
    attempts_of(one_file).write_text("0\n" * (ATTEMPTS - 1))
    assert worker.end(one_file).result is not None
    # Each of these had finished a chunk more than the one before.
    one_file.output.unlink()
    attempts_of(one_file).write_text("".join(f"{chunks}\n" for chunks in range(10)))
    assert worker.end(one_file).fault.count("died") == 0


def test_a_machine_with_another_model_predicts_nothing(model: WorkerModel, one_file: FileJob) -> None:
    pytest.importorskip("ray")
    other = replace(model, described={**model.described, "weights_sha256": "another"})
    end = ShardWorker(asdict(other)).end(one_file)
    assert end.result is None
    assert "has another model or tokenizer" in end.fault
    end = ShardWorker(asdict(replace(model, reference="nowhere"))).end(one_file)
    assert "Each machine of the cluster needs" in end.fault
    assert not one_file.output.exists()


def test_what_cannot_be_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="expected the HOST:PORT of a cluster's head"):
        ray_shards.require_ray(RayPool("latest"))
    monkeypatch.setattr(ray_shards, "version", lambda name: "2.9.3")
    with pytest.raises(UserError, match=r"ray 2.60 or newer, observed 2.9.3"):
        ray_shards.require_ray(RayPool("auto"))

    def missing(name: str) -> str:
        raise PackageNotFoundError

    monkeypatch.setattr(ray_shards, "version", missing)
    with pytest.raises(UserError, match=r"needs ray, which is not installed. Install it: pip install \"tenor\[ray\]\""):
        ray_shards.require_ray(RayPool())


def test_workers_are_as_many_as_there_is_room_for(model: WorkerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    machines = [{"CPU": 0.0}, {"CPU": 8.0, "GPU": 2.0}, {"CPU": 5.0}]
    nodes = [{"Alive": True, "Resources": one} for one in machines] + [{"Alive": False, "Resources": {"CPU": 64.0}}]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert worker_count(RayPool(), model, 100) == 13
    assert worker_count(RayPool(), model, 3) == 3
    assert worker_count(RayPool(largest=40), model, 100) == 40
    assert worker_count(RayPool(), replace(model, threads=4), 100) == 3
    assert worker_count(RayPool(), replace(model, device="cuda"), 100) == 2
    with pytest.raises(UserError, match="no machine of the cluster has 9 CPUs"):
        worker_count(RayPool(), replace(model, threads=9), 100)


def test_a_cluster_of_ones_own_reports_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    given: dict[str, Any] = {}
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    monkeypatch.setattr(ray, "init", lambda **named: given.update(named))
    with ray_shards.connected(RayPool(), 2):
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert (given["address"], given["include_dashboard"], given["num_cpus"]) == ("local", False, 2)
    monkeypatch.setattr(ray, "init", lambda **named: (_ for _ in ()).throw(ConnectionError("nobody there")))
    refused = pytest.raises(UserError, match=r"no cluster can be used on auto: nobody there\. Start it")
    with refused, ray_shards.connected(RayPool("auto"), 2):
        pass
    refused = pytest.raises(UserError, match=r"127.0.0.1:1 does not answer \(.*\)\. Start it")
    with refused, ray_shards.connected(RayPool("127.0.0.1:1"), 2):
        pass


# A real cluster of several nodes.


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many") / "in"
    folder.mkdir()
    texts = [" ".join(text.split()[:3]) or "film" for text in texts_of(500)]
    for file in range(FILES):
        rows = [texts[(file * 7 + row) % len(texts)] for row in range(ROWS)]
        write_input(folder / f"part-{file}{'.csv' if file % 2 else '.parquet'}", rows)
    return folder


@pytest.fixture(scope="module")
def expected(many: Path, small_classifier: Path) -> dict[str, bytes]:
    """The outputs of one process."""
    return outputs(predict(small_classifier, many, many.with_name("expected")).output)


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head without CPUs and two nodes with one each, to which this process is connected."""
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'tenor[ray]'")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
        sizes = {"object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **sizes})
        made.nodes_with_workers = [made.add_node(num_cpus=1, **sizes) for _ in range(2)]
        try:
            ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


def predict(
    model: Path, inputs: Path, output: Path, ray: RayPool | None = None, **options: Any
) -> FinishedJob[FolderResult]:
    job = FileJob(inputs, output, **options)
    return predict_to_folder(str(model), job, "torch", "cpu", 1, console=Console(quiet=True), ray=ray)


def outputs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def workers_of(node: Any) -> list[psutil.Process]:
    """The processes of a node that hold a model."""
    (raylet,) = node.all_processes["raylet"]
    children = psutil.Process(raylet.process.pid).children(recursive=True)
    return [child for child in children if "ShardWorker" in " ".join(child.cmdline())]


def is_predicting(process: psutil.Process, output: Path) -> bool:
    """Whether it is in the middle of a file, whose lock it has."""
    opened = [Path(file.path) for file in process.open_files()]
    return any(path.parent == output and path.suffix == ".lock" for path in opened)


class Later(threading.Thread):
    """Kills something once as many chunks are finished; each time with what is then in the middle."""

    def __init__(self, output: Path, chunks: int, kill: Callable[[], bool]) -> None:
        super().__init__(daemon=True)
        self.output, self.chunks, self.kill, self.killed = output, chunks, kill, False
        self.start()

    def run(self) -> None:
        for _ in range(90_000):  # Half an hour: a busy machine may need minutes to the first chunk.
            time.sleep(0.02)
            parts = list(self.output.glob("*.parts/0*.parquet"))
            if len(parts) >= self.chunks and self.kill():
                self.killed = True
                return


@pytest.mark.slow
def test_a_killed_worker_and_a_bad_file_cost_nobody_a_row(
    cluster: Any, many: Path, expected: dict[str, bytes], small_classifier: Path, tmp_path: Path
) -> None:
    def kill() -> bool:
        found = [one for node in cluster.nodes_with_workers for one in workers_of(node)]
        found = [one for one in found if is_predicting(one, tmp_path / "out")]
        if not found:
            return False
        os.kill(found[0].pid, signal.SIGKILL)
        return True

    inputs = tmp_path / "in"
    inputs.symlink_to(many)
    (many / "bad.csv").write_text("title\nfilm\n")
    try:
        killer = Later(tmp_path / "out", 2, kill)
        found = predict(small_classifier, many, tmp_path / "out", RayPool()).result
    finally:
        (many / "bad.csv").unlink()
    assert killer.killed
    assert [Path(end.file).name for end in found.faults] == ["bad.csv"]
    assert "--text-column" in found.fault_message()
    assert (found.files, found.rows) == (FILES + 1, FILES * ROWS)
    assert outputs(tmp_path / "out") == expected
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == [".tenor"]
    assert not list((tmp_path / "out" / ".tenor").glob("*.attempts"))
    # Nothing is left to do, on a cluster or without.
    assert predict(small_classifier, many, tmp_path / "out", RayPool()).result.resumed_files == FILES
    assert predict(small_classifier, many, tmp_path / "out").result.resumed_files == FILES


@pytest.mark.slow
def test_a_killed_node_costs_no_row(
    cluster: Any, many: Path, expected: dict[str, bytes], small_classifier: Path, tmp_path: Path
) -> None:
    def kill() -> bool:
        """Whichever node is in the middle of a file: under load, one worker may do all before the other has started."""
        for node in cluster.nodes_with_workers:
            if any(is_predicting(one, tmp_path / "out") for one in workers_of(node)):
                cluster.remove_node(node, allow_graceful=False)
                return True
        return False

    killer = Later(tmp_path / "out", 2, kill)
    found = predict(small_classifier, many, tmp_path / "out", RayPool(smallest=1, largest=2)).result
    assert killer.killed
    assert (found.files, found.rows, found.faults) == (FILES, FILES * ROWS, [])
    assert outputs(tmp_path / "out") == expected
