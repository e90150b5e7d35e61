# `make demo` and `make test` need Python 3.11 or newer and make, and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_GPUS ?= $(shell $(BIN)/python -c "import pynvml; pynvml.nvmlInit(); print('all' if pynvml.nvmlDeviceGetCount() else 'sim:h100:2')" 2>/dev/null || echo sim:h100:2)

.DEFAULT_GOAL := help
.PHONY: help demo test check format accuracy gpu-check bench-stage clean

help:  ## show what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/'

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gpucost needs Python 3.11 or newer; try: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV) (a minute or two)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP)  ## record an example agent and show what it cost
	@echo "recording an example agent on $(DEMO_GPUS) (about 15 seconds)"
	@$(BIN)/gpucost record --name demo --gpus $(DEMO_GPUS) -- $(BIN)/python examples/agent.py
	@echo
	@$(BIN)/gpucost report latest

test: $(STAMP)  ## run the tests
	$(BIN)/python -m pytest -n auto

check: $(STAMP)  ## formatting, lint, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

PEERS ?= .venv-peers

$(PEERS)/.installed:
	$(PYTHON) -m venv $(PEERS)
	-$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check nvitop gpustat codecarbon zeus
	@touch $@

accuracy: $(STAMP) $(PEERS)/.installed  ## figures against the analytic truth, beside naive polling and other tools, into docs/accuracy.md
	$(BIN)/python tests/accuracy/suite.py --peers $(PEERS)/bin/python --write docs/accuracy.md

gpu-check: $(STAMP)  ## on a machine with an NVIDIA GPU: check it all on the real thing
	GPUCOST_VALIDATION=docs/validation $(BIN)/python -m pytest -m gpu -q tests/gpu

bench-stage: $(STAMP)  ## what a stage mark costs
	$(BIN)/python benchmarks/bench_stage.py

clean:  ## remove the environment and what was built
	rm -rf $(VENV) $(PEERS) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
