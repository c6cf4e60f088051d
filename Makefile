# Two commands for a new user: `make run` and `make test`. Both make their own environment from Python 3.11 alone.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run test test-recbole test-scatter check lint format types wheel golden bench bench-implicit bench-recbole clean

run: $(VENV)/.run
	rm -rf runs/quickstart
	$(BIN)/graphcl train --out runs/quickstart
	$(BIN)/graphcl recommend runs/quickstart --k 10 --out recommendations.parquet

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2

# With torch-scatter, the extra `scatter`: what goes through graphcl/ops/segment.py equals what torch does.
test-scatter: .venv-scatter/.made
	.venv-scatter/bin/python -c "import torch_scatter"
	.venv-scatter/bin/python -m pytest tests/ops/test_segment.py tests/objectives tests/test_cluster.py tests/recipes/test_ncl.py

# RecBole needs older packages, so what is tested against it has an environment of its own: also the oldest that graphcl runs with.
test-recbole: .venv-recbole/.made
	GRAPHCL_LANE=recbole .venv-recbole/bin/python -m pytest -n 2 tests/integrations tests/ops tests/recipes

check: lint types test wheel test-recbole

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(VENV)/.dev
	$(BIN)/mypy graphcl

# The built wheel in an environment of its own, away from the checkout.
wheel: $(VENV)/.dev
	rm -rf build dist .venv-wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	.venv-wheel/bin/python -m pip install --quiet --disable-pip-version-check --no-deps recbole==1.2.1
	cd / && $(CURDIR)/.venv-wheel/bin/graphcl data list && \
		$(CURDIR)/.venv-wheel/bin/graphcl train popular --out $(CURDIR)/build/wheel-run && \
		$(CURDIR)/.venv-wheel/bin/graphcl recommend $(CURDIR)/build/wheel-run --out $(CURDIR)/build/wheel.csv

golden: $(VENV)/.dev
	$(BIN)/python tests/golden/regenerate.py

bench: $(VENV)/.dev
	$(BIN)/graphcl bench speed

# Peers that want environments of their own. Run bench after bench-implicit for its row.
bench-implicit: .venv-implicit/.made
bench-recbole: $(VENV)/.dev .venv-recbole/.made
	$(BIN)/graphcl bench speed-recbole

.venv-implicit/.made:
	$(PYTHON) -m venv .venv-implicit
	.venv-implicit/bin/python -m pip install --quiet --disable-pip-version-check implicit==0.7.3
	touch $@

# setuptools: RecBole's ray imports pkg_resources, and pip does not ask for it.
.venv-recbole/.made: setup.cfg constraints.txt constraints-recbole.txt
	$(PYTHON) -m venv .venv-recbole
	.venv-recbole/bin/python -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt -c constraints-recbole.txt setuptools -e ".[recbole,test]"
	touch $@

.venv-scatter/.made: setup.cfg constraints.txt .wheels/.torch-scatter
	$(PYTHON) -m venv .venv-scatter
	.venv-scatter/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	.venv-scatter/bin/python -m pip install --quiet --disable-pip-version-check --no-deps .wheels/torch_scatter*.whl
	touch $@

# Built against the torch that is pinned (about 6 minutes on two cores), and kept until the pin moves.
.wheels/.torch-scatter: constraints.txt
	rm -rf .wheels
	$(PYTHON) -m venv .wheels/venv
	.wheels/venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch setuptools wheel
	.wheels/venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-build-isolation --no-deps --wheel-dir .wheels torch-scatter
	rm -rf .wheels/venv
	touch $@

# recbole ships MovieLens-100K, the default data; none of its code is imported.
$(VENV)/.run: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt -e .
	$(PIP) --no-deps recbole==1.2.1
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) -c constraints.txt -e ".[test,dev]"
	touch $@

clean:
	rm -rf $(VENV) .venv-wheel .venv-implicit .venv-recbole .venv-scatter .wheels build dist
