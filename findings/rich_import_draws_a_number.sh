#!/usr/bin/env bash
# rich 15.0.0: importing it draws a number from Python's global random generator.
#
# `rich.style` begins to count at `random.getrandbits(24)` when it is imported. A program that seeds the generator and
# then imports something that imports rich (a logger, a progress bar, a command line) continues with other random numbers
# than the same program without it: another order of the rows after `random.shuffle`, other weights at the end. Where the
# import is lazy, the difference appears in the middle of a run. NumPy's and PyTorch's generators are not touched.
# Expected: the same numbers, as with a generator of rich's own (`random.Random()`) or `os.urandom`.
#
# Seen, after random.seed(0): 0.8444218515250481 without the import, 0.3852453064766108 with it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet rich==15.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import random
from importlib.metadata import version

random.seed(0)
first = random.random()
random.seed(0)
import rich.style  # noqa: E402

after = random.random()
print("rich", version("rich"), "without the import:", first, "with it:", after)
assert after != first, "the import does not draw a number any more"
PYTHON
