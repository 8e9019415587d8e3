"""The file of a sweep over small runs."""

from pathlib import Path

from small_runs import write_config

SMALL = """\
name: search
base: {base}
set: {{seed: 11, evaluation.text_baseline: false}}
heartbeat_seconds: 1
phases:
  a:
    pruner: none
    startup_trials: 2
    trials: 3
    space:
      training.learning_rate: {{low: 2e-3, high: 6e-3, log: true}}
"""


def write_sweep(folder: Path, model: Path) -> Path:
    """The YAML file of a small sweep below `folder`, with configuration and data in the same folder."""
    path = folder / "search.yaml"
    path.write_text(SMALL.format(base=write_config(folder, model)), encoding="utf-8")
    return path
