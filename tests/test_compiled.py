"""model(images) is compiled: the same values, whatever is done with the network, and never a graph too many."""

import threading
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mpncov_zoo.classifier import FeatureExtractor, ImageClassifier
from mpncov_zoo.compiled import Inference
from mpncov_zoo.errors import InputError
from tests import networks


@pytest.fixture
def model() -> ImageClassifier:
    return networks.tiny()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The images of every call that was taken by a compiled function."""
    taken: list[Any] = []
    compiled = Inference.__call__

    def counting(self: Inference, images: Any) -> Any:
        taken.append(images)
        return compiled(self, images)

    monkeypatch.setattr(Inference, "__call__", counting)
    return taken


def layer_by_layer(model: ImageClassifier, images: Any) -> np.ndarray:
    return model.classifier(model.representation(model.features(images))).numpy()


def assert_close(computed: Any, expected: Any) -> None:
    np.testing.assert_allclose(computed, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_batches_of_any_size_share_one_graph(model: ImageClassifier, calls: list[Any]) -> None:
    model.compile(jit_compile=False)  # on a GPU Keras would have XLA compile predict_on_batch
    traced = []
    call = model._inference.call
    model._inference.call = lambda *args, **kwargs: traced.append(args) or call(*args, **kwargs)
    for batch in (1, 3, 2, 5):
        images = networks.images(model, batch)
        assert_close(model(images), layer_by_layer(model, images))
        assert_close(model(tf.constant(images), training=False), layer_by_layer(model, images))
        predicted = model.predict_on_batch(images)
        assert isinstance(predicted, np.ndarray)
        np.testing.assert_array_equal(predicted, model(images))
    assert len(traced) == 1 and len(calls) == 16 and model.predict_function is None  # Keras traced none of its own


def test_predict_on_batch_is_keras_own_where_xla_is_asked_for(model: ImageClassifier, calls: list[Any]) -> None:
    model.compile(jit_compile=True)
    images = networks.images(model)
    assert_close(model.predict_on_batch(images), layer_by_layer(model, images))
    assert not calls


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("call", lambda model, *args, **kwargs: 2 * super(type(model), model).call(*args, **kwargs)),
        ("predict_step", lambda model, data: keras.ops.softmax(super(type(model), model).predict_step(data))),
    ],
)
def test_what_a_subclass_overrides_counts(name: str, override: Any) -> None:
    model = networks.tiny()
    images = networks.images(model)
    before = model.predict_on_batch(images)
    model.__class__ = type("Own", (ImageClassifier,), {name: override})
    predicted = model.predict_on_batch(images)
    assert np.abs(predicted - before).max() > 0.1
    assert_close(predicted, model.predict(images, verbose=0))


def test_images_of_any_size_share_one_graph(calls: list[Any]) -> None:
    model = networks.tiny(input_shape=(None, None, 3))
    for size in ((12, 12), (9, 14), (20, 20)):
        images = np.random.default_rng(0).normal(0, 1, (2, *size, 3)).astype(np.float32)
        assert_close(model(images), layer_by_layer(model, images))
    assert len(calls) == 3


def test_an_extractor_is_compiled_too(model: ImageClassifier, calls: list[Any]) -> None:
    images = networks.images(model)
    found = FeatureExtractor(model, ["stage2", "covariance"])(images)
    assert len(calls) == 1 and list(found) == ["stage2", "covariance"]
    assert_close(found["covariance"], model.representation.get_layer("covariance")(
        model.representation.get_layer("reduction_bn")(
            model.representation.get_layer("reduction_conv")(model.features(images))
        ).numpy().clip(0)
    ))  # fmt: skip


def test_gradients_pass_through_it(model: ImageClassifier, calls: list[Any]) -> None:
    """Each side has a tape of its own: for a persistent one TensorFlow prepares gradients of gradients, too."""
    images = tf.constant(networks.images(model))
    sources = [images, *(variable.value for variable in model.trainable_variables)]
    gradients = []
    for function in (model, lambda x: model.classifier(model.representation(model.features(x)))):
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.reduce_sum(function(images) ** 2)
        gradients.append(tape.gradient(loss, sources))
    assert len(calls) == 1
    for computed, expected in zip(*gradients, strict=True):
        np.testing.assert_allclose(computed, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_training_and_tracing_take_keras_own_way(model: ImageClassifier, calls: list[Any]) -> None:
    images = networks.images(model)
    statistics = model.features.get_layer("stem_bn").moving_mean.numpy()
    model(images, training=True)
    assert (model.features.get_layer("stem_bn").moving_mean.numpy() != statistics).any()
    outer = tf.function(lambda x: model(x, training=False))
    assert_close(outer(images), layer_by_layer(model, images))
    model(keras.Input((12, 12, 3)))
    model.stateless_call(model.trainable_variables, model.non_trainable_variables, images)
    assert not calls


def test_what_is_assigned_later_counts(model: ImageClassifier) -> None:
    images = networks.images(model)
    before = model(images).numpy()
    networks.randomize(model, seed=1)
    assert_close(model(images), layer_by_layer(model, images))
    assert np.abs(model(images) - before).max() > 1e-2
    model.freeze("stage2")
    assert_close(model(images), layer_by_layer(model, images))


def test_threads_may_call_it_first_together(model: ImageClassifier) -> None:
    images, results = networks.images(model), []
    threads = [threading.Thread(target=lambda: results.append(model(images).numpy())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for result in results:
        assert_close(result, layer_by_layer(model, images))


def test_run_eagerly_is_respected(model: ImageClassifier, calls: list[Any]) -> None:
    model.compile(run_eagerly=True)
    model(networks.images(model))
    model.predict_on_batch(networks.images(model))
    assert not calls and model.predict_function is not None


def test_what_no_graph_can_take_is_said_as_ever(model: ImageClassifier) -> None:
    with pytest.raises(ValueError, match="expected shape"):
        model(np.zeros((1, 9, 9, 3), np.float32))
    of_any_size = networks.tiny(input_shape=(None, None, 3))
    of_any_size(networks.images(of_any_size))
    with pytest.raises(InputError, match="at least 2 positions"):
        of_any_size(np.ones((1, 2, 2, 3), np.float32))


def test_whole_numbers_and_doubles_are_computed_as_float32(model: ImageClassifier) -> None:
    images = networks.images(model)
    assert_close(model(images.astype(np.float64)), model(images))
    assert_close(model((images * 3).astype(np.int32)), model((images * 3).astype(np.int32).astype(np.float32)))


def test_a_quantized_network_is_compiled_anew(model: ImageClassifier) -> None:
    images = networks.images(model)
    before = model(images).numpy()
    model.quantize("int8")
    quantized = model(images).numpy()
    assert np.abs(quantized - before).max() > 0
    assert_close(quantized, layer_by_layer(model, images))


def test_low_rank_adaptation_counts(model: ImageClassifier) -> None:
    images = networks.images(model)
    before = model(images).numpy()
    layer = model.classifier.layers[-1]
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(np.ones(layer.lora_kernel_b.shape, np.float32))
    assert_close(model(images), layer_by_layer(model, images))
    assert np.abs(model(images) - before).max() > 0


def test_forward_mode_derivatives_are_not_zero(model: ImageClassifier) -> None:
    images = tf.constant(networks.images(model))
    model(images)
    derivatives = []
    for function in (model, lambda x: model.classifier(model.representation(model.features(x)))):
        with tf.autodiff.ForwardAccumulator(images, tf.ones_like(images)) as accumulator:
            outputs = function(images)
        derivatives.append(accumulator.jvp(outputs).numpy())
    assert np.abs(derivatives[1]).max() > 0
    np.testing.assert_allclose(*derivatives, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_traced_is_computed_layer_by_layer(caplog: pytest.LogCaptureFixture) -> None:
    """Adaptive pooling needs the size; which is said once, in the log."""
    model = networks.tiny(input_shape=(None, None, 3), representation="flatten", options={"features": {"repeats": 1}})
    images = np.random.default_rng(0).normal(0, 1, (2, 12, 12, 3)).astype(np.float32)
    with caplog.at_level("INFO", logger="mpncov_zoo"):
        for _ in range(2):
            assert_close(model(images), layer_by_layer(model, images))
            assert_close(model.predict_on_batch(images), layer_by_layer(model, images))
        other = images[:, :9]  # for which Keras could not trace its own graph again
        assert_close(model.predict_on_batch(other), layer_by_layer(model, other))
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"{model.name} is not compiled") and "statically known" in message
