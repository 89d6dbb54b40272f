# Every target installs what it needs into .venv and runs; nothing else is required than Python 3.11 or later.
PYTHON ?= python3
BIN := .venv/bin
ZOO_SOURCES := setup.cfg setup.py pyproject.toml

.PHONY: demo test lint format benchmark-load benchmark-head clean

demo: .venv/zoo ## load the bundled network, classify real images, write demo.png
	$(BIN)/python examples/demo.py

test: .venv/dev ## run every test
	$(BIN)/pytest -n 2 --dist loadfile

lint: .venv/dev ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark-load: .venv/dev ## load() against a PyTorch twin, side by side
	$(BIN)/pip install --quiet torch
	$(BIN)/python -m benchmarks.load

benchmark-head: .venv/dev ## the covariance head against the published layers, side by side
	$(BIN)/pip install --quiet torch
	$(BIN)/python -m benchmarks.head --plot docs/head_time.png

.venv/zoo: $(ZOO_SOURCES)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[training]"
	touch $@

.venv/dev: .venv/zoo
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv build dist *.egg-info demo.png
