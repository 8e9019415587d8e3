"""The package as a whole: what its root loads, what it ships, and whether its documents are correct."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import side_by_side
import tenor
from tenor.errors import UserError

SOURCE = Path(tenor.__file__).parent
HEAVY = ("torch", "transformers", "numpy", "pyarrow", "sklearn", "matplotlib", "accelerate", "pydantic", "rich")


def test_the_root_imports_nothing_heavy() -> None:
    code = f"import sys, tenor; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("wanted", "cores", "can_distribute", "processes"),
    [("auto", 2, True, 2), ("auto", 1, True, 1), ("auto", 64, True, 8), ("auto", 2, False, 1), ("3", 2, True, 3)],
)
def test_the_tests_run_in_as_many_processes_as_they_say(
    wanted: str, cores: int, can_distribute: bool, processes: int
) -> None:
    options, words = side_by_side.options(wanted, cores, can_distribute)
    assert options == ([] if processes == 1 else ["--numprocesses", str(processes), "--dist", "worksteal"])
    assert words.startswith("one test after the other" if processes == 1 else f"in {processes} processes")


@pytest.mark.parametrize("name", tenor.__all__)
def test_every_public_name_is_there(name: str) -> None:
    found = getattr(tenor, name)
    assert isinstance(found, str) if name == "__version__" else callable(found)


def test_what_a_predictor_gives_and_raises_has_a_public_name() -> None:
    assert issubclass(tenor.TextError, UserError)
    assert {"label", "probability", "probabilities"} <= set(tenor.Prediction.__annotations__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        tenor.trian  # noqa: B018


def test_every_test_that_the_reliability_page_names_is_there() -> None:
    root = Path(__file__).parents[1]
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (root / "docs" / "reliability.md").read_text(encoding="utf-8"))
    assert len(named) > 30
    for file, test in named:
        assert f"def {test}(" in (root / file).read_text(encoding="utf-8"), f"{file}::{test}"


def test_the_built_in_configurations_and_the_type_marker_are_shipped() -> None:
    assert (SOURCE / "py.typed").is_file()
    assert list((SOURCE / "config" / "builtin").glob("*.yaml"))
    assert {path.suffix for path in (SOURCE / "evaluation" / "report" / "templates").iterdir()} == {
        ".html",
        ".css",
        ".js",
    }
    assert (SOURCE / "evaluation" / "model_card.md").is_file()


def test_the_build_requirements_are_pinned_and_not_downloaded_again() -> None:
    root = Path(__file__).parents[1]
    pinned = re.findall(r"^([\w.-]+)==", (root / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    build = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    assert {re.split(r"[^\w-]", one)[0] for one in build} <= set(pinned)
    (install,) = re.findall(r"pip install.* --editable \.", (root / "Makefile").read_text(encoding="utf-8"))
    assert "--no-build-isolation" in install


def test_no_two_modules_and_no_two_public_classes_share_a_name() -> None:
    """Commands excepted: `cli/train.py` is named after the word that a user types."""
    package = Path(tenor.__file__).parent
    modules: dict[str, list[str]] = {}
    classes: dict[str, list[str]] = {}
    for path in sorted(package.rglob("*.py")):
        place = str(path.relative_to(package))
        if path.name != "__init__.py" and not place.startswith("cli/"):
            modules.setdefault(path.stem, []).append(place)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes.setdefault(node.name, []).append(place)
    assert not {name: places for name, places in modules.items() if len(places) > 1}
    assert not {name: places for name, places in classes.items() if len(places) > 1}
