# The two commands a newcomer needs are `make quickstart` and `make test`. Both build .venv on first use.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# A CPU-only torch on machines whose package index would send the CUDA build:
#   make quickstart TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
PIP     = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PYTEST  = OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest
WORKERS ?= 2
RECIPE  ?= alfworld-tiny

.PHONY: help quickstart test quicktest check bench docs clean install
help:
	@echo "make quickstart   install, then train and evaluate an agent with AEM on embedded games (CPU, about 5 minutes)"
	@echo "make test         install everything the tests need, then run all of them"
	@echo "make check        ruff, types, layering, docs links, quick tests: run it before every commit"
	@echo "make bench        speed against peers, one table each, JSON in bench/results"
	@echo "make docs         check the documentation's links"
	@echo "make clean        remove .venv and caches"

# Each stamp is renewed when what it installs from changes, so that a second call starts at once.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "The venv module is missing (Debian: apt-get install python3-venv)." >&2; rm -rf $(VENV); exit 1; }

$(VENV)/.stamp-train: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing aem-suite[train] into $(VENV) (first time only: 1-3 minutes)"
	@$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	@$(PIP) -e '.[train]'
	@touch $@

$(VENV)/.stamp-test: pyproject.toml constraints.txt $(VENV)/.stamp-train
	@for tool in g++ cmake make; do command -v $$tool >/dev/null || { \
	  echo "$$tool is needed to build the real textworld planner (Debian: apt-get install g++ cmake make)." >&2; exit 1; }; done
	@echo "Installing aem-suite[train,alfworld,webshop,swebench,dev] into $(VENV) (first time only: 3-8 minutes, compiles textworld's planner)"
	@$(PIP) -e '.[train,alfworld,webshop,swebench,dev]'
	@touch $@

install: $(VENV)/.stamp-test

quickstart: $(VENV)/.stamp-train
	@OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/aem-train run $(RECIPE)

test: $(VENV)/.stamp-test
	$(PYTEST) -n $(WORKERS) --dist worksteal --durations=15 tests

quicktest: $(VENV)/.stamp-test
	$(PYTEST) -n $(WORKERS) -m "not slow and not e2e and not realengine" tests

check: $(VENV)/.stamp-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MAKE) --no-print-directory quicktest

docs: $(VENV)/.stamp-test
	$(PYTEST) tests/test_docs.py

bench: $(VENV)/.stamp-test
	@mkdir -p bench/results
	@for file in bench/[a-z]*.py; do echo; echo "== $$file"; OMP_NUM_THREADS=1 $(BIN)/python $$file || failed=1; done; exit $${failed:-0}

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
