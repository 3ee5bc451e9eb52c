# `make demo`, `make test` and `make slow` need Python >= 3.11 and nothing else: each makes its environment in .venv
# first. `make test` leaves out what is marked as slow, `make slow` runs that alone.

PYTHON ?= python3
VENV ?= .venv
PYTEST = $(VENV)/bin/python -m pytest -q -n 2 --dist worksteal --durations=15

.PHONY: demo test slow newest lint clean

demo: $(VENV)/.demo
	$(VENV)/bin/python examples/train_digits.py

test: $(VENV)/.test
	$(PYTEST) -m "not slow"

slow: $(VENV)/.test
	$(PYTEST) -m slow

# what CI runs on another Python, `make newest PYTHON=python3.13 VENV=.venv-newest`
newest: $(VENV)/.test
	$(PYTEST) tests/test_conformance.py::test_recorded_trajectory tests/test_loss_scale.py::test_recorded_trajectory \
		tests/test_examples.py

lint: $(VENV)/.test
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

clean:
	rm -rf $(VENV) .venv-newest demo

# .venv/.demo and .venv/.test mark which extras are installed, and are older than a pyproject.toml that changed.
$(VENV)/.demo $(VENV)/.test: $(VENV)/.%: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable '.[$*]'
	touch $@
