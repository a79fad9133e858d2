# Every target creates .venv if needed; only Python >= 3.11 and make must be installed.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
READY := .venv/.ready
WORKERS := $(shell echo $$(( $$(nproc) + 1 )))

# Tests wait for browsers and programs: one process more than there are cores keeps these busy.
.PHONY: help setup demo lab docs test quick check bench clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

setup: $(READY) ## create .venv with everything that the other targets need
$(READY): pyproject.toml constraints.txt scripts/setup.sh
	@scripts/setup.sh

demo: $(READY) ## simulate a flexible particle, refine its moving body, and write figures and a run to demo/
	@$(BIN)/lrwidgets demo --out demo

lab: $(READY) ## open the first notebook in JupyterLab, with example data; options: make lab LAB="--no-browser --port 8889"
	@cd notebooks && ../$(BIN)/python -m lrwidgets.example
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/jupyter-lab --notebook-dir=notebooks $(LAB) notebooks/01_quickstart.ipynb

docs: $(READY) ## build the documentation in docs/_build/html, warnings are errors; options: make docs DOCS="-D nb_execution_mode=off"
	@$(BIN)/sphinx-build -W --keep-going -q -n -d docs/_build/doctrees $(DOCS) docs docs/_build/html

test: $(READY) ## run all tests; those that need missing programs or data (RELION, data sets) are skipped; WORKERS=0: in one process
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

bench: $(READY) ## run every benchmark, also of RELION if it is installed; shorter: make bench BENCH="--quick"
	@$(BIN)/lrwidgets bench $(BENCH)

clean: ## remove everything that the other targets created
	@rm -rf .venv demo notebooks/example docs/_build docs/api docs/notebooks dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
