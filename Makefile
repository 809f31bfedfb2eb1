# `make evaluate` sets up and runs the main job; `make test` sets up and passes the tests.
PYTHON ?= $(firstword $(shell for v in 3.11 3.12 3.13; do python$$v -c 0 2>/dev/null && echo python$$v; done; true) python3)
VENV ?= .venv
BIN := $(VENV)/bin
# Two processes by default; each takes one core.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -q

.PHONY: evaluate setup check fuzz test test-slow pythons test-pythons test-lfw lint resolve bench wheel clean

evaluate: setup
	$(BIN)/python cli.py evaluate --model facenet --out out/evaluate

# Everything that `evaluate` needs afterwards without a network: packages, weights, faces.
setup: $(VENV)/installed
	$(BIN)/python cli.py weights fetch facenet
	$(BIN)/python cli.py datasets prepare five_faces

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt requirements-cluster.txt
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

# While one works: lint, types, the fast unit tests.
FAST := -m "not lfw and not slow and not cluster and not registry" tests/packaging tests/utils tests/metrics \
    tests/augmentation tests/preprocessing tests/data tests/hub --ignore tests/utils/test_tensorflow_logs.py

check: lint
	$(PYTEST) -n $(WORKERS) $(FAST) tests/test_house.py

test: $(VENV)/installed-dev
	$(PYTEST) -n $(WORKERS) --dist worksteal -m "not lfw and not slow"

test-slow: $(VENV)/installed-dev
	$(PYTEST) -n $(WORKERS) --dist worksteal -m "slow and not lfw"

# The fast tests with the newest packages of the ranges, under the other Pythons of pyproject.toml that are found.
test-pythons:
	$(PYTHON) tests/packaging/pythons.py -n $(WORKERS)

# Their environments alone.
pythons:
	$(PYTHON) tests/packaging/pythons.py --install

# Files that were damaged in every way: some minutes. `COUNT=2000 make fuzz` for a first look.
COUNT ?= 100000
fuzz: $(VENV)/installed-dev
	$(BIN)/python -m tests.preprocessing.fuzz --count $(COUNT) --workers $(WORKERS)

# TFFACE_LFW names a folder that holds lfw-deepfunneled.tgz and pairs.txt.
test-lfw: $(VENV)/installed-dev
	$(PYTEST) -m lfw

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# pyproject.toml's ranges have wheels for every Python that it names.
resolve: $(VENV)/installed-dev
	$(BIN)/python tests/packaging/resolve.py

wheel: $(VENV)/installed-dev
	$(BIN)/python -m build --outdir dist .

# choose_recipe.py is apart: it takes half an hour, and LFW; so is scale.py, which takes hours in all.
BENCHMARKS := all_pairs embedding locally_connected attacks adversarial_training export

bench: $(VENV)/installed-dev
	for name in $(BENCHMARKS); do PYTHONPATH=. $(BIN)/python benchmarks/$$name.py || exit 1; done

clean:
	rm -rf $(VENV) $(VENV)-3.* out dist build
