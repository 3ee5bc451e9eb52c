# `make demo`, `make test`, `make slow` and `make docs` need Python >= 3.11 and nothing else: each makes its environment
# in .venv first. `make test` leaves out what is marked as slow, `make slow` runs that alone. `make docs` writes the site
# to docs/_build/html, and asks no other host for anything once its environment is there.

PYTHON ?= python3
VENV ?= .venv
PYTEST = $(VENV)/bin/python -m pytest -q -n 2 --dist worksteal --durations=15

.PHONY: demo test slow newest lint docs wheel clean

demo: $(VENV)/.demo
	$(VENV)/bin/python examples/train_digits.py

test: $(VENV)/.test
	$(PYTEST) -m "not slow"

# with the site, which is tested where it can be built
slow: $(VENV)/.test $(VENV)/.docs
	$(PYTEST) -m slow

# what CI runs on another Python, `make newest PYTHON=python3.13 VENV=.venv-newest`
newest: $(VENV)/.test
	$(PYTEST) tests/test_conformance.py::test_recorded_trajectory tests/test_loss_scale.py::test_recorded_trajectory \
		tests/test_examples.py

lint: $(VENV)/.test
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

docs: $(VENV)/.docs
	$(VENV)/bin/python -m sphinx -q -W --keep-going -b html -d docs/_build/doctrees docs docs/_build/html

# builds the wheel, and tries it in an environment that has nothing else
wheel:
	rm -rf dist .venv-wheel
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	.venv-wheel/bin/python -m pip install --quiet dist/*.whl
	cd dist && ../.venv-wheel/bin/python ../tests/smoke.py *.whl

clean:
	rm -rf $(VENV) .venv-newest .venv-wheel demo dist docs/_build docs/_static/math.woff
	rm -rf docs/optimizers docs/reference docs/examples docs/benchmarks

# .venv/.demo, .venv/.test and .venv/.docs mark which extras are installed, and are older than a pyproject.toml that
# changed.
$(VENV)/.demo $(VENV)/.test $(VENV)/.docs: $(VENV)/.%: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable '.[$*]'
	touch $@
