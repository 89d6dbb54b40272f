"""The three parts joined: decoding, saving, training, stages."""

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import mpncov_zoo
from mpncov_zoo import preprocessing
from mpncov_zoo.assembly import precision
from mpncov_zoo.classifier import FeatureExtractor, ImageClassifier
from mpncov_zoo.errors import InputError
from mpncov_zoo.load_report import CONFIGURATION, LoadReport
from tests import networks
from tests.photos import photo

LABELS = ("ant", "bee", "cat", "dog", "eel")


@pytest.fixture(scope="module")
def model() -> ImageClassifier:
    network = networks.tiny()
    network.labels = LABELS
    return network


CLASSES = ("ImageClassifier", "FeatureExtractor", "BatchNormalization", "MPNCOV", "UpperTriangle", "GAP", "BCNN", "CBP")


def reload_in_new_process(files: dict[str, Path], imports: str, images: np.ndarray, scratch: Path) -> dict[str, Any]:
    """Outputs of `.keras` files, loaded by a process that has imported nothing else than `imports`, and every class."""
    np.save(scratch / "images.npy", images)
    code = (
        f"import {imports}, numpy, sys\n"
        f"for name in {CLASSES}:\n"
        "    assert keras.saving.get_registered_object('mpncov_zoo>' + name).__name__ == name\n"
        f"images = numpy.load({str(scratch / 'images.npy')!r})\n"
        f"for path in {[str(path) for path in files.values()]!r}:\n"
        "    outputs = keras.models.load_model(path)(images)\n"
        "    outputs = outputs if isinstance(outputs, dict) else {'output': outputs}\n"
        "    numpy.savez(path + '.npz', **{k: numpy.asarray(v) for k, v in outputs.items()})\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=scratch, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return {name: dict(np.load(f"{path}.npz")) for name, path in files.items()}


def assert_close(computed: Any, expected: Any) -> None:
    """Equal but for the order of float32 sums: one side is compiled, the other computed layer by layer."""
    np.testing.assert_allclose(computed, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_output_is_classifier_of_representation_of_features(model: ImageClassifier) -> None:
    x = networks.images(model)
    expected = model.classifier(model.representation(model.features(x)))
    assert_close(model(x), expected)
    assert [part.name for part in model.layers[1:]] == ["features", "representation", "classifier"]


def test_no_classes_is_the_representation(model: ImageClassifier) -> None:
    headless = networks.tiny(0)
    x = networks.images(model)
    for part in ("features", "representation"):
        getattr(headless, part).set_weights(getattr(model, part).get_weights())
    assert headless.classifier is None and "logits" not in headless.stages
    assert_close(headless(x), model.representation(model.features(x)))


@pytest.mark.parametrize("top", [1, 3, 5, 99])
def test_decode_is_softmax_sorted(model: ImageClassifier, top: int) -> None:
    logits = np.array([[1.0, 3.0, -2.0, 3.5, 0.0], [1000.0, 999.0, -1000.0, 0.0, 5.0]], np.float32)
    decoded = model.decode(logits, top=top)
    for row, pairs in zip(logits.astype(np.float64), decoded, strict=True):
        exponentials = [math.exp(value - max(row)) for value in row]
        softmax = [value / math.fsum(exponentials) for value in exponentials]
        expected = sorted(zip(LABELS, softmax, strict=True), key=lambda pair: -pair[1])[:top]
        assert [label for label, _ in pairs] == [label for label, _ in expected]
        assert [p for _, p in pairs] == pytest.approx([p for _, p in expected], abs=1e-12)


def test_one_logit_is_a_sigmoid() -> None:
    single = networks.tiny(num_classes=1)
    decoded = single.decode(np.array([[0.0], [2.0], [-2.0], [-800.0], [800.0]]))
    assert [label for ((label, _),) in decoded] == ["class 0"] * 5
    expected = [0.5, 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2)), 0.0, 1.0]
    assert [p for ((_, p),) in decoded] == pytest.approx(expected, abs=1e-12)


def test_decode_without_labels_names_the_index() -> None:
    unlabelled = networks.tiny(num_classes=3)
    assert unlabelled.decode(np.array([[0.0, 2.0, 1.0]]), top=2)[0][0][0] == "class 1"


@pytest.mark.parametrize(
    ("logits", "top", "message"),
    [
        (np.zeros((2, 4)), 5, r"\(2, 4\)"),
        (np.zeros(5), 5, r"\(5,\)"),
        (np.array([[0, 0, np.nan, 0, 0]]), 5, "NaN"),
        (np.array([[0, 0, np.inf, 0, 0]]), 5, "infinity"),
        (np.zeros((1, 5)), 0, "top"),
        (np.zeros((1, 5)), -1, "top"),
    ],
)
def test_decode_refuses(model: ImageClassifier, logits: np.ndarray, top: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.decode(logits, top=top)


def test_decode_needs_a_classifier() -> None:
    headless = networks.tiny(0)
    with pytest.raises(InputError, match="has no classifier"):
        headless.decode(headless(networks.images(headless)))


@pytest.mark.parametrize("input_shape", [(12, 12, 3), (9, 14, 3), (9, 14, 1)])
def test_preprocess_gives_the_size_and_channels_that_the_network_was_built_for(input_shape: tuple) -> None:
    """With the registry's mean and deviation; their mean over the channels where images are grey."""
    network = networks.tiny(input_shape=input_shape)
    image = photo(40, 30)
    batch = network.preprocess([image, image])
    assert batch.shape == (2, *input_shape)
    pixels = preprocessing.resize_and_crop(
        preprocessing.read_image(image, network.input_specification.channel_order), network.input_specification
    )
    mean, std = np.array([[0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]])
    if input_shape[2] == 1:
        mean, std = mean.mean(), std.mean()
    np.testing.assert_allclose(batch[1], (pixels / 255 - mean) / std, atol=1e-5)


def test_keras_file_reloads_where_only_the_package_was_imported(model: ImageClassifier, tmp_path: Path) -> None:
    stages = ["stage1", "reduction", "covariance", "logits"]
    extractor = FeatureExtractor(model, stages)
    files = {"model": tmp_path / "model.keras", "extractor": tmp_path / "extractor.keras"}
    model.save(files["model"])
    extractor.save(files["extractor"])
    x = networks.images(model)
    outputs = reload_in_new_process(files, "mpncov_zoo, tensorflow, keras", x, tmp_path)
    np.testing.assert_array_equal(outputs["model"]["output"], model(x))
    assert list(outputs["extractor"]) == stages
    for name, value in extractor(x).items():
        np.testing.assert_array_equal(outputs["extractor"][name], value)


def test_reloaded_model_is_the_same_apart_from_its_report(model: ImageClassifier, tmp_path: Path) -> None:
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(reloaded, ImageClassifier)
    assert reloaded.get_config() == model.get_config()
    assert (reloaded.labels, reloaded.stages) == (LABELS, model.stages)
    assert reloaded.load_report == LoadReport(source=CONFIGURATION)
    assert "unverified" in str(reloaded.load_report)
    image = photo(20, 20)
    np.testing.assert_array_equal(reloaded(reloaded.preprocess(image)), model(model.preprocess(image)))


def test_reloaded_model_keeps_its_precision(tmp_path: Path) -> None:
    """As every Keras model does: the layers' policies are saved, not the global one of the day."""
    before = keras.config.dtype_policy().name
    with precision("mixed_bfloat16"):
        mixed = networks.tiny()
    mixed.save(tmp_path / "mixed.keras")
    reloaded = keras.models.load_model(tmp_path / "mixed.keras")
    x = networks.images(mixed)
    np.testing.assert_array_equal(reloaded(x), mixed(x))
    assert reloaded.features.get_layer("stem_conv").compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == before
    assert (np.asarray(reloaded(x)) != np.asarray(networks.tiny()(x))).any()  # the two precisions do differ


def test_fit_overfits_a_few_images_and_the_training_state_reloads(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = mpncov_zoo.build(
        "mpncov_cifar_resnet20",
        num_classes=4,
        input_shape=(8, 8, 3),
        options={"features": {"repeats": 1}, "representation": {"dimension_reduction": 4, "dropout": 0.0}},
    )
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, (16, 8, 8, 3)).astype(np.float32), np.arange(16) % 4
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"], jit_compile=False)
    history = model.fit(x, y, batch_size=16, epochs=16, verbose=0).history
    assert history["loss"][-1] < 0.2 * history["loss"][0] and history["accuracy"][-1] > 0.9
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(reloaded(x), model(x))
    assert len(reloaded.optimizer.variables) == len(model.optimizer.variables)
    for ours, theirs in zip(reloaded.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("representation", ["mpncov", "gap", "flatten", "bcnn", "cbp"])
@pytest.mark.parametrize("backbone", ["cifar_preact_resnet110", "resnet18", "vgg16"])
def test_any_backbone_takes_any_representation(backbone: str, representation: str, tmp_path: Path) -> None:
    """And is saved and reloaded with it."""
    repeats = {"cifar_preact_resnet110": 1, "resnet18": (1, 1, 1, 1), "vgg16": (1, 1, 1, 1, 1)}[backbone]
    options = {"features": {"repeats": repeats}, **({"classifier": {"hidden": ()}} if backbone == "vgg16" else {})}
    network = mpncov_zoo.build(
        backbone, num_classes=2, input_shape=(None, None, 3), representation=representation, options=options
    )
    network.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    for size in ((40, 33), (36, 36)):
        x = np.random.default_rng(0).normal(0, 1, (2, *size, 3)).astype(np.float32)
        logits = network(x).numpy()
        assert np.isfinite(logits).all() and (logits[0] != logits[1]).all()
        np.testing.assert_array_equal(reloaded(x), logits)


def test_feature_extractor_gives_the_tensors_on_the_way(model: ImageClassifier) -> None:
    """Each stage computed by a model of its own, cut out of the part at the layer that makes it."""
    x = networks.images(model)
    computed = FeatureExtractor(model, model.stages)(x)
    assert tuple(computed) == model.stages == (
        "stem", "stage1", "stage2", "stage3", "reduction", "covariance", "representation", "logits",
    )  # fmt: skip
    features, head = model.features, model.representation
    stem = keras.Model(features.input, features.get_layer("stem_bn").output)(x)
    assert_close(computed["stem"], np.maximum(stem, 0))
    assert_close(computed["stage3"], features(x))
    covariance = keras.Model(head.input, head.get_layer("covariance").output)(features(x))
    assert_close(computed["covariance"], covariance)
    assert_close(computed["representation"], head(features(x)))
    assert_close(computed["logits"], model(x))


def test_feature_extractor_shares_the_weights_and_preprocessing(model: ImageClassifier) -> None:
    extractor = FeatureExtractor(model, ["stage2", "stem"])
    assert list(extractor(networks.images(model))) == ["stage2", "stem"]
    ours = {id(variable) for variable in model.features.variables}
    assert extractor.variables and {id(variable) for variable in extractor.variables} <= ours
    image = photo(20, 20)
    np.testing.assert_array_equal(extractor.preprocess(image), model.preprocess(image))
    assert extractor.load_report is model.load_report
    assert FeatureExtractor.from_config(extractor.get_config()).get_config() == extractor.get_config()


@pytest.mark.parametrize("stages", [["stage9"], [], "stage1", ["stage1", "pool"]])
def test_unknown_stages_are_refused_with_those_there_are(model: ImageClassifier, stages: Any) -> None:
    with pytest.raises(InputError, match="stem, stage1, stage2, stage3, reduction, covariance, representation, logits"):
        FeatureExtractor(model, stages)


def test_configuration_survives_json_and_builds_the_same_network(model: ImageClassifier) -> None:
    config = model.get_config()
    rebuilt = ImageClassifier.from_config(config)
    assert rebuilt.get_config() == config == model.get_config()  # and the argument was not changed
    assert list(rebuilt.named_variables()) == list(model.named_variables())
    rebuilt.set_weights(model.get_weights())
    x = networks.images(model)
    np.testing.assert_array_equal(rebuilt(x), model(x))


def test_variables_are_named_by_part_layer_and_kind(model: ImageClassifier) -> None:
    named = model.named_variables()
    assert {id(variable) for variable in named.values()} == {id(variable) for variable in model.weights}
    assert "features/stage1_block1_conv1/kernel" in named
    assert named["classifier/logits/kernel"] is model.classifier.get_layer("logits").kernel
    assert model.load_report.fresh == tuple(named)


def test_parameters_are_counted_by_kind_of_variable() -> None:
    """By hand: 3x3 convolutions, 1x1 projections, scales and shifts of a ResNet-20, the reduction, 2080 x 10 + 10."""
    network = networks.bare("mpncov_cifar_resnet20", 10, (28, 28, 1))
    network.features.trainable = False
    stem = 9 * 1 * 16 + 2 * 16
    stages = [
        6 * (9 * 16 * 16 + 2 * 16),
        9 * 16 * 32 + 5 * 9 * 32 * 32 + 6 * 2 * 32 + (16 * 32 + 2 * 32),
        9 * 32 * 64 + 5 * 9 * 64 * 64 + 6 * 2 * 64 + (32 * 64 + 2 * 64),
    ]
    head = 64 * 64 + 2 * 64 + (64 * 65 // 2) * 10 + 10
    assert network.num_parameters == stem + sum(stages) + head == 296_570


def test_hash_tables_are_no_parameters() -> None:
    network = networks.tiny(representation="cbp", options={"features": {"repeats": 1}})
    assert {"representation/cbp/bins", "representation/cbp/signs"} <= set(network.named_variables())
    assert network.num_parameters == networks.parameters(network)


def test_clone_and_keras_file_of_a_part_built_without_initialization(tmp_path: Path) -> None:
    """The configuration of every layer holds the random initializer, not the one that was skipped."""
    network = networks.bare("mpncov_cifar_resnet20", 10, (8, 8, 3))
    networks.randomize(network)
    names = {"features": "stage2_block1_conv2", "classifier": "logits"}
    for part, name in names.items():
        model = getattr(network, part)
        model.save(tmp_path / f"{part}.keras")
        reloaded = keras.models.load_model(tmp_path / f"{part}.keras")
        assert type(reloaded.get_layer(name).kernel_initializer) is keras.initializers.VarianceScaling
        for ours, theirs in zip(model.weights, reloaded.weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        layer = keras.models.clone_model(model).get_layer(name)
        spread = 1 / np.sqrt(3 * 2080) if name == "logits" else np.sqrt(2 / (9 * 32))
        drawn = [np.asarray(layer.kernel), np.asarray(model.get_layer(name).kernel_initializer(layer.kernel.shape))]
        assert [kernel.std() for kernel in drawn] == pytest.approx([spread, spread], rel=0.1)
        assert (drawn[0] != drawn[1]).any()


def test_hidden_layers_stay_in_float32_under_mixed_precision() -> None:
    with precision("mixed_float16"):
        options = {"features": {"repeats": (1, 1, 1, 1, 1)}, "classifier": {"hidden": (8,)}}
        network = mpncov_zoo.build("vgg16", num_classes=2, input_shape=(32, 32, 3), options=options)
    assert {layer.compute_dtype for layer in network.classifier.layers[1:]} == {"float32"}
    assert network.features.get_layer("stage1_conv1").compute_dtype == "float16"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": -1}, "-1"),
        ({"num_classes": True}, "True"),
        ({"num_classes": 2.0}, "2.0"),
        ({"input_shape": (12, 12)}, r"\(12, 12\)"),
        ({"input_shape": (12, 12, None)}, "None"),
        ({"labels": ("a", "b")}, "2 labels"),
    ],
)
def test_constructor_refuses(model: ImageClassifier, changes: dict[str, Any], message: str) -> None:
    arguments = {"num_classes": 5, "input_shape": (12, 12, 3), "input_specification": model.input_specification}
    with pytest.raises(InputError, match=message):
        ImageClassifier(model.architecture, **{**arguments, **changes})


def test_report_counts_and_names_the_parts() -> None:
    report = LoadReport(
        weights="net.tag",
        source="/there",
        trust="verified",
        loaded=("features/a/kernel", "features/b/kernel"),
        fresh=("classifier/logits/kernel",),
        unused=("classifier/logits/kernel", "classifier/logits/bias"),
    )
    assert str(report) == (
        "net.tag: 2 variables loaded from /there, verified, 1 left fresh (classifier), 2 not used (classifier)"
    )
    assert str(LoadReport(fresh=("a/b",))) == "no pretrained weights: 1 variables freshly initialised"


# --- freezing ---------------------------------------------------------------------------------------------------------


def learning(model: ImageClassifier) -> set[str]:
    return {name.rpartition("/")[0] for name, variable in model.named_variables().items() if variable.trainable}


def test_freezing_keeps_a_stage_and_all_before_it() -> None:
    """One stage after another, back and forth: what was frozen before does not count."""
    model = networks.tiny()
    everything = learning(model)
    trunk = {name for name in everything if name.startswith("features/")}
    early = {"features/stem_conv", "features/stem_bn"} | {name for name in trunk if name.startswith("features/stage1_")}
    for stage, frozen in (
        ("stage1", early), ("features", trunk), (None, set()), ("stem", {"features/stem_conv", "features/stem_bn"}),
        ("representation", everything - {"classifier/logits"}), ("stage1", early), (None, set()),
    ):  # fmt: skip
        model.freeze(stage)
        assert everything - learning(model) == frozen, stage
        assert len(model.trainable_variables) == sum(v.trainable for v in model.named_variables().values())


def test_a_frozen_stage_stays_and_the_rest_learns() -> None:
    model = networks.tiny()
    model.freeze("stage1")
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = {name: v.numpy() for name, v in model.named_variables().items()}
    model.train_on_batch(np.random.default_rng(0).normal(size=(4, *model.input_shape[1:])), np.array([0, 1, 2, 3]))
    changed = {name for name, v in model.named_variables().items() if (v.numpy() != before[name]).any()}
    kept = [name for name in before if name.startswith(("features/stem", "features/stage1"))]
    assert not changed & set(kept) and {"features/stem_bn/moving_mean", "features/stage1_block1_conv1/kernel"} <= set(
        kept
    )
    assert {"features/stage2_block1_conv1/kernel", "features/stage3_block1_bn2/moving_variance"} <= changed


def test_an_unknown_stage_is_refused() -> None:
    with pytest.raises(InputError, match=r"can be frozen up to stem, stage1, .*, features, .*Received: 'stage9'"):
        networks.tiny().freeze("stage9")


@pytest.mark.parametrize(
    ("name", "size", "least"),
    [("mpncov_resnet18", 16, 17), ("mpncov_efficientnet_lite0", 32, 33), ("mpncov_vgg16_bn", 16, 32)],
)
def test_images_that_leave_one_position_are_refused_for_a_covariance(name: str, size: int, least: int) -> None:
    small = {"mpncov_resnet18": (1, 1, 1, 1), "mpncov_vgg16_bn": (1, 1, 1, 1, 1)}
    options = {"features": {"repeats": small[name]}} if name in small else {}
    with pytest.raises(
        InputError, match=rf"^{name} .*1x1 positions .*{size}x{size}.*square images are {least}x{least}\.$"
    ):
        mpncov_zoo.build(name, num_classes=2, input_shape=(size, size, 3), options=options)
    assert mpncov_zoo.build(name, num_classes=2, input_shape=(least, least, 3), options=options).output_shape == (
        None,
        2,
    )


def test_one_position_of_a_network_for_any_size_is_refused_when_it_is_called() -> None:
    network = networks.tiny(input_shape=(None, None, 3))
    tiny = np.ones((1, 2, 2, 3), np.float32)
    for call in (network, lambda x: network.predict(x, verbose=0)):
        with pytest.raises(InputError, match="needs at least 2 positions"):
            call(tiny)
    graph = tf.function(lambda x: network(x), input_signature=[tf.TensorSpec((None, None, None, 3))])
    with pytest.raises(tf.errors.InvalidArgumentError, match="needs at least 2 positions"):
        graph(tiny)
    assert np.isfinite(graph(np.ones((1, 3, 2, 3), np.float32))).all()


def test_labels_are_counted_when_they_are_set(model: ImageClassifier) -> None:
    network = networks.tiny(num_classes=2)
    for labels in (["cat", "dog"], ("cat", "dog"), np.array(["cat", "dog"])):
        network.labels = labels
        assert network.labels == ("cat", "dog") and network.decode([[1.0, 0.0]], top=1)[0][0][0] == "cat"
    for labels, message in (
        (["cat"], "2 classes need as many labels. Received: 1 labels"),
        ({"cat": 0, "dog": 1}, "a list of names in the order of the logits. Received: {'cat'"),
        ({"cat", "dog"}, "a list of names in the order of the logits"),
        ("ab", "a list of names in the order of the logits. Received: 'ab'"),
        (7, "a list of names in the order of the logits. Received: 7"),
        ([0, 1], "labels must be texts. Received: 0, of type int"),
        (["a", None, "c", "d", "e"], "labels must be texts. Received: None, of type NoneType"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            network.labels = labels
    assert network.labels == ("cat", "dog")
    network.labels = None
    assert network.labels is None


def test_keras_file_keeps_what_is_frozen_and_the_optimizers_state(tmp_path: Path) -> None:
    network = networks.tiny(num_classes=3)
    network.freeze("stage2")
    network.representation.get_layer("reduction_bn").trainable = False
    network.compile(keras.optimizers.SGD(0.01, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(True))
    network.train_on_batch(networks.images(network, 6), np.arange(6) % 3)
    network.save(tmp_path / "frozen.keras")
    reloaded = keras.models.load_model(tmp_path / "frozen.keras")
    assert [v.path for v in reloaded.trainable_variables] == [v.path for v in network.trainable_variables]
    assert 0 < len(reloaded.trainable_variables) < len(networks.tiny(num_classes=3).trainable_variables)
    for ours, theirs in zip(network.optimizer.variables, reloaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert any(np.abs(v).max() > 0 for v in reloaded.optimizer.variables[2:])
    reloaded.freeze(None)
    assert len(reloaded.trainable_variables) == len(networks.tiny(num_classes=3).trainable_variables)


def test_no_reduction_is_none_or_0_as_recipes_say_it() -> None:
    networks_ = [
        mpncov_zoo.build(
            "mpncov_cifar_resnet20",
            num_classes=2,
            input_shape=(8, 8, 3),
            options={"features": {"repeats": 1}, "representation": {"dimension_reduction": reduction}},
        )
        for reduction in (None, 0)
    ]
    assert len({tuple(network.named_variables()) for network in networks_}) == 1
    assert "reduction" not in networks_[1].stages and networks_[1].representation.output_shape == (None, 2080)
