"""The package as a whole: what its root loads, and what its source never does."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tenor

SOURCE = Path(tenor.__file__).parent
HEAVY = ("torch", "transformers", "numpy", "pyarrow", "sklearn", "matplotlib", "accelerate", "pydantic", "rich")


def test_the_root_imports_nothing_heavy() -> None:
    code = f"import sys, tenor; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", tenor.__all__)
def test_every_public_name_is_there(name: str) -> None:
    found = getattr(tenor, name)
    assert isinstance(found, str) if name == "__version__" else callable(found)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        tenor.trian  # noqa: B018


def _forbidden(tree: ast.AST) -> list[str]:
    """Every way in which Python code would read or write a pickle."""
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found += [name.name for name in names if name.name.split(".")[0] in PICKLERS]
            case ast.ImportFrom(module=str(module), names=names):
                found += [module] if module.split(".")[0] in PICKLERS else []
                found += [name.name for name in names if module == "torch" and name.name in ("load", "save")]
            case ast.Attribute(value=ast.Name(id="torch"), attr="load" | "save" as attribute):
                found.append(f"torch.{attribute}")
            case ast.Attribute(attr="save_state" | "load_state" as attribute):
                found.append(attribute)
            case ast.Attribute(attr="to_pickle" | "read_pickle" as attribute):
                found.append(attribute)
            case ast.keyword(arg="allow_pickle", value=value) if not _is(value, False):
                found.append("allow_pickle")
            case ast.keyword(arg="safe_serialization" | "use_safetensors", value=value) if not _is(value, True):
                found.append("not safetensors")
            case ast.keyword(arg="trust_remote_code", value=value) if not _is(value, False):
                found.append("trust_remote_code")
            case ast.Call(func=ast.Name(id="eval" | "exec" as function)):
                found.append(function)
    return found


PICKLERS = ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal")


def _is(node: ast.expr, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: file.relative_to(SOURCE).as_posix())
def test_the_source_reads_and_writes_no_pickle(file: Path) -> None:
    assert _forbidden(ast.parse(file.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import dump",
        "torch.load(path)",
        "from torch import save",
        "np.load(path, allow_pickle=True)",
        "accelerator.save_state(folder)",
        "model.save_pretrained(folder, safe_serialization=False)",
        "frame.to_pickle(path)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "exec(text)",
    ],
)
def test_the_walk_finds_what_it_looks_for(code: str) -> None:
    assert _forbidden(ast.parse(code))


def test_numpy_files_are_read_without_pickle() -> None:
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "np.save", "numpy.load"):
                assert "allow_pickle=False" in ast.unparse(node), f"{file}: {ast.unparse(node)}"


def test_the_built_in_configurations_and_the_type_marker_are_shipped() -> None:
    assert (SOURCE / "py.typed").is_file()
    assert list((SOURCE / "config" / "builtin").glob("*.yaml"))
    assert {path.suffix for path in (SOURCE / "evaluation" / "report" / "templates").iterdir()} == {
        ".html",
        ".css",
        ".js",
    }
    assert (SOURCE / "evaluation" / "model_card.md").is_file()
