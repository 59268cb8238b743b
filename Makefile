# make demo: a student learns Pong from the bundled teacher.  make test: every check.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# Where pip finds PyTorch; for the small CPU build name PyTorch's CPU index here.
TORCH_ARGS ?=

.PHONY: demo test test-slow lint type format setup benchmarks clean

demo: setup
	$(BIN)/tutelage distill

test: lint type
	$(BIN)/pytest -n 2

test-slow: setup
	$(BIN)/pytest -m slow

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

type: setup
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

setup: $(VENV)/installed

# PyTorch goes first and pinned: a later package would pull its newest CUDA build.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt $(TORCH_ARGS) torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

benchmarks: setup
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[benchmarks]'
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
