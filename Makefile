# `make demo` and `make test` do everything on a fresh Debian/Ubuntu machine, in a fresh clone.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The default interpreter where it is new enough, else the newest one found.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; exit; }; done; echo python3)
export PYTHON
# Override to run a part: make test PYTEST="-x tests/core"
PYTEST ?=

.PHONY: help demo test lint format bench docs clean system

help:
	@echo "make demo    train on a real noisy micrograph for about a minute, denoise it, show it"
	@echo "make test    run all tests (make test PYTEST='-x tests/core' for a part)"
	@echo "make lint    ruff, mypy, import-linter, typos"
	@echo "make format  let ruff rewrite what it can"
	@echo "make bench   run all benchmarks, and print their results in one table"
	@echo "make docs    build the documentation into site/"
	@echo "make clean   remove what the commands above made, except .venv"

demo: system $(STAMP)
	$(BIN)/napari-recon demo $(DEMO)

test: system $(STAMP)
	scripts/with_display.sh $(BIN)/python -m pytest -p no:randomly $(PYTEST)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/typos

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: system $(STAMP)
	@failed=; for script in benchmarks/[a-z]*.py; do \
		echo "== $$script"; scripts/with_display.sh $(BIN)/python $$script || failed="$$failed $$script"; done; \
	echo "== all"; $(BIN)/python benchmarks/_summary.py; \
	test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	$(BIN)/mkdocs build --strict

clean:
	rm -rf build dist site demo-output .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find src tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

system:
	@scripts/system_deps.sh

# Order-only: the virtual environment needs `system` (python3-venv) once, but does not become old by it.
$(STAMP): pyproject.toml constraints.txt | system
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[qt,test]"
	touch $@
