"""The installed command starts, and a command loads no package that it does not need."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "numpy", "pyarrow", "sklearn", "matplotlib", "accelerate", "pydantic", "rich")

IMPORTS = """
import sys
from tenor.cli.main import main
try:
    main({arguments!r})
except SystemExit:
    pass
print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], HEAVY),
        (["train", "--help"], HEAVY),
        (["--version"], HEAVY),
        (["configs"], ("torch", "transformers", "sklearn", "matplotlib", "accelerate")),
        (["runs"], ("torch", "transformers", "sklearn", "matplotlib", "accelerate")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_command_does_not_need_is_not_imported(
    arguments: list[str], heavy: tuple[str, ...], tmp_path: Path
) -> None:
    code = IMPORTS.format(arguments=arguments, heavy=heavy)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "[]"


def test_the_installed_command_is_this_one() -> None:
    command = Path(sys.executable).with_name("tenor")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip().startswith("tenor ")
