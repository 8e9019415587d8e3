"""Tenor never unpickles or executes the content of a file: its sources are searched, and a run is observed."""

import ast
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from small_runs import quiet, small_run
from tenor.errors import UserError
from tenor.model.classifier import load_saved_classifier
from tenor.runs.directory import list_runs
from tenor.training.checkpoint import list_checkpoints
from tenor.workflows.train import RunResult, resume

ROOT = Path(__file__).parents[1]

MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle", "yaml"}
CALLS = {
    *("torch.load", "torch.save", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter"),
    *("pandas.read_pickle", "pd.read_pickle", "eval", "exec", "compile", "__import__", "os.system"),
    *("runpy.run_path", "runpy.run_module", "shutil.unpack_archive"),
}
METHODS = {
    *("save_state", "load_state", "to_pickle", "read_pickle", "extract", "extractall", "register_for_checkpointing"),
    *("load_extension", "load_library", "unsafe_load", "full_load"),
}
NUMPY = ("np.load", "np.save", "np.savez", "np.savez_compressed", "numpy.load", "numpy.save")


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a name or attribute."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def dangers(source: str) -> Iterator[str]:
    """Line and name of whatever could run what a file holds."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found = [module] if module.partition(".")[0] in MODULES else []
            found += [
                name
                for alias in node.names
                if (name := f"{module}.{alias.name}") in CALLS or name.startswith("torch.load")
            ]
        elif isinstance(node, ast.Call):
            found = list(_dangers_of(node))
        else:
            continue
        yield from (f"line {node.lineno}: {name}" for name in found)


def _dangers_of(call: ast.Call) -> Iterator[str]:
    name = dotted(call.func)
    options = {option.arg: option.value for option in call.keywords}
    if name in CALLS or (isinstance(call.func, ast.Attribute) and call.func.attr in METHODS):
        yield name or call.func.attr  # type: ignore[attr-defined]
    if name in NUMPY and not _is(options.get("allow_pickle"), False):
        yield f"{name} without allow_pickle=False"
    if name.endswith(".from_pretrained") and not _is(options.get("trust_remote_code"), False):
        yield f"{name} without trust_remote_code=False"
    if "Model" in name and name.endswith(".from_pretrained") and not _is(options.get("use_safetensors"), True):
        yield f"{name} without use_safetensors=True"
    if name.endswith("YAML") and not (isinstance(kind := options.get("typ"), ast.Constant) and kind.value == "safe"):
        yield f"{name} without typ='safe'"
    for option, sound in (("shell", False), ("allow_pickle", False), ("safe_serialization", True)):
        if option in options and not _is(options[option], sound):
            yield f"{name} with {option} other than {sound}"


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_no_source_can_run_what_a_file_holds() -> None:
    sources = sorted((ROOT / "src").rglob("*.py"))
    assert len(sources) > 100
    found = {file.name: list(dangers(file.read_text(encoding="utf-8"))) for file in sources}
    assert {name: seen for name, seen in found.items() if seen} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import joblib.numpy_pickle as j",
        "from dill import loads",
        "from torch import load",
        "import torch\ntorch.load('x', weights_only=True)",
        "import numpy as np\nnp.load('x')",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "accelerator.save_state('x')",
        "model.save_pretrained(x, safe_serialization=False)",
        "frame.to_pickle(path)",
        "np.lib.format.read_array(file, allow_pickle=True)",
        "import yaml\nyaml.load(x)",
        "YAML()",
        "YAML(typ='unsafe')",
        "eval('1')",
        "AutoConfig.from_pretrained(x)",
        "AutoModel.from_pretrained(x, trust_remote_code=False)",
        "AutoModel.from_pretrained(x, trust_remote_code=True, use_safetensors=True)",
        "tar.extractall('x')",
        "subprocess.run('ls', shell=True)",
    ],
)
def test_the_walk_would_see_it(source: str) -> None:
    assert list(dangers(source))


# Planted files.

NAMES = ("pytorch_model.bin", "optimizer.bin", "scheduler.bin", "random_states_0.pkl", "scaler.pt", "training_args.bin")


class Trap:
    """Writes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


def plant(folder: Path, sprung: Path) -> None:
    for name in NAMES:
        (folder / name).write_bytes(pickle.dumps(Trap(sprung)))
    # Code as a model on a hub may bring it, and as Python itself would find it.
    for name in ("modeling_trap.py", "sitecustomize.py", "conftest.py"):
        (folder / name).write_text(f"import os; os.mkdir({str(sprung)!r})")


def test_the_trap_works(tmp_path: Path) -> None:
    plant(tmp_path, tmp_path / "sprung")
    pickle.loads((tmp_path / NAMES[0]).read_bytes())  # noqa: S301
    assert (tmp_path / "sprung").is_dir()


def test_a_checkpoint_with_planted_pickles_is_resumed_and_executes_nothing(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tenor.workflows import train as module

    def cut(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_model", cut)
        with pytest.raises(Exception, match="SIGINT"):
            small_run(tmp_path, small_model, "training.epochs=1", "evaluation.text_baseline=false")
    (run,) = list_runs(tmp_path / "runs")
    for checkpoint in list_checkpoints(run.checkpoints):
        plant(checkpoint, tmp_path / "sprung")
    result: RunResult = resume("latest", tmp_path / "runs", quiet())
    assert result.run.evaluation.is_file()
    assert not (tmp_path / "sprung").exists()


def test_a_model_folder_with_planted_pickles_executes_nothing(small_bert: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small_bert, tmp_path / "model"))
    plant(folder, tmp_path / "sprung")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError):
        load_saved_classifier(folder)
    assert not (tmp_path / "sprung").exists()


WATCHED = """
import sys
seen = []
sys.addaudithook(lambda event, arguments: seen.append(arguments) if event == "pickle.find_class" else None)
from pathlib import Path
from small_models import save_small_model
from small_runs import small_run
folder = Path(sys.argv[1])
small_run(folder, save_small_model("distilbert", folder / "model"), "training.trackers=[tensorboard]")
import pickle, collections
assert not seen, seen
pickle.loads(pickle.dumps(collections.OrderedDict()))
assert seen, "the hook sees nothing"
"""


@pytest.mark.slow
def test_a_whole_run_unpickles_nothing(tmp_path: Path) -> None:
    """Not even in the libraries below Tenor."""
    paths = [str(Path(__file__).parent), *(path for path in sys.path if path)]
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
