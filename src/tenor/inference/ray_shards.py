"""The files of a prediction job on a Ray cluster: a pool of workers with a model each, to which Ray Data gives one file
at a time, starts a worker that died again, and repeats the file that it had."""

import json
import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tenor.errors import TenorError, UserError, first_line
from tenor.inference.engines import EngineName
from tenor.inference.file_job import FileJob, model_and_options
from tenor.inference.file_outputs import parts_of
from tenor.inference.file_records import FileResult
from tenor.inference.file_shards import ShardEnd, predict_shard
from tenor.inference.predictor import Predictor
from tenor.runs.files import append_line

INSTALL_RAY = 'pip install "tenor[ray]"'
OBJECT_STORE_BYTES = 100 * 2**20
"""Of a cluster that Tenor starts: only paths and counts pass through it. Ray's minimum is 75 MiB."""
ATTEMPTS = 5
"""How often in a row workers may die at a file without finishing a chunk of it."""
INIT_DEATHS = 3
MANY_PER_WORKER = 4
ADDRESS = re.compile(r"auto|(\[[0-9a-fA-F:]+\]|[^\s:/]+):\d+")


@dataclass(frozen=True)
class RayPool:
    """Where and how many."""

    address: str | None = None
    """`auto` or `host:port` of a cluster; None: one on this machine, started for the job."""
    smallest: int = 1
    largest: int | None = None
    """Workers at most; None: as many as the cluster has processors (or GPUs) for at the start."""


@dataclass(frozen=True)
class WorkerModel:
    """What each worker loads; all of it is the same on every machine."""

    reference: str
    """An absolute path, or an id of the hub."""
    engine: EngineName
    device: str
    threads: int
    ignore_threshold: bool
    described: Mapping[str, Any]
    """The model and the options by which the job began (`model_and_options`)."""


def require_ray(pool: RayPool) -> None:
    """Raises UserError, with the command to install it, if Ray is missing or too old; and for an invalid address."""
    if pool.address is not None and not ADDRESS.fullmatch(pool.address):
        raise UserError(
            f"--ray {pool.address}: expected the HOST:PORT of a cluster's head, auto, or nothing for this machine alone"
        )
    for name, least in LEAST_VERSIONS.items():
        try:
            installed = version(name)
        except PackageNotFoundError as error:
            raise UserError(f"--ray needs {name}, which is not installed. Install it: {INSTALL_RAY}") from error
        if tuple(map(int, re.findall(r"\d+", installed)[:2])) < least:
            wanted = ".".join(map(str, least))
            raise UserError(f"--ray needs {name} {wanted} or newer, observed {installed}. Install it: {INSTALL_RAY}")


LEAST_VERSIONS = {"ray": (2, 60), "pandas": (2, 2)}
"""Of the extra; Ray Data needs pandas."""
CONNECT_SECONDS = 10.0


def _refuse_silent(address: str) -> None:
    """Raises ConnectionError if nobody answers at HOST:PORT; Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"{address} does not answer ({first_line(error)})") from error


@contextmanager
def connected(pool: RayPool, cores: int) -> Iterator[None]:
    """Connect to the cluster, or start one on this machine with `cores` CPUs that ends with the block.

    A cluster that Tenor starts sends no usage statistics and has no dashboard. A connection that the calling program
    already has is used and kept.

    Raises:
        UserError: there is no such cluster, or it runs other versions.
    """
    # The first is read when a cluster starts. Without the second, Ray's core prints on every restart of a worker.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    if ray.is_initialized():
        yield
        return
    started = {} if pool.address else {"num_cpus": cores, "object_store_memory": OBJECT_STORE_BYTES}
    try:
        if pool.address not in (None, "auto"):
            _refuse_silent(str(pool.address))
        ray.init(
            address=pool.address or "local",
            include_dashboard=None if pool.address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **started,
        )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        where = pool.address or "this machine"
        raise UserError(
            f"--ray: no cluster can be used on {where}: {first_line(error)}. Start it (ray start --head; on the other "
            "machines: ray start --address=HEAD:6379) and run this command on one of its machines"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def cluster_device(device: str) -> str:
    """One device for all workers, so that they compute the same; `auto`: `cuda` if the cluster has GPUs, else `cpu`."""
    import ray

    if device != "auto":
        return device
    return "cuda" if ray.cluster_resources().get("GPU", 0) >= 1 else "cpu"


def worker_count(pool: RayPool, model: WorkerModel, files: int) -> int:
    """The largest number of workers: `pool.largest`, else what the cluster has room for; never more than `files`.

    Raises UserError if no machine has room for one.
    """
    import ray

    if pool.largest is not None:
        return max(1, min(pool.largest, files))
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(int(min(found.get(name, 0) // needed for name, needed in _needs(model).items())) for found in machines)
    if room < 1:
        raise UserError(
            f"--ray: no machine of the cluster has {model.threads} CPUs"
            + (" and a GPU" if model.device == "cuda" else "")
            + " for a worker. Use fewer --threads; or, if the cluster adds machines on demand, set --workers MIN-MAX"
        )
    return min(room, files)


def _needs(model: WorkerModel) -> dict[str, int]:
    return {"CPU": model.threads, "GPU": 1} if model.device == "cuda" else {"CPU": model.threads}


class ShardWorker:
    """One process of the pool: a model, and one file after the other."""

    def __init__(self, model: dict[str, Any]) -> None:
        self.model = WorkerModel(**model)
        self.fault = ""
        try:
            self.predictor = Predictor.load(
                self.model.reference,
                engine=self.model.engine,
                device=self.model.device,
                threads=self.model.threads,
                ignore_threshold=self.model.ignore_threshold,
            )
        # Raised here, it would be a failure of Ray without an explanation.
        except TenorError as error:
            self.fault = (
                f"{_machine()}: {error}. Each machine of the cluster needs Tenor, and the model and the files at "
                "the same paths"
            )

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        """Predict the file of a row; its end, as JSON."""
        return {"end": json.dumps(asdict(self.end(_job_of(row["job"]))))}

    def end(self, shard: FileJob) -> ShardEnd:
        """Predict a file, unless workers die of it."""
        name = str(shard.input)
        if self.fault or (fault := self._other_model(shard)):
            return ShardEnd(name, None, f"{name}: {self.fault or fault}")
        attempts = attempts_of(shard)
        progress = str(parts_of(shard.output).count)
        earlier = attempts.read_text().split() if attempts.exists() else []
        if earlier[-ATTEMPTS:] == [progress] * ATTEMPTS:
            return ShardEnd(
                name,
                None,
                f"{name}: {ATTEMPTS} workers in a row died at the same chunk of it. If they ran out of "
                "memory, use fewer of them (--workers)",
            )
        append_line(attempts, progress)
        end = predict_shard(self.predictor, shard)
        attempts.unlink(missing_ok=True)
        return end

    def _other_model(self, shard: FileJob) -> str:
        described = json.loads(json.dumps(model_and_options(self.predictor, shard)))
        if described == self.model.described:
            return ""
        return f"{_machine()} has another model or tokenizer at {self.model.reference}. Copy the same to all machines"


def attempts_of(shard: FileJob) -> Path:
    """The file that counts the workers that began a file."""
    assert shard.record is not None
    return shard.record.with_suffix(".attempts")


def ends_on_ray(
    shards: Sequence[FileJob],
    model: WorkerModel,
    pool: RayPool,
    worker: type[ShardWorker] = ShardWorker,
) -> Iterator[ShardEnd]:
    """Predict files on the connected cluster; their ends, in any order. Paths are absolute.

    Files go to the workers whole: a worker reads, predicts and writes a file, and Ray Data moves only its name and its
    counts. A file whose worker died is given to another one, which goes on after the last finished chunk.

    Raises:
        TenorError: Ray itself failed; the same call continues.
    """
    if not shards:
        return
    import ray
    from ray.data import ActorPoolStrategy

    _quiet()
    for shard in shards:
        attempts_of(shard).unlink(missing_ok=True)
    largest = worker_count(pool, model, len(shards))
    smallest = min(pool.smallest, largest)
    # Started at once where the machines are there; a cluster that grows on demand grows as Ray Data asks for more.
    first = smallest if pool.largest is not None else largest
    # With the next file at hand a worker never waits for it (0.2 s per file); of few files, each goes to who is free.
    at_hand = 2 if len(shards) >= MANY_PER_WORKER * largest else 1
    strategy = ActorPoolStrategy(
        min_size=smallest, max_size=largest, initial_size=first, max_tasks_in_flight_per_actor=at_hand
    )
    needs = _needs(model)
    rows = ray.data.from_items([{"job": _text_of(shard)} for shard in shards], override_num_blocks=len(shards))
    ends = rows.map(
        worker,
        fn_constructor_args=(asdict(model),),
        compute=strategy,
        num_cpus=needs["CPU"],
        num_gpus=needs.get("GPU"),
    )
    waiting = {str(shard.input) for shard in shards}
    try:
        for row in ends.iter_rows():
            end = _end_of(row["end"])
            waiting.discard(end.file)
            yield end
    except (ray.exceptions.RayError, ray.data.exceptions.ExecutionTimeoutError) as error:
        raise TenorError(
            f"Ray ended the job with {len(waiting):,} of {len(shards):,} files left: {type(error).__name__}: "
            f"{first_line(error)}. The same command continues it"
        ) from error
    for name in sorted(waiting):
        yield ShardEnd(name, None, f"{name}: Ray has no result; its log, in /tmp/ray, says why")


def _quiet() -> None:
    """Ray Data's own lines and time limits off in this process; failures of a file are left to the caller."""
    import ray.data

    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1  # A large file may take longer than Ray Data's 30 minutes.
    context.max_errored_blocks = -1
    context.max_consecutive_actor_init_deaths = INIT_DEATHS
    # A pool whose workers all have a file is full, also if none has a second one at hand: below Ray Data's threshold.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0


def _machine() -> str:
    import ray

    return f"the machine {ray.util.get_node_ip_address()}"


def _text_of(job: FileJob) -> str:
    return json.dumps({name: str(value) if isinstance(value, Path) else value for name, value in asdict(job).items()})


def _job_of(text: str) -> FileJob:
    values = json.loads(text)
    paths = {name: Path(values[name]) for name in ("input", "output", "record")}
    return FileJob(**{**values, **paths})


def _end_of(text: str) -> ShardEnd:
    values = json.loads(text)
    result, notes = values.pop("result"), tuple(values.pop("notes"))
    if result is not None:
        result = FileResult(**{**result, "first_failures": tuple(result["first_failures"])})
    return ShardEnd(**values, result=result, notes=notes)
