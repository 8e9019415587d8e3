"""Short experiments on a model before its first step: `probe.py` runs those that `experiments.py` defines."""
