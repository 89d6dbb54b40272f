"""The optimiser, loss and schedule against NumPy in float64."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mpncov_zoo.errors import InputError
from mpncov_zoo.training.optimization import CoupledSGD, SmoothedCrossentropy, compile_for
from mpncov_zoo.training.recipes import Optimizer, load_recipe
from tests import networks


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
    rates = model.optimizer._learning_rate
    return np.array([float(rates(step)) for step in range(0, 1001, 20)])


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


def test_steps_down_after_a_warm_up() -> None:
    rates = learning_rates("optimizer.schedule=step", "optimizer.step_epochs=[5, 8]", "optimizer.warmup_epochs=2")
    steps = np.arange(0, 1001, 20)
    expected = 0.2 * 0.1 ** ((steps >= 500) * 1.0 + (steps >= 800)) * np.minimum(1, steps / 200)
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-9)


def test_a_constant_rate() -> None:
    np.testing.assert_allclose(learning_rates("optimizer.schedule=constant", "optimizer.warmup_epochs=0"), 0.2)


def test_with_accumulation_the_schedule_still_ends_with_the_last_epoch() -> None:
    """Keras counts batches, not the steps that several of them make."""
    model = networks.tiny()
    settings = ["epochs=3", "optimizer.accumulate=4", "optimizer.warmup_epochs=1", "optimizer.learning_rate=0.2"]
    compile_for(model, load_recipe("fashion_mnist", settings), steps=8)
    variables = model.trainable_variables
    model.optimizer.build(variables)
    rates = []
    for _ in range(24):
        rates.append(float(model.optimizer.learning_rate))
        model.optimizer.apply([tf.zeros(v.shape) for v in variables])
    np.testing.assert_allclose(rates[:9], np.linspace(0, 0.2, 9), atol=1e-7)
    np.testing.assert_allclose(rates[8:], 0.1 * (1 + np.cos(np.pi * np.arange(16) / 16)), atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradients_of_which_one_is_not_finite_change_nothing_and_are_counted(bad: float, accumulate: int) -> None:
    variables = [keras.Variable(np.ones(3), dtype="float32"), keras.Variable(np.ones(2), dtype="float32")]
    optimizer = CoupledSGD(0.1, momentum=0.9, coupled_decay=0.5, accumulate=accumulate)
    optimizer.apply([tf.zeros(3), tf.ones(2)], variables)
    before = [v.numpy() for v in optimizer.variables[2:] + variables]
    optimizer.apply([tf.constant([0.0, bad, 0.0]), tf.ones(2)], variables)
    assert int(optimizer.failures) == 1
    for old, variable in zip(before, optimizer.variables[2:] + variables, strict=True):
        if variable is not optimizer.failures:
            np.testing.assert_array_equal(variable.numpy(), old)


def trained_once(**settings: Any) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Before, gradient and after of one step at a rate of 0.1 without momentum, by the variable's name."""
    keras.utils.set_random_seed(3)
    model = networks.tiny()
    optimizer = {"learning_rate": 0.1, "momentum": 0.0, "weight_decay": 0.5, "schedule": "constant", **settings}
    recipe = load_recipe("fashion_mnist", ["label_smoothing=0.0"])
    values = {**recipe.optimizer.model_dump(), "warmup_epochs": 0, "nesterov": False, **optimizer}
    recipe = recipe.model_copy(update={"optimizer": Optimizer.model_validate(values)})
    compile_for(model, recipe, steps=1)
    images = tf.constant(np.random.default_rng(0).normal(size=(4, *model.input_shape[1:])), tf.float32)
    labels = tf.constant([0, 1, 0, 1])
    learned = model.learned_variables()
    with tf.GradientTape() as tape:
        loss = model.loss(labels, model(images, training=True))
    gradients = tape.gradient(loss, [v.value for v in learned.values()])
    before = {name: v.numpy().astype(np.float64) for name, v in learned.items()}
    model.optimizer.apply(gradients, [*learned.values()])
    return {
        name: (before[name], np.asarray(gradient, np.float64), variable.numpy())
        for (name, variable), gradient in zip(learned.items(), gradients, strict=True)
    }


@pytest.mark.parametrize("decay_all", [True, False])
def test_which_variables_decay_and_how_fast_the_classifier_learns(decay_all: bool) -> None:
    for name, (before, gradient, after) in trained_once(decay_all=decay_all, classifier_factor=5.0).items():
        decay = 0.5 if decay_all or name.endswith("kernel") else 0.0
        rate = 0.5 if name.startswith("classifier/") else 0.1
        np.testing.assert_allclose(after, before - rate * (gradient + decay * before), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["optimizer.schedule=step"], "step_epochs is for schedule 'step', and required there"),
        (["optimizer.step_epochs=[3]"], "step_epochs is for schedule 'step', and required there"),
        (["optimizer.schedule=step", "optimizer.step_epochs=[5, 3]"], "step_epochs must increase"),
        (["optimizer.schedule=linear"], "optimizer.schedule"),
    ],
)
def test_schedules_that_are_none(settings: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_recipe("fashion_mnist", settings)
