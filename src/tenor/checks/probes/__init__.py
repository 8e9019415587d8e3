"""Short experiments on a model before its first step: `run.py` runs them, `look.py` and `learn.py` hold them."""
