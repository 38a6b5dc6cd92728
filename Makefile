# Every target does its own set-up in $(VENV); versions are pinned by constraints.txt.
PYTHON ?= python3
VENV ?= .venv
PIP := $(VENV)/bin/python -m pip
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

PUBLISHED := tests/test_notebooks.py tests/hub/test_publish_loading.py tests/hub/test_space_repository.py \
  tests/hub/test_outside_package.py

# Test files are shared out among two processes, so that the two cores of a small machine are busy.
PYTEST := $(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: quickstart test test-plain-kernels test-sse4 test-two-threads test-everywhere test-trains test-slow
.PHONY: test-published test-docs test-floors notebooks docs lint clean

quickstart: $(VENV)/.runtime
	$(VENV)/bin/accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
	  train.py --recipe cost_quickstart

# The fast suite, one thread a process: with the kernels that torch chooses for this machine, but what trains without
# vectorised ones, whose sums are the same on every machine.
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(PYTEST) -m "not slow and not trains"
	ATEN_CPU_CAPABILITY=default OMP_NUM_THREADS=1 $(PYTEST) -m "trains and not slow"

# The fast suite as other machines compute it: every result must hold although the last bits of sums differ.
# Without vectorised kernels of torch:
test-plain-kernels: $(VENV)/.dev
	ATEN_CPU_CAPABILITY=default OMP_NUM_THREADS=1 $(PYTEST) -m "not slow"

# With matrix products of a CPU without AVX:
test-sse4: $(VENV)/.dev
	DNNL_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 OMP_NUM_THREADS=1 $(PYTEST) -m "not slow"

# With two threads, in one process: threads that wait for each other must not share their cores with another worker.
test-two-threads: $(VENV)/.dev
	OMP_NUM_THREADS=2 $(VENV)/bin/python -m pytest -m "not slow"

# The tests that train, with this machine's own kernels:
test-trains: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(PYTEST) -m "trains and not slow"

test-everywhere: test test-trains test-plain-kernels test-sse4 test-two-threads

# What takes long and CI runs all the same: the notebooks from their first to their last cell, and published
# recommenders and Spaces in an environment of their own.
test-published: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist loadfile -m slow $(PUBLISHED)

# Every code block of README and docs, page by page.
test-docs: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 -m slow tests/test_docs.py

# Longer training and several processes.
test-slow: $(VENV)/.dev
	$(VENV)/bin/python -m pytest -m slow

# The notebooks are kept with what they show; run this where their code has changed.
notebooks: $(VENV)/.dev
	$(VENV)/bin/python notebooks/execute.py

# The pages of docs/, strictly and without a network. To read them: python -m http.server --directory build/docs
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet -f docs/mkdocs.yml
	$(VENV)/bin/python docs/check_site.py build/docs

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
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

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet -c constraints.txt -e ".[docs]"
	touch $@

# The unit tests on the lowest versions that pyproject.toml allows; torch stays at the pinned CPU build.
test-floors:
	$(PYTHON) -m venv .venv-floors
	.venv-floors/bin/python tests/floors.py > .venv-floors/floors.txt
	.venv-floors/bin/python -m pip install --quiet -c .venv-floors/floors.txt -e ".[dev]"
	.venv-floors/bin/python -m pip install --quiet --no-deps -r requirements-offline.txt
	OMP_NUM_THREADS=1 .venv-floors/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

clean:
	rm -rf $(VENV) .venv-floors build dist *.egg-info
