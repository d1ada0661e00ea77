# Everything a fresh machine needs: Python 3.11 or newer with pip and venv. Each target makes the environment it needs.

PYTHON ?= python3
VENV := .venv
DEMO := .demo-venv
BIN := $(VENV)/bin
TESTS ?= tests
PYTEST_FLAGS ?= -n 2 --dist worksteal
SECONDS ?= 60

.PHONY: help demo test simulate lint types docs check lock bench clean

help:
	@echo "make demo    a durable order workflow, killed in the middle and resumed, live"
	@echo "make test    all tests"
	@echo "make simulate  SECONDS=3600 [SEED=n] [JOBS=n]: random programs and faults, for as long as you say"
	@echo "make lint    formatting and style"
	@echo "make types   mypy --strict and pyright"
	@echo "make check   lint, types, test: what CI runs"
	@echo "make bench   measure beside DBOS and the official SDK (with an environment of its own)"
	@echo "make lock    resolve the dependencies anew"

demo: $(DEMO)/.ready
	@$(DEMO)/bin/python examples/espresso/demo.py

test: $(VENV)/.ready
	$(BIN)/python -m pytest $(PYTEST_FLAGS) $(TESTS)

simulate: $(VENV)/.ready
	@cd tests && ../$(BIN)/python -m simulation --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(if $(JOBS),--jobs $(JOBS))

lint: $(VENV)/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.ready
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

check: lint types test

lock: $(VENV)/.ready
	$(BIN)/uv lock
	$(BIN)/uv export -q --no-dev --no-emit-project --format requirements-txt --no-header -o requirements/base.txt
	$(BIN)/uv export -q --group dev --no-emit-project --format requirements-txt --no-header -o requirements/dev.txt

bench:
	$(PYTHON) bench/run.py

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(DEMO)/.ready: requirements/base.txt pyproject.toml
	@echo "Preparing an environment in $(DEMO) ..."
	@$(PYTHON) -m venv $(DEMO)
	@$(DEMO)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/base.txt
	@$(DEMO)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

clean:
	rm -rf $(VENV) $(DEMO) bench/.venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
