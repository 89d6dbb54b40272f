"""What is named when a run diverges; each fault is made where it must be found."""

import keras
import numpy as np
import pytest

from mpncov_zoo.assembly import precision
from mpncov_zoo.errors import ZooError
from mpncov_zoo.training.divergence import DivergenceGuard, broken
from mpncov_zoo.training.optimization import SmoothedCrossentropy, compile_for
from mpncov_zoo.training.recipes import load_recipe
from tests import networks

LABELS = np.array([0, 1, 2, 3])


@pytest.fixture
def model() -> keras.Model:
    network = networks.tiny()
    network.compile("sgd", SmoothedCrossentropy())
    return network


def images(model: keras.Model) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, *model.input_shape[1:])).astype(np.float32)


def test_nothing_is_broken_in_a_sound_network(model: keras.Model) -> None:
    assert list(broken(model, images(model), LABELS)) == []


def test_a_batch_that_is_not_finite_is_named_first(model: keras.Model) -> None:
    batch = images(model)
    batch[1, 2, 3, 0] = np.nan
    assert next(broken(model, batch, LABELS)) == "the batch itself"


def test_a_variable_that_is_not_finite_is_named_before_what_it_spoils(model: keras.Model) -> None:
    kernel = model.named_variables()["features/stage2_block1_conv2/kernel"]
    kernel.assign(np.full(kernel.shape, np.inf))
    assert next(broken(model, images(model), LABELS)) == "the variable features/stage2_block1_conv2/kernel"


def test_the_first_layer_that_overflows_is_named(model: keras.Model) -> None:
    kernel = model.named_variables()["features/stage2_block1_conv2/kernel"]
    kernel.assign(np.full(kernel.shape, 3e38))  # finite itself
    assert next(broken(model, images(model), LABELS)) == "the output of features/stage2_block1_conv2"


def test_a_gradient_alone_is_named(model: keras.Model) -> None:
    """The loss is 0, its gradient the square root's at 0 times 0; the last layer's is the first that is computed."""
    model.compile("sgd", lambda labels, x: keras.ops.sqrt(keras.ops.sum((x - keras.ops.stop_gradient(x)) ** 2, -1)))
    found = list(broken(model, images(model), LABELS))
    assert found[0].startswith("the gradient of classifier/logits/")
    assert found and all(name.startswith("the gradient of ") for name in found)


def guarded(policy: str) -> tuple[DivergenceGuard, keras.Model]:
    """A guard of a network after its first step, at a rate of 0.2."""
    with precision(policy):
        network = networks.tiny()
    compile_for(network, load_recipe("fashion_mnist", ["epochs=1", "optimizer.warmup_epochs=0"]), steps=2)
    guard = DivergenceGuard(lambda epoch, batch: (images(network), LABELS), lambda: 3)
    guard.set_model(network)
    guard.set_params({"steps": 2})
    guard.on_epoch_begin(0)
    network.train_on_batch(images(network), LABELS)
    guard.on_train_batch_end(0, {"loss": 1.0})
    return guard, network


def test_a_loss_that_no_scale_makes_finite_is_a_divergence() -> None:
    """Keras lowers the scale and takes no step, for ever."""
    guard, network = guarded("mixed_float16")
    network.optimizer.dynamic_scale.assign(0.5)
    with pytest.raises(
        ZooError, match=r"diverged in epoch 1, batch 2, at a learning rate of 0\.\d+: a quantity that is"
    ):
        guard.on_train_batch_end(1, {"loss": 1.0})


def test_what_an_epoch_spoiled_is_not_kept() -> None:
    """At a rate of 0.2, which is 0.1 for the step after it: that of the step that was taken is named."""
    guard, network = guarded("float32")
    guard.on_epoch_end(0)
    with pytest.raises(ZooError, match=r"batch 2, at a learning rate of 0\.2: the epoch's val_loss is not finite"):
        guard.on_epoch_end(0, {"loss": 1.0, "val_loss": float("nan")})
    network.named_variables()["classifier/logits/kernel"].assign(np.full((36, 5), np.nan))
    with pytest.raises(
        ZooError, match=r"batch 2, at a learning rate of 0\.2: the variable classifier/logits/kernel is not"
    ):
        guard.on_epoch_end(0)
