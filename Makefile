# Every target makes .venv when needed; nothing but Python >= 3.11 and make has to be there before.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
READY := .venv/.ready
WORKERS := $(shell echo $$(( $$(nproc) + 1 )))

# Tests wait for browsers and programs: one process more than there are cores keeps these busy.
.PHONY: help setup demo lab docs test quick check bench clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

setup: $(READY) ## make .venv with everything that the other targets need
$(READY): pyproject.toml constraints.txt scripts/setup.sh
	@scripts/setup.sh

demo: $(READY) ## simulate a flexible particle, refine its moving body, write demo/
	@$(BIN)/lrwidgets demo --out demo

lab: $(READY) ## JupyterLab with the first notebook, its data made; make lab LAB="--no-browser --port 8889"
	@cd notebooks && ../$(BIN)/python -m lrwidgets.example
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/jupyter-lab --notebook-dir=notebooks $(LAB) notebooks/01_quickstart.ipynb

docs: $(READY) ## the documentation, in docs/_build/html; warnings are errors; make docs DOCS="-D nb_execution_mode=off"
	@$(BIN)/sphinx-build -W --keep-going -q -n -d docs/_build/doctrees $(DOCS) docs docs/_build/html

test: $(READY) ## all tests; what is not on this machine (RELION, data sets) is shown as skipped; WORKERS=0: in one process
	@scripts/apt.sh apt.txt
	@$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(TESTS)

quick: $(READY) ## tests for a change in the core, in 3 minutes: architecture, documents, and what is not marked slow
	@$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "not slow" \
		tests/architecture tests/docs tests/lrcore $(TESTS)

check: $(READY) ## format, lint, types, import directions, sizes
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/ruff check --quiet
	@$(BIN)/mypy --no-error-summary
	@report=$$($(BIN)/lint-imports --no-logo 2>&1) || { echo "$$report"; exit 1; }
	@report=$$($(BIN)/python -m pip check 2>&1) || { echo "$$report"; exit 1; }
	@$(BIN)/python -m pytest tests/architecture

bench: $(READY) ## every benchmark, RELION too where it is; make bench BENCH="--quick" does less
	@$(BIN)/lrwidgets bench $(BENCH)

clean: ## remove what the other targets made
	@rm -rf .venv demo notebooks/example docs/_build docs/api docs/notebooks dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
