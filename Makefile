# `make demo` and `make test` need Python >= 3.11 and nothing else: each makes its environment in .venv first.

PYTHON ?= python3
VENV ?= .venv

.PHONY: demo test lint clean

demo: $(VENV)/.demo
	$(VENV)/bin/python examples/train_digits.py

test: $(VENV)/.test
	$(VENV)/bin/python -m pytest -q -n 2

lint: $(VENV)/.test
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

clean:
	rm -rf $(VENV) demo

# .venv/.demo and .venv/.test mark which extras are installed, and are older than a pyproject.toml that changed.
$(VENV)/.demo $(VENV)/.test: $(VENV)/.%: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable '.[$*]'
	touch $@
