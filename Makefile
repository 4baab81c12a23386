# Two commands do everything: `make train` and `make test`. Both create .venv and install into it first.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
# What `make train` runs; ARGS="agent=fisor env=OfflinePointCircle1Gymnasium-v0 data.path=..." for something else.
ARGS ?= -m seed=0,1,2

.PHONY: train test test-all check clean

train: $(VENV)/.installed
	$(PY) -m saferl.train $(ARGS)

# A process per core with one thread each; a file's tests stay together, since they share what was trained for them.
PYTEST := OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(PY) -m pytest -n auto --dist loadfile

test: $(VENV)/.installed-dev
	$(PYTEST)

# Also the tests that take minutes.
test-all: $(VENV)/.installed-dev
	$(PYTEST) -m "slow or not slow"

check: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# torch is named exactly, so that what was tested is what is installed.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet "torch==2.13.0"
	$(PY) -m pip install --quiet --editable ".[mujoco]"
	$(PY) -m saferl.install_envs
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PY) -m pip install --quiet --editable ".[mujoco,minari,filter,guardian,dev]"
	$(PY) -m saferl.install_envs --medical
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
