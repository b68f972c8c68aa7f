# Everything there is to run. Each target makes .venv and installs what it needs, at the pinned
# versions of constraints.txt; a second call installs nothing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROCESSES ?= 2
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo test lint verify bench clean

help:
	@echo "make venv     make $(VENV) with everything the tests need, and stop"
	@echo "make demo     check, train and diagnose a model, healthy and broken (under 4 minutes)"
	@echo "make test     run the tests (PYTEST_ARGS='-k ppca' for some of them)"
	@echo "make lint     check style (ruff), format (ruff) and types (pyright)"
	@echo "make verify   the slow checks of the figures; stopped ones go on where they were"
	@echo "make bench    measure against other libraries"
	@echo "make clean    delete $(VENV) and caches; runs stay"
	@echo "PYTHON=python3.12 make ... uses another interpreter (3.11 to 3.13) for a new $(VENV)"

venv: $(VENV)/installed-test

demo: $(VENV)/installed-demo
	$(BIN)/tightbound demo

# One process per core, so one thread each: more would only wait for each other.
test: $(VENV)/installed-test
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile $(PYTEST_ARGS)

lint: $(VENV)/installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

verify: $(VENV)/installed-test
	$(BIN)/python scripts/verify.py

bench: $(VENV)/installed-bench
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment. pip reads the constraints from these variables, so that they also hold for the
# build of the package itself (older and newer pip each have a name for that).
install = PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(1)]'

PINS := pyproject.toml constraints.txt

$(VENV)/installed-demo: $(PINS) | $(BIN)/python
	@echo "Installing what the demo needs (about half a minute)."
	$(call install,demo)
	@touch $@

# What the tests need includes what the demo needs.
$(VENV)/installed-test: $(PINS) | $(BIN)/python
	@echo "Installing what the tests need (about a minute)."
	$(call install,demo$(comma)track$(comma)test)
	@touch $(VENV)/installed-demo $@

$(VENV)/installed-bench: $(PINS) | $(BIN)/python
	@echo "Installing the libraries to measure against (about a minute)."
	$(call install,bench)
	@touch $(VENV)/installed-demo $@

comma := ,

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || { \
	echo "tightbound needs Python 3.11, 3.12 or 3.13, but '$(PYTHON)' is not one: name one with PYTHON=python3.11 make ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	echo "'$(PYTHON)' cannot make virtual environments: install its venv module (Debian: python3-venv)." >&2; exit 1; }
