# Each target sets up all that it needs, in $(VENV), and does so again only when pyproject.toml has changed.
# Another interpreter has an environment of its own: `make test PYTHON=python3.12` uses .venv-python3.12.

PYTHON ?= python3
VENV ?= $(if $(filter python3,$(PYTHON)),.venv,.venv-$(notdir $(PYTHON)))
# Tests wait for servers and for processes that they kill: half as many more at once than there are processors.
WORKERS ?= $(shell expr \( $$(getconf _NPROCESSORS_ONLN) \* 3 + 1 \) / 2)
URL ?=
ONLY ?=
MINUTES ?= 10
SEED ?=

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test lint format bench bench-many ecosystem torture mutants explore clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=python3.12  another interpreter      VENV=dir  another place for the environment"

run: $(VENV)/.ready-run ## read real data through the cache, every byte verified (URL=https://… for data of your own)
	$(BIN)/pagein demo $(if $(URL),'$(URL)')

test: lint ## all checks: style, types, layers, tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

lint: $(VENV)/.ready-test ## style, types, layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.ready-test ## rewrite the files in the project's style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.ready-bench ## the benchmarks, each beside its peers
	$(BIN)/python benchmarks/run.py

ecosystem: $(VENV)/.ready-bench ## what pandas, pyarrow, DuckDB, zarr, ... ask for, beside plain fsspec: the table in docs
	$(BIN)/python benchmarks/ecosystem.py

bench-many: $(VENV)/.ready-bench ## 13,562 Parquet files open at once under a cap of 256 MiB, beside fsspec's caches
	$(BIN)/python benchmarks/run.py --only many_files

torture: $(VENV)/.ready-test ## the long form of the stress tests
	$(BIN)/python -m pytest -m torture --timeout=3600

mutants: $(VENV)/.ready-test ## mistakes in the core, each of which some test must catch (ONLY='words of their names')
	$(BIN)/python -m tests.mutants.run $(ONLY)

explore: $(VENV)/.ready-test ## scenarios under fresh schedules, and all within a bound that grows (MINUTES=10 SEED=1 ONLY='words of their names')
	$(BIN)/python -m tests.explore --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(ONLY)

clean: ## remove all that make and the tools have made
	rm -rf .venv* build dist .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# -- environments ------------------------------------------------------------------------------------
# A stamp is younger than pyproject.toml if what it stands for is installed.  Each includes what `make run` needs.

$(VENV)/.ready-run: pyproject.toml $(BIN)/python
	@echo "Installing pagein into $(VENV)"
	$(PIP_INSTALL) --editable '.[all]'
	@touch $@

$(VENV)/.ready-test: pyproject.toml $(BIN)/python
	@echo "Installing pagein and its development tools into $(VENV) (a minute or two)"
	$(PIP_INSTALL) --editable '.[all,dev,test-ecosystem]'
	@touch $(VENV)/.ready-run $@

$(VENV)/.ready-bench: pyproject.toml $(BIN)/python
	@echo "Installing pagein and the peers that it is measured against into $(VENV)"
	$(PIP_INSTALL) --editable '.[all,bench,test-ecosystem]'
	@touch $(VENV)/.ready-run $@

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "make: there is no $(PYTHON) here; install Python 3.11 or later" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: pagein needs Python 3.11 or later, and $(PYTHON) is $$($(PYTHON) -V 2>&1);" \
	    "name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: $(PYTHON) cannot make an environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
