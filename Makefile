# Every target does its own set-up in $(VENV); versions are pinned by constraints.txt.
PYTHON ?= python3
VENV ?= .venv
PIP := $(VENV)/bin/python -m pip
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: quickstart test test-slow test-floors lint clean

quickstart: $(VENV)/.runtime
	$(VENV)/bin/accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
	  train.py --recipe cost_quickstart

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: $(VENV)/.dev
	$(VENV)/bin/python -m pytest -m slow

# The notebooks are kept with what they show; run this where their code has changed.
.PHONY: notebooks
notebooks: $(VENV)/.dev
	$(VENV)/bin/python notebooks/execute.py

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python .ci/lint_models.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt requirements-offline.txt | $(VENV)/bin/python
	$(PIP) install --quiet -c constraints.txt -e ".[dev]"
	$(PIP) install --quiet --no-deps -r requirements-offline.txt
	touch $@ $(VENV)/.runtime

# The unit tests on the lowest versions that pyproject.toml allows; torch stays at the pinned CPU build.
test-floors:
	$(PYTHON) -m venv .venv-floors
	.venv-floors/bin/python tests/floors.py > .venv-floors/floors.txt
	.venv-floors/bin/python -m pip install --quiet -c .venv-floors/floors.txt -e ".[dev]"
	.venv-floors/bin/python -m pip install --quiet --no-deps -r requirements-offline.txt
	OMP_NUM_THREADS=1 .venv-floors/bin/python -m pytest -n 2 --dist loadfile -m "not slow"

clean:
	rm -rf $(VENV) .venv-floors build dist *.egg-info
