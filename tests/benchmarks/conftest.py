"""Benchmarks are no package of Tenor's: their folder is put on the path, as the Makefile does."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
