# make demo       from nothing to a fine-tuned, evaluated and traced classifier
# make test       from nothing to a tested checkout
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-slow check format rule-pages bench-adapt bench-audit \
	bench-dropout bench-faults bench-peak bench-text-baseline bench-crash bench-corrupt bench-train bench-predict \
	bench-predict-memory bench-scale bench-serve bench-time-to-accuracy bench-watchdog bench-wild speedrun clean

demo: $(INSTALLED)
	$(BIN)/tenor train demo

# One process for each core; PROCESSES=1: one test after the other. Tests start many processes, each of which would
# compile Tenor's sources again where Python may not write bytecode.
TESTS = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
SIDE_BY_SIDE = $(shell $(BIN)/python tests/side_by_side.py $(PROCESSES))

test: $(INSTALLED)
	$(TESTS) $(SIDE_BY_SIDE) -m "not slow"

test-slow: $(INSTALLED)
	$(TESTS) $(SIDE_BY_SIDE) -m "slow and not alone"
	$(TESTS) -m "slow and alone"

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Masked-language-model training beside transformers.Trainer.
bench-adapt: $(INSTALLED)
	$(BIN)/python benchmarks/adapt.py

bench-audit: $(INSTALLED)
	$(BIN)/python benchmarks/audit.py

bench-dropout: $(INSTALLED)
	$(BIN)/python benchmarks/dropout.py

# QUICK=1: one seed of the healthy programs instead of five.
bench-faults: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r benchmarks/faults/requirements.txt
	PYTHONPATH=benchmarks $(BIN)/python -m faults $(if $(QUICK),--quick)

bench-peak: $(INSTALLED)
	$(BIN)/python benchmarks/peak.py

# IMDB=path: a folder of Parquet files, an extracted aclImdb folder, or the official archive.
bench-text-baseline: $(INSTALLED)
	$(BIN)/python benchmarks/text_baseline.py $(IMDB)

bench-train: $(INSTALLED)
	PYTHONPATH=benchmarks $(BIN)/python -m training $(IMDB)

# Hours; what was cut goes on behind its last measurement.
bench-time-to-accuracy: $(INSTALLED)
	PYTHONPATH=benchmarks $(BIN)/python -m time_to_accuracy $(IMDB)

# Minutes of training to 90% and 92%; docs/speedrun.md. IMDB=path: the same reviews from another place than the embedded
# package. LEVEL=0.90: one of the two. What was interrupted is resumed.
speedrun: $(INSTALLED)
	PYTHONPATH=benchmarks $(BIN)/python -m speedrun $(if $(IMDB),--imdb $(IMDB)) $(if $(LEVEL),--level $(LEVEL))

bench-predict: $(INSTALLED)
	$(BIN)/python benchmarks/predict.py $(IMDB)

bench-predict-memory: $(INSTALLED)
	$(BIN)/python benchmarks/predict_memory.py

# Many files: one process against the workers of a local Ray cluster, and the memory of the process that drives it.
bench-scale: $(INSTALLED)
	$(BIN)/python benchmarks/scale.py

# RUN=path: a run, or its model folder; default: the encoder with a head of random weights. SOAK=1: ten minutes more.
bench-serve: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r benchmarks/serve/requirements.txt
	PYTHONPATH=benchmarks $(BIN)/python -m serve $(RUN) $(if $(SOAK),--soak)

bench-watchdog: $(INSTALLED)
	$(BIN)/python benchmarks/watchdog.py

# Programs of others, with faults that were reported, under tenor watch. PEERS=1: the peers too.
bench-wild: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r benchmarks/wild/requirements.txt
	$(if $(PEERS),PYTHONPATH=benchmarks $(BIN)/python -m wild.peers)
	PYTHONPATH=benchmarks $(BIN)/python -m wild

# Both run the tests' small model.
bench-crash: $(INSTALLED)
	PYTHONPATH=tests $(BIN)/python benchmarks/crash.py

bench-corrupt: $(INSTALLED)
	PYTHONPATH=tests $(BIN)/python benchmarks/corrupt.py

rule-pages: $(INSTALLED)
	$(BIN)/python -m tenor.checks.catalogue docs/rules

clean:
	rm -rf $(VENV) build dist src/*.egg-info

$(INSTALLED): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tenor needs Python 3.11 or newer; run: make PYTHON=python3.11 demo")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(INSTALLED)
