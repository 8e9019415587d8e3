"""Python imports this at its start if `tenor watch` has put its folder on PYTHONPATH: the program itself is unchanged.

A `sitecustomize` that the program's own environment has is run first, as without `tenor watch`.
"""

import importlib.util
import os
import sys
from importlib.machinery import PathFinder

_HERE = os.path.dirname(os.path.abspath(__file__))


def _run_the_other() -> None:
    path = [folder for folder in sys.path if os.path.abspath(folder or ".") != _HERE]
    spec = PathFinder.find_spec("sitecustomize", path)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


_run_the_other()
# The program finds its search path as without this; its children get the folder from the environment.
sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder or ".") != _HERE]
if os.environ.get("TENOR_WATCH") == "1":
    if importlib.util.find_spec("tenor") is None:
        print(
            f"tenor watch: {sys.executable} has no package tenor, so nothing is watched in it; install Tenor there as "
            "you did for this command",
            file=sys.stderr,
        )
    else:
        from tenor.watch.start import start

        start()
