# `make demo` and `make test` need Python 3.11 or newer and make, and nothing else.
PYTHON ?= python3
VENV ?= .venv
PEERS ?= .venv-peers
BIN := $(VENV)/bin
# What is installed beside gpucost itself. EXTRAS=dev,bench brings torch, without which the benchmark's tests are skipped.
EXTRAS ?= dev
COMMA := ,
STAMP := $(VENV)/.installed-$(subst $(COMMA),-,$(EXTRAS))
DEMO_GPUS ?= $(shell $(BIN)/python -c "import pynvml; pynvml.nvmlInit(); print('all' if pynvml.nvmlDeviceGetCount() else 'sim:h100:2')" 2>/dev/null || echo sim:h100:2)

.DEFAULT_GOAL := help
.PHONY: help demo test torture check format accuracy bench-stage bench-record bench-report bench-workload gpu-check gpu-present clean

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

torture: $(STAMP)  ## the long form of the fault-injection suite, in under an hour (ARGUMENTS="--write FILE": its tables for docs/reliability.md)
	$(BIN)/python tests/torture/run.py $(ARGUMENTS)

check: $(STAMP)  ## formatting, lint, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(PEERS)/.installed: benchmarks/peers.txt
	@$(PYTHON) -m venv $(PEERS)
	@for peer in $$(grep -v '^#' $<); do \
		$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check $$peer || echo "not installed: $$peer"; done
	@touch $@

accuracy: $(STAMP) $(PEERS)/.installed  ## figures against the analytic truth, beside naive polling and other tools, into docs/accuracy.md
	$(BIN)/python tests/accuracy/suite.py --peers $(PEERS)/bin/python --write docs/accuracy.md

bench-stage: $(STAMP)  ## what a stage mark costs
	$(BIN)/python benchmarks/bench_stage.py

bench-record: $(STAMP) $(PEERS)/.installed  ## what recording costs, beside other recorders (half an hour)
	$(BIN)/python benchmarks/bench_record.py --peers $(PEERS)

bench-report: $(STAMP)  ## what a report of a day of 8 GPUs costs
	$(BIN)/python benchmarks/bench_report.py

bench-workload: $(STAMP)  ## how much recording slows the recorded command down
	$(BIN)/python benchmarks/bench_workload.py

gpu-present: $(STAMP)  # torch is installed only where there is a GPU for it
	@$(BIN)/python benchmarks/gpu_check.py --look

$(VENV)/.installed-dev-bench: EXTRAS := dev,bench
gpu-check: gpu-present $(VENV)/.installed-dev-bench  ## on a machine with an NVIDIA GPU: check it all on the real thing (an hour a model)
	@$(BIN)/python benchmarks/gpu_check.py $(ARGUMENTS)

clean:  ## remove the environment and what was built
	rm -rf $(VENV) $(PEERS) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
