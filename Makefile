# Both `make demo` and `make test` set up all they need on a fresh machine, and are quick the second time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# One test process a core, each on one thread. A module's tests share its fixtures, so they stay in one process; the
# order is that of tests/conftest.py, slow modules first.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadscope --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo test quick check format docs clean

help: ## Show the targets.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

demo: $(READY) ## Run the main job on the embedded dataset: no download, no argument.
	ICM_BENCH_RESULTS=runs/demo $(BIN)/icm-bench run --task detection --codecs icm,vvc,jpeg

test: $(READY) check ## Run every check and every test.
	$(PYTEST)

quick: $(READY) ## Run the unit tests alone.
	$(PYTEST) -m "not slow"

check: $(READY) ## Run the linter, the format check and the type checker.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## Format the code and fix what the linter can fix.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY) ## Build the documentation site in build/site; a broken link is an error.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	rm -rf build/docs && mkdir -p build/docs
	git ls-files -z -- '*.md' '*.ipynb' '*.py' 'results/*.png' '*.yml' 'examples' LICENSE ':!README.md' | xargs -0 cp --parents -t build/docs
	echo '<meta http-equiv="refresh" content="0; url=docs/">' > build/docs/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

clean: ## Remove the environment and all that runs have made.
	rm -rf $(VENV) runs training build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 13) else "icm-bench needs Python 3.11 or 3.12; name one with PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
