# `make demo` and `make test` need Python 3.11 or newer and make, and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# What is installed beside gpucost itself. EXTRAS=dev,bench brings torch, without which the benchmark's tests are skipped.
EXTRAS ?= dev
COMMA := ,
STAMP := $(VENV)/.installed-$(subst $(COMMA),-,$(EXTRAS))
DEMO_GPUS ?= $(shell $(BIN)/python -c "import pynvml; pynvml.nvmlInit(); print('all' if pynvml.nvmlDeviceGetCount() else 'sim:h100:2')" 2>/dev/null || echo sim:h100:2)

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench-stage gpu-check clean

help:  ## show what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/'

$(VENV)/.installed-%: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gpucost needs Python 3.11 or newer; try: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV) (a minute or two)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS)]'
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

bench-stage: $(STAMP)  ## what a stage mark costs
	$(BIN)/python benchmarks/bench_stage.py

gpu-check: EXTRAS := dev,bench
gpu-check: $(VENV)/.installed-dev-bench  ## prove gpucost bench on a real GPU (10 minutes a GPU)
	@$(BIN)/python benchmarks/gpu_check.py $(ARGUMENTS)

clean:  ## remove the environment and what was built
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
