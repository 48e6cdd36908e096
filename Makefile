# Everything runs in .venv, made from the first Python 3.12 or 3.11 that is found.
#
#   make testnet                   set up, then run the main job: four nodes, real traffic, an L1
#   make testnet ARGS='--nodes 7 --kill-one'
#   make test                      the whole test suite      make check   every check there is
#   make test PYTEST_ARGS='-n 0 -x tests/consensus'          some of it, in one process

VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
PYTEST_ARGS ?=
# A version manager's shim may be on PATH without the version behind it: ask it to run.
FIND_PYTHON = for name in $(PYTHON) python3.12 python3.11 python3; do \
	$$name -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
		2>/dev/null && { echo $$name; exit 0; }; done; \
	echo 'Python 3.11 or 3.12 with its venv module is needed (PYTHON=... names one)' >&2; exit 1
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	--constraint requirements.lock

.DEFAULT_GOAL := help
.PHONY: help setup testnet test lint format types contracts check clean

help:
	@sed -n 's/^#   //p' Makefile

$(VENV)/python:
	@python=$$($(FIND_PYTHON)) && echo "setting up $(VENV) with $$($$python --version)" \
		&& rm -rf $(VENV) && $$python -m venv $(VENV) && touch $@

$(VENV)/runtime: $(VENV)/python pyproject.toml requirements.lock
	@echo 'installing what a node needs (a few minutes the first time)'
	@$(INSTALL) --editable . && touch $@

$(VENV)/development: $(VENV)/runtime
	@echo 'installing what the tests need'
	@$(INSTALL) --editable '.[dev]' && touch $@

setup: $(VENV)/development

testnet: $(VENV)/runtime
	@$(BIN)/testnet run --nodes 4 $(ARGS)

test: $(VENV)/development
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 $(PYTEST_ARGS)

lint: $(VENV)/development
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

format: $(VENV)/development
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

types: $(VENV)/development
	@$(BIN)/mypy --strict

contracts: $(VENV)/development
	@$(BIN)/lint-imports

check: lint types contracts test

clean:
	rm -rf $(VENV) .testnet build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
