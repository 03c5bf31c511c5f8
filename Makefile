# The targets a person needs. Everything runs in .venv, which `make install` builds from Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# one more than cores: while a test waits for processes of its own, another runs
WORKERS ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')
DEMO ?= demo.db

.PHONY: install test test-slow check bench demo format proto build clean

install: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("sqlfront needs Python 3.11 or newer; say make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(STAMP)

test: install
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not slow"

test-slow: install
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy -p benchmarks
	$(BIN)/lint-imports
	$(BIN)/python -m kvstore.proto --check
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not slow"

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: install
	$(BIN)/python -m kvstore.proto

bench: install
	$(BIN)/python -m benchmarks oltp
	$(BIN)/python -m benchmarks paths
	$(BIN)/python -m benchmarks olap
	$(BIN)/python -m benchmarks load
	$(BIN)/python -m benchmarks htap
	$(BIN)/python -m benchmarks replica
	$(BIN)/python -m benchmarks cluster
	$(BIN)/python -m benchmarks cluster-sql

demo: install
	$(BIN)/python -m shell.demo --fresh $(DEMO)

build: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check build
	$(BIN)/python -m build

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
