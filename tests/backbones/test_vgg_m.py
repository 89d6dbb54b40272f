"""VGG-M against MatConvNet's list of its layers in NumPy; its normalisation against the formula and PyTorch's."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import mpncov_zoo
from mpncov_zoo.backbones.vgg_m import LocalResponseNormalization, vgg_m
from mpncov_zoo.registry import REPRESENTATIONS
from tests import layer_contract, networks, numpy_networks

FEATURES = np.random.default_rng(0).normal(0, 30, (2, 3, 4, 7)).astype(np.float32)
CAFFE = (5, 2.0, 1e-4, 0.75)  # k, alpha / size and beta of the networks that were trained in Caffe


@pytest.mark.parametrize("size", [(64, 64), (71, 95)])
@pytest.mark.parametrize(("local_response", "last_pool"), [((5, 1.0, 2e-5, 0.75), True), (CAFFE, False)])
def test_every_stage_is_the_published_one(
    local_response: tuple[int, float, float, float], last_pool: bool, size: tuple[int, int]
) -> None:
    """Of images in the published range, whose responses are normalised visibly."""
    options = {"local_response": local_response, "last_pool": last_pool}
    model, weights = numpy_networks.filled(lambda inputs: vgg_m(inputs, **options))
    x = np.random.default_rng(1).normal(0, 60, (1, *size, 3)).astype(np.float32)
    expected = numpy_networks.vgg_m(weights, x, **options)
    numpy_networks.assert_same_endpoints(model(x), expected)
    without = numpy_networks.vgg_m(weights, x, **{**options, "local_response": (1, 1.0, 0.0, 1.0)})
    assert np.abs(without["stage1"] - expected["stage1"]).max() > 0.1 * np.abs(expected["stage1"]).max()


@pytest.mark.parametrize("options", [(), CAFFE, (4, 1.0, 1e-3, 0.5), (1, 3.0, 1e-2, 1.0), (15, 1.0, 1e-3, 0.75)])
def test_the_formula(options: tuple) -> None:
    """An odd and an even window, one of a single channel, and one wider than there are channels."""
    expected = numpy_networks.local_response_normalization(FEATURES, *(options or (5, 1.0, 2e-5, 0.75)))
    actual = np.asarray(LocalResponseNormalization(*options)(FEATURES))
    np.testing.assert_allclose(actual, expected, rtol=2e-6)


@pytest.mark.parity
def test_pytorchs_layer() -> None:
    """Its alpha is of the mean over the window, as Caffe's."""
    torch = pytest.importorskip("torch", reason="needs torch")
    theirs = torch.nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
    expected = theirs(torch.from_numpy(FEATURES.transpose(0, 3, 1, 2)).double()).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(np.asarray(LocalResponseNormalization(*CAFFE)(FEATURES)), expected, rtol=2e-6)


def test_layer_contract(tmp_path: Path) -> None:
    layer = LocalResponseNormalization(4, 1.5, 1e-3, 0.5, name="response")
    layer_contract.assert_complete_configuration(layer)
    assert layer.compute_output_shape((None, None, 4, 7)) == (None, None, 4, 7)
    layer_contract.assert_reloads(layer, FEATURES, tmp_path / "layer.keras")
    layer_contract.assert_float32_under_mixed_precision(LocalResponseNormalization, FEATURES)


def test_squares_beyond_float16_are_no_infinity() -> None:
    x = tf.constant([[[[1000.0, 500.0]]]], tf.float16)
    assert np.isfinite(np.asarray(LocalResponseNormalization(dtype="mixed_float16")(x))).all()


@pytest.mark.parametrize("options", [{"depth": 0}, {"depth": 2.5}, {"kappa": 0.0}])
def test_options_that_are_none(options: dict) -> None:
    with pytest.raises(ValueError, match=r"depth must be a whole number from 1 on, and kappa positive\. Received"):
        LocalResponseNormalization(**options)


@pytest.mark.parametrize("representation", sorted(REPRESENTATIONS))
def test_every_representation_reloads(representation: str, tmp_path: Path) -> None:
    """On the end of the trunk; bilinear ones on two stages of it."""
    stages = {"bcnn": ["stage1", "stage3"], "cbp": ["stage2"]}.get(representation)
    options = {"classifier": {"hidden": ()}, "representation": {"size": 1} if representation == "flatten" else {}}
    model = mpncov_zoo.build(
        "vgg_m",
        representation=representation,
        stages=stages,
        num_classes=3,
        input_shape=(96, 96, 3),
        options=options,
    )
    networks.randomize(model)
    images = networks.images(model)
    model.save(tmp_path / "net.keras")
    reloaded = keras.models.load_model(tmp_path / "net.keras")
    np.testing.assert_allclose(reloaded(images), model(images), rtol=1e-6)


@pytest.mark.parametrize(("name", "parameters"), [("vgg_m", 102_908_520), ("mpncov_vgg_m", 162_284_648)])
def test_parameters(name: str, parameters: int) -> None:
    """Of the first order: 96 * (7 * 7 * 3 + 1) + ... + 1000 * 4097, as MatConvNet's list of layers gives."""
    sizes = [(7 * 7 * 3, 96), (5 * 5 * 96, 256), (9 * 256, 512), (9 * 512, 512), (9 * 512, 512)]
    if name == "vgg_m":
        sizes += [(6 * 6 * 512, 4096)]
        batch_norm = 0
    else:
        sizes += [(256 * 257 // 2, 4096)]
        batch_norm = 512 * 256 + 2 * 256  # the reduction, whose convolution has no bias
    sizes += [(4096, 4096), (4096, 1000)]
    expected = sum((fan_in + 1) * fan_out for fan_in, fan_out in sizes) + batch_norm
    assert networks.parameters(networks.bare(name)) == expected == parameters
