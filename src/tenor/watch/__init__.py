"""The checks in other people's programs, which stay as they are: `tenor watch -- python train.py`.

In a notebook: `%load_ext tenor.watch` in a cell before training, and `%tenor_watch` for the conclusion so far.
"""

from typing import Any


def load_ipython_extension(ipython: Any) -> None:
    """Watch what the notebook trains from now on; IPython calls this for `%load_ext tenor.watch`."""
    from tenor.watch.notebook import conclusion, watch_notebook

    ipython.register_magic_function(conclusion, magic_name="tenor_watch")
    watch_notebook()
