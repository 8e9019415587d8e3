"""The examples in docs/ run as they stand."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


WITH_ARGUMENTS = ("finetune_reviews", "torchrun_loop")
"""Run by tests/watch and tests/checks/test_ranks.py."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [one for one in sorted(EXAMPLES.glob("*.py")) if one.stem not in WITH_ARGUMENTS], ids=lambda path: path.stem
)
def test_example_runs(path, capsys):
    runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    assert "preflight" in printed
    if path.stem == "own_rule":
        assert "warning SHOP001 Reviews contain order numbers | 64 of 64 training texts" in printed
