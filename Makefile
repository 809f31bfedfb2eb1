# `make evaluate` sets up and runs the main job; `make test` sets up and passes the tests.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: evaluate setup test test-lfw lint bench clean

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
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt requirements-cluster.txt
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -q -m "not lfw"

# TFFACE_LFW names a folder that holds lfw-deepfunneled.tgz and pairs.txt.
test-lfw: $(VENV)/installed-dev
	$(BIN)/python -m pytest -q -m lfw

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# choose_recipe.py is apart: it takes half an hour, and LFW; so is scale.py, which takes hours in all.
BENCHMARKS := all_pairs embedding locally_connected attacks adversarial_training export

bench: $(VENV)/installed-dev
	for name in $(BENCHMARKS); do PYTHONPATH=. $(BIN)/python benchmarks/$$name.py || exit 1; done

clean:
	rm -rf $(VENV) out
