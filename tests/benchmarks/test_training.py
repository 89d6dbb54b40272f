"""Both sides of the benchmark take the same training steps; its figures are measured, not tested."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from typing import Any

import keras
import numpy as np
import pytest

from benchmarks import training
from conversion import maps
from conversion.maps.resnet import upstream_resnet
from mpncov_zoo import architectures

OPTIONS = {"features": {"repeats": (1, 2, 1, 1)}, "representation": {"dimension_reduction": 16}}
SMALL = training.Case("mpncov_resnet50", 64, 4, 7, "float64", OPTIONS)
Weights = dict[str, np.ndarray]


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Without Triton, which its builds for CUDA import with an optimizer: that ends a process with TensorFlow in it."""
    monkeypatch.setitem(sys.modules, "triton", None)
    module = import_module("torch")
    yield module
    module.set_default_dtype(module.float32)


def weights_of(ours: Any) -> Weights:
    return {name: variable.numpy() for name, variable in ours.network.named_variables().items()}


def trained_apart(torch: Any, precision: str, steps: int) -> tuple[list[tuple[float, float]], Weights]:
    """Losses of both sides at every step, and the largest relative error of every variable's change through them."""
    torch.set_default_dtype(getattr(torch, precision))
    keras.utils.set_random_seed(0)
    case = SMALL._replace(precision=precision)
    ours, twin = (make(case, *training.batch(case)) for make in (training.keras_side, training.pytorch_side))
    architecture = architectures.of_model(case.model, options=case.options)
    named = training.published_names(architecture)
    table = [replace(row, source=named(row.source)) for row in maps.pytorch_steps(upstream_resnet(architecture))]
    before, state = weights_of(ours), twin.network.state_dict()
    state |= {row.source: torch.tensor(maps.INVERSES[row.transform](before[row.target]).copy()) for row in table}
    twin.network.load_state_dict(state)
    losses = [(ours.step(), twin.step()) for _ in range(steps)]
    after, state = weights_of(ours), twin.network.state_dict()
    theirs = {row.target: maps.TRANSFORMS[row.transform](state[row.source].numpy()) for row in table}
    assert theirs.keys() == after.keys()
    return losses, {name: relative_error(after[name] - x, theirs[name] - x) for name, x in before.items()}


def relative_error(actual: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.abs(actual - expected).max() / np.abs(expected).max()


@pytest.mark.parity
def test_twin_takes_the_same_steps(torch: Any) -> None:
    """Convolution, batch statistics, covariance head, classifier, decay, and momentum from the second step on."""
    losses, errors = trained_apart(torch, "float64", steps=3)
    ours, theirs = zip(*losses, strict=True)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)  # Keras averages losses in float32
    assert losses[2] < losses[0]
    learned = {name: error for name, error in errors.items() if not name.endswith("moving_variance")}
    assert max(learned.values()) < 1e-6, learned  # the learning rate is a float32; a wrong decay is 0.07, momentum 0.1


@pytest.mark.parity
def test_measured_kernels_take_the_same_step(torch: Any) -> None:
    """Those of float32: batch normalisation has one of its own, which tracks the unbiased variance, as PyTorch does."""
    (losses,), errors = trained_apart(torch, "float32", steps=1)
    tracked = {name: error for name, error in errors.items() if "/moving_" in name}
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert max(tracked.values()) < 1e-3, tracked
    assert max(errors.values()) < 0.05, errors  # rounding changes the sign of some values at rectifiers


def test_worker_takes_steps() -> None:
    answer = training.worker("mpncov_zoo", SMALL._replace(precision="mixed_bfloat16"))({"steps": 2})
    assert answer.keys() == {"seconds", "loss", "memory"} and answer["seconds"] > 0 and np.isfinite(answer["loss"])


def test_report() -> None:
    ours = [{"seconds": seconds, "memory": 3 * 2**30} for seconds in (2.0, 4.0, 3.0)]
    theirs = [{"seconds": seconds, "memory": 2**30} for seconds in (2.0, 2.0, 1.0)]
    assert training.row("a", ours) == "| a | 3.000 (2.000 to 4.000) | 3,072 |"
    assert training.ratio("b", ours, theirs).startswith("| ratio, b | **1.50** (quartiles 1.00 to 3.00) | 3.00 |")


def test_names_are_those_of_the_registry() -> None:
    names = [training.named(kind, backbone) for backbone in training.BACKBONES for kind in training.REPRESENTATIONS]
    assert [architectures.of_model(name).representation for name in names] == [*training.REPRESENTATIONS] * 2
