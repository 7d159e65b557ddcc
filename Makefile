# `make demo` and `make test` each do all the set-up they need, in .venv, on a fresh machine with
# Python 3.11 or newer. Another interpreter: `make test PYTHON=python3.13`.

PYTHON ?= python3
# Pinned, and installed before anything that depends on torch. PyPI's build for Linux carries CUDA
# with it; docs/installation.rst says how to point pip at PyTorch's CPU builds instead.
TORCH ?= torch==2.13.0

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint format types docs bench bench-quick bench-peers bench-report clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# One stamp per set of extras: a target waits only for what it uses, and everything is installed
# anew when the dependencies change.
$(VENV)/base: pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) "$(TORCH)"
	@touch $@

$(VENV)/plot: $(VENV)/base
	$(PIP) --editable ".[plot]"
	@touch $@

$(VENV)/test: $(VENV)/base
	$(PIP) --editable ".[plot,test]"
	@touch $@

# Large, and few tests want it.
$(VENV)/judge: $(VENV)/test
	$(PIP) xgboost
	@touch $@

$(VENV)/lint: $(VENV)/base
	$(PIP) mypy ruff
	@touch $@

$(VENV)/doc: $(VENV)/plot
	$(PIP) "pip>=25.1"
	$(PIP) --group doc
	@touch $@

# What the benchmark runs itself; the peers have environments of their own.
$(VENV)/bench: $(VENV)/base
	$(PIP) --editable ".[plot,spatial]" pyarrow xgboost
	@touch $@

demo: $(VENV)/plot  ## fit the Adult table, write a synthetic one, its scores and pictures to demo/
	$(BIN)/python examples/adult_demo.py

test: $(VENV)/test  ## the test suite with coverage, without the slow tests
	$(BIN)/python -m pytest -m "not slow and not gpu" --cov

test-all: $(VENV)/judge  ## every test, the slow ones too
	$(BIN)/python -m pytest --cov

lint: $(VENV)/lint  ## style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(VENV)/lint  ## put the code in the project's format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(VENV)/plot $(VENV)/lint  ## check the types of the torch core
	$(BIN)/mypy

docs: $(VENV)/doc  ## build the documentation into docs/_build/html
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

# Data sets are in the folder $SKVAE_DATA; what is not there is left out.
bench: $(VENV)/bench  ## measure everything that is not measured yet, write tables and figures
	$(BIN)/python benchmarks/run.py all

bench-quick: $(VENV)/bench  ## measure a small slice of everything, in benchmarks/work/quick
	$(BIN)/python benchmarks/run.py all --quick

bench-peers: $(VENV)/bench  ## make the peers' environments in benchmarks/work/peers
	$(BIN)/python benchmarks/run.py peers

bench-report: $(VENV)/bench  ## write tables, figures and the README's numbers from the results
	$(BIN)/python benchmarks/run.py report

clean:  ## remove the environment and everything built
	rm -rf $(VENV) build dist demo docs/_build docs/generated *.egg-info .coverage \
		.mypy_cache .pytest_cache .ruff_cache
	find skvae tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +
