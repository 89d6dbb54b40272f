"""The optimiser, loss and schedule against NumPy in float64."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mpncov_zoo.training.optimization import CoupledSGD, SmoothedCrossentropy, compile_for
from mpncov_zoo.training.recipes import load_recipe


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_optimiser_adds_the_decay_before_the_momentum(nesterov: bool) -> None:
    """torch.optim.SGD's update (its documentation's pseudo-code), at a constant rate, in float64."""
    rate, momentum, decay = 0.1, 0.9, 0.05
    rng = np.random.default_rng(0)
    weights, gradients = rng.normal(size=(4, 3)), rng.normal(size=(6, 4, 3))
    variable = keras.Variable(weights, dtype="float32")
    optimizer = CoupledSGD(rate, momentum=momentum, nesterov=nesterov, coupled_decay=decay)
    velocity = np.zeros_like(weights)
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient, tf.float32)], [variable])
        decayed = gradient + decay * weights
        velocity = momentum * velocity + decayed
        weights = weights - rate * (decayed + momentum * velocity if nesterov else velocity)
    np.testing.assert_allclose(variable.numpy(), weights, rtol=0, atol=1e-6)


def test_the_optimiser_reloads_from_its_configuration() -> None:
    optimizer = CoupledSGD(0.1, momentum=0.8, coupled_decay=0.01)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(again, CoupledSGD)
    assert (again.coupled_decay, again.momentum) == (0.01, 0.8)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_cross_entropy_with_smoothed_targets(smoothing: float) -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 4, (8, 5)), rng.integers(0, 5, 8)
    targets = np.eye(5)[labels] * (1 - smoothing) + smoothing / 5
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = -(targets * log_probabilities).sum(axis=1).mean()
    loss = SmoothedCrossentropy(smoothing)
    for given in (labels, labels[:, None]):
        assert float(loss(tf.constant(given), tf.constant(logits, tf.float32))) == pytest.approx(expected, rel=1e-6)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert isinstance(again, SmoothedCrossentropy) and again.label_smoothing == smoothing


def learning_rates(*settings: str) -> Any:
    """The schedule of 10 epochs of 100 batches, peak 0.2, at every 20th batch."""
    recipe = load_recipe("fashion_mnist", ["epochs=10", "optimizer.learning_rate=0.2", *settings])
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    compile_for(model, recipe, steps=100)
    schedule = model.optimizer._learning_rate
    return np.array([float(schedule(step)) for step in range(0, 1001, 20)])


def test_the_learning_rate_warms_up_linearly_then_follows_a_cosine_to_zero() -> None:
    rates = learning_rates("optimizer.warmup_epochs=2")
    np.testing.assert_allclose(rates[:11], np.linspace(0, 0.2, 11), atol=1e-7)
    progress = np.linspace(0, 1, 41)
    np.testing.assert_allclose(rates[10:], 0.1 * (1 + np.cos(np.pi * progress)), atol=1e-6)


def test_without_warm_up_it_starts_at_its_peak() -> None:
    rates = learning_rates("optimizer.warmup_epochs=0")
    assert rates[0] == pytest.approx(0.2)
    assert rates[25] == pytest.approx(0.1, rel=1e-4)
    assert rates[50] == pytest.approx(0, abs=1e-7)
