"""What several test files need once a session: an artifact, a tiny data set, and a run trained on it."""

import gc
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # PyTorch's threads wait for one another, and tests run side by side

SPARE = Path(__file__).parent / "spare"
SPARE_VARIABLE = "MPNCOV_ZOO_TESTS_SPARE"  # which sitecustomize.py there reads

TINY_RECIPE = [
    "epochs=2",
    "batch_size=30",
    "precision=float32",
    "seed=5",
    "optimizer.warmup_epochs=1",
    "options.features.repeats=1",
    "options.representation.dimension_reduction=8",
    "holdout=30",
]


LONG = (  # files that take longest begin first, so that two workers end together
    "test_notebooks.py",
    "test_on_ray.py",
    "test_distribution.py",
    "test_attaching.py",
    "test_shipped_recipes.py",
    "test_exporter.py",
    "test_fit.py",
    "test_published.py",
    "test_pipelines.py",
    "test_extracting.py",
    "test_golden_backbones.py",
    "test_first_use.py",
)


assert all(any(Path(__file__).parent.rglob(name)) for name in LONG), LONG


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))
    # Looking for garbage took a tenth of the tests' time, in the libraries and in what TensorFlow keeps
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What compares with PyTorch or the packages of its networks is skipped where they are not installed."""
    for mark in item.iter_markers("parity"):
        for package in mark.args or ("torch",):
            if find_spec(package) is None:
                pytest.skip(f"needs {package}")


@pytest.fixture(scope="session", autouse=True)
def _processes_find_less() -> None:
    """Python, where a test starts it, does not find two libraries that hardly any test needs."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(SPARE), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ[SPARE_VARIABLE] = "jax sklearn"


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever the tests fetch or convert, the user's own cache is left alone."""
    os.environ["MPNCOV_ZOO_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that all tests share, on every worker of pytest-xdist: a published checkpoint is converted once."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared_cache"


@pytest.fixture(scope="module", autouse=True)
def _garbage() -> Iterator[None]:
    """The graphs of a file, which hold on to one another, are gone before the next one begins."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def plain_graphs() -> Iterator[None]:
    """Graphs are run as they are traced: where many are, to optimise them takes longer than to run them."""
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})


@pytest.fixture(scope="session")
def artifact_hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of artifacts with mpncov_cifar_resnet20.test: 28x28x1, 10 classes, random weights and statistics.

    One block a stage instead of three, which all that reads it is the faster for.
    """
    import keras
    import numpy as np

    from mpncov_zoo import artifact
    from mpncov_zoo.training import networks
    from mpncov_zoo.training.datasets import FASHION_MNIST_LABELS
    from mpncov_zoo.training.recipes import load_recipe

    keras.utils.set_random_seed(1)
    recipe = load_recipe("fashion_mnist", ["precision=float32", "options.features.repeats=1"])
    model = networks.build(recipe, FASHION_MNIST_LABELS)
    rng = np.random.default_rng(1)
    for name, variable in model.named_variables().items():
        if name.endswith(("/gamma", "/moving_variance")):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif name.endswith(("/beta", "/moving_mean", "/bias")) or name == "classifier/logits/kernel":
            variable.assign(rng.normal(0, 0.3, variable.shape))
    directory = tmp_path_factory.mktemp("hub")
    artifact.write(model, directory / "mpncov_cifar_resnet20.test", tag="test", provenance={"kind": "test"})
    return directory


@pytest.fixture(scope="session")
def tiny_fashion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory like Fashion-MNIST's, of 330 training and 60 test images."""
    from tests.fashion import write_fashion

    return write_fashion(tmp_path_factory.mktemp("fashion"), train=330, test=60)


@pytest.fixture(scope="session")
def trained_run(tiny_fashion: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A run of two epochs by the command line: its directory, what stood on standard output and error."""
    from tests.fashion import run_train

    directory = tmp_path_factory.mktemp("runs") / "whole"
    return directory, *run_train(tiny_fashion, directory, TINY_RECIPE)
