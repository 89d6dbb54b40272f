"""One line loads a network: what is loaded, what is adapted or left fresh, and every refusal."""

import json
import logging
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import mpncov_zoo
from mpncov_zoo import zoo
from mpncov_zoo.artifact import selftest
from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.errors import (
    FetchError,
    InputError,
    IntegrityError,
    ManifestError,
    NoPretrainedWeights,
    OfflineError,
    UnknownModel,
    ZooError,
)
from mpncov_zoo.hub.resolve import TRUST_MANIFEST, TRUST_OWN
from mpncov_zoo.manifest import WeightsEntry, load_manifest
from tests import networks
from tests.photos import encode, photo, photo_image

MODEL = "mpncov_cifar_resnet20"
WEIGHTS = f"{MODEL}.test"
BOOT = 9  # Fashion-MNIST's "Ankle boot"


@pytest.fixture(scope="module")
def directory(artifact_hub: Path) -> Path:
    return artifact_hub / WEIGHTS


@pytest.fixture(scope="module")
def stored(directory: Path) -> dict[str, np.ndarray]:
    """The checkpoint as TensorFlow reads it, under this package's names."""
    reader = tf.train.load_checkpoint(str(directory / "variables" / "variables"))
    keys = [key for key in reader.get_variable_to_shape_map() if key.startswith(("features", "repr", "classifier"))]
    return {key.partition("/.")[0].replace(".S", "/"): reader.get_tensor(key) for key in keys}


@pytest.fixture(scope="module")
def served(directory: Path) -> Any:
    """The artifact as a server runs it: its own graph, which `load` never looks at."""
    return tf.saved_model.load(str(directory)).signatures


def grey_images(height: int = 28, width: int = 28) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, (3, height, width, 1)).astype(np.float32)


def assert_loaded(model: ImageClassifier, stored: Mapping[str, np.ndarray], *, fresh: tuple[str, ...] = ()) -> None:
    """Variables of all parts but the fresh ones are the checkpoint's, and the report says the same."""
    report = model.load_report
    for name, value in networks.values(model).items():
        is_fresh = name.startswith(fresh)
        assert (name in report.fresh, name in report.loaded) == (is_fresh, not is_fresh)
        if not is_fresh:
            np.testing.assert_array_equal(value, stored[name])
    assert set(report.unused) == {name for name in stored if name.startswith(fresh)}


def copied(directory: Path, target: Path, **changes: Any) -> Path:
    """The artifact with other entries in its model.json."""
    shutil.copytree(directory, target)
    description = json.loads((target / "model.json").read_text())
    (target / "model.json").write_text(json.dumps({**description, **changes}))
    return target


@pytest.mark.parametrize(
    ("name", "pretrained"),
    [(MODEL, True), (MODEL, "test"), (WEIGHTS, False), (WEIGHTS, True), ("cifar_mpncovresnet20", True)],
)
def test_pretrained_network_computes_what_the_artifact_serves(
    artifact_hub: Path, stored: dict, served: Any, name: str, pretrained: bool | str
) -> None:
    model = mpncov_zoo.load(name, pretrained, hub=artifact_hub)
    assert_loaded(model, stored)
    x = grey_images()
    expected = served["serving_default"](images=tf.constant(x))
    np.testing.assert_allclose(model(x), expected["logits"], rtol=1e-5, atol=1e-5)


def test_artifact_directory_is_a_hub_of_one(directory: Path, stored: dict) -> None:
    """Given as a path or as text; `pretrained=True` takes its weights whatever their tag."""
    for hub in (directory, str(directory)):
        assert_loaded(mpncov_zoo.load(MODEL, pretrained=True, hub=hub), stored)


def test_image_to_label(artifact_hub: Path, served: Any) -> None:
    """A file of another size and colour, all the way, against the artifact's own preprocessing."""
    png = encode(photo_image(40, 30), "PNG")
    model = mpncov_zoo.load(MODEL, pretrained=True, hub=artifact_hub)
    ((label, probability),) = model.decode(model(model.preprocess(png)), top=1)[0]
    expected = served["from_bytes"](encoded=tf.constant([png]))["probabilities"].numpy()[0]
    assert model.labels is not None and model.labels[BOOT] == "Ankle boot"
    assert (label, probability) == (model.labels[int(expected.argmax())], pytest.approx(expected.max(), abs=1e-5))


def test_report_and_the_one_line_that_says_it(
    artifact_hub: Path, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="mpncov_zoo"):
        model = mpncov_zoo.load(MODEL, pretrained=True, num_classes=7, hub=artifact_hub)
    report = model.load_report
    assert (report.weights, report.source, report.trust) == (WEIGHTS, str(directory), TRUST_OWN)
    assert len(report.loaded) == len(model.weights) - 2
    assert set(report.fresh) == set(report.unused) == {"classifier/logits/kernel", "classifier/logits/bias"}
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("mpncov_zoo.zoo", "INFO")
    line = f"{WEIGHTS}: {len(report.loaded)} variables loaded from {directory}, {TRUST_OWN}"
    assert record.getMessage() == f"{MODEL}: {line}, 2 left fresh (classifier), 2 not used (classifier)"


def test_fresh_network_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="mpncov_zoo"):
        model = mpncov_zoo.load("cifar_resnet20", num_classes=3)
    assert model.load_report.weights is None and set(model.load_report.fresh) == set(model.named_variables())
    assert [record.getMessage() for record in caplog.records] == [
        f"cifar_resnet20: no pretrained weights: {len(model.weights)} variables freshly initialised"
    ]


def test_another_number_of_classes_gets_a_fresh_classifier(artifact_hub: Path, stored: dict) -> None:
    model = mpncov_zoo.load(MODEL, pretrained=True, num_classes=7, hub=artifact_hub)
    assert_loaded(model, stored, fresh=("classifier/",))
    assert model.labels is None and model(grey_images()).shape == (3, 7)
    kernel = model.named_variables()["classifier/logits/kernel"].numpy()
    limit = 1 / np.sqrt(kernel.shape[0])  # drawn as torch.nn.Linear draws it, not left undefined
    assert 0.9 * limit < np.abs(kernel).max() <= limit


def test_published_number_of_classes_keeps_the_classifier(artifact_hub: Path, stored: dict) -> None:
    model = mpncov_zoo.load(MODEL, pretrained=True, num_classes=10, hub=artifact_hub)
    assert_loaded(model, stored)
    assert model.labels is not None


def test_no_classes_is_the_representation_that_the_artifact_serves(
    artifact_hub: Path, stored: dict, served: Any
) -> None:
    model = mpncov_zoo.load(MODEL, pretrained=True, num_classes=0, hub=artifact_hub)
    assert_loaded(model, stored, fresh=("classifier/",))
    x = grey_images()
    expected = served["features"](images=tf.constant(x))["representation"]
    np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("representation", ["gap", "bcnn"])
def test_another_representation_is_fresh_and_the_trunk_is_loaded(
    artifact_hub: Path, stored: dict, representation: str
) -> None:
    """The artifact's trunk has options of its own (one block a stage), which stay."""
    model = mpncov_zoo.load(MODEL, pretrained=True, representation=representation, hub=artifact_hub)
    assert_loaded(model, stored, fresh=("representation/", "classifier/"))
    assert model.architecture.representation == representation and model.labels is None
    x = grey_images()
    published = mpncov_zoo.load(MODEL, pretrained=True, hub=artifact_hub)
    np.testing.assert_array_equal(model.features(x), published.features(x))
    assert np.isfinite(model(x)).all()


def test_own_representation_by_name_changes_nothing(artifact_hub: Path, stored: dict) -> None:
    assert_loaded(mpncov_zoo.load(MODEL, pretrained=True, representation="mpncov", hub=artifact_hub), stored)


def test_any_image_size(artifact_hub: Path, stored: dict, served: Any) -> None:
    model = mpncov_zoo.load(MODEL, pretrained=True, input_shape=(None, None, 1), hub=artifact_hub)
    assert_loaded(model, stored)
    x = grey_images()
    expected = served["serving_default"](images=tf.constant(x))
    np.testing.assert_allclose(model(x), expected["logits"], rtol=1e-4, atol=1e-4)
    larger = mpncov_zoo.load(MODEL, pretrained=True, input_shape=[35, 22, 1], hub=artifact_hub)
    np.testing.assert_allclose(model(grey_images(35, 22)), larger(grey_images(35, 22)), rtol=1e-4, atol=1e-4)
    image = photo(50, 60, 1)
    assert model.preprocess(image).shape == (1, 28, 28, 1)  # unknown sizes: the published one
    assert larger.preprocess(image).shape == (1, 35, 22, 1)


def test_feature_extractor_by_name_is_pretrained(artifact_hub: Path, served: Any) -> None:
    extract = mpncov_zoo.feature_extractor(MODEL, ["covariance", "representation"], hub=artifact_hub)
    assert extract.load_report.weights == WEIGHTS
    x = grey_images()
    expected = served["features"](images=tf.constant(x))
    assert list(extract(x)) == ["covariance", "representation"]
    for name, value in extract(x).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-5)


def test_feature_extractor_of_a_model_shares_it(artifact_hub: Path) -> None:
    model = mpncov_zoo.load(MODEL, pretrained=True, hub=artifact_hub)
    extract = mpncov_zoo.feature_extractor(model, ["logits"])
    model.named_variables()["classifier/logits/bias"].assign(np.arange(10))
    x = grey_images()
    np.testing.assert_array_equal(extract(x)["logits"], model(x))


def test_feature_extractor_passes_its_arguments_on(artifact_hub: Path) -> None:
    extract = mpncov_zoo.feature_extractor(
        MODEL, ["stage3", "representation"], input_shape=(None, None, 1), representation="gap", hub=artifact_hub
    )
    outputs = extract(grey_images(20, 24))
    np.testing.assert_allclose(outputs["representation"], np.mean(outputs["stage3"], (1, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"hub": "/nowhere"}, {"offline": False}, {"pretrained": "test"}, {"representation": "gap"}, {"cache_dir": "."}],
)
def test_feature_extractor_of_a_model_loads_nothing(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="is a network already"):
        mpncov_zoo.feature_extractor(networks.tiny(), ["logits"], **options)


@pytest.mark.parametrize("entry", [e for e in load_manifest().entries if e.files], ids=lambda entry: entry.name)
def test_bundled_weights_load_without_a_hub_and_pass_their_selftest(entry: WeightsEntry) -> None:
    """The record was made on the machine that trained them."""
    model = mpncov_zoo.load(entry.name)
    assert (model.load_report.weights, model.load_report.trust) == (entry.name, TRUST_MANIFEST)
    assert not model.load_report.fresh and not model.load_report.unused
    assert networks.parameters(model) == entry.parameters
    errors = selftest.differences(model, Path(model.load_report.source or ""))
    assert max(errors.values()) < 1e-4


def test_build_takes_the_published_sizes() -> None:
    model = mpncov_zoo.build("cifar_resnet20")
    assert (model.input_shape, model.output_shape) == ((None, 32, 32, 3), (None, 100))
    assert model.input_specification.size == (32, 32)


REFUSALS: dict[str, tuple[dict[str, Any], type[ZooError], str]] = {
    "no such model": ({"name": "mpncov_cifar_resnet21"}, UnknownModel, "mpncov_cifar_resnet20"),
    "no weights at all": ({"name": "resnet26"}, NoPretrainedWeights, "'resnet26'.*allowed: none"),
    "no such tag": ({"name": "mpncov_resnet50.cub"}, NoPretrainedWeights, "imagenet_pytorch, imagenet_tensorflow"),
    "no place for a cache": (
        {"name": f"{MODEL}.fashion_mnist", "hub": "http://127.0.0.1:1/hub", "cache_dir": "/dev/null"},
        FetchError,
        "the cache /dev/null cannot be written: Not a directory.*MPNCOV_ZOO_CACHE",
    ),
    "a hub that is away": (
        {"hub": "http://127.0.0.1:1/hub"},
        FetchError,
        "^http://127.0.0.1:1/hub/.*cannot be reached",
    ),
    "a home of nobody": (
        {"hub": "~nobody-of-this-name/hub"},
        FetchError,
        "~nobody-of-this-name/hub: no such directory",
    ),
    "an empty hub": ({"hub": ""}, InputError, "hub is empty"),
    "offline": ({"hub": "https://example.org", "offline": True}, OfflineError, "cache prefetch"),
    "a branch": ({"hub": "hf:org/repo@main"}, InputError, "40 hex digits, got main"),
    "no such directory": ({"hub": "/nowhere"}, FetchError, "/nowhere: no such directory"),
    "two tags": ({"name": WEIGHTS, "pretrained": "other"}, InputError, "different weights"),
    "hub without weights": ({"pretrained": False, "hub": "/nowhere"}, InputError, "pretrained=True"),
    "pretrained=None": ({"pretrained": None}, InputError, "None"),
}


def test_weights_that_only_the_sites_hub_has(artifact_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPNCOV_ZOO_HUB", str(artifact_hub))
    assert mpncov_zoo.load(WEIGHTS).load_report.trust == TRUST_OWN


@pytest.mark.parametrize("refusal", REFUSALS)
def test_refusals_build_no_network(refusal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights never stand in for pretrained ones: nothing is even built."""
    arguments, error, message = REFUSALS[refusal]

    def built(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a network was built")

    monkeypatch.setattr(zoo, "ImageClassifier", built)
    monkeypatch.setattr("mpncov_zoo.pretrained.ImageClassifier", built)
    with pytest.raises(error, match=message) as caught:
        mpncov_zoo.load(**{"name": MODEL, "pretrained": True, **arguments})
    assert str(caught.value).count("\n") <= 1


@pytest.mark.parametrize(
    ("name", "tag", "message"),
    [
        ("cifar_resnet20", True, f"no weights of 'cifar_resnet20'. It holds: {WEIGHTS}"),
        (MODEL, "fashion_mnist", "Received: tag 'fashion_mnist'; allowed: test"),
    ],
)
def test_hub_without_the_weights_asked_for(artifact_hub: Path, name: str, tag: bool | str, message: str) -> None:
    with pytest.raises(NoPretrainedWeights, match=message):
        mpncov_zoo.load(name, pretrained=tag, hub=artifact_hub)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shape": (28, 28, 3)}, "takes images of 1 channels. Received: 3"),
        ({"input_shape": (28, 28)}, r"input_shape.*\(28, 28\)"),
        ({"input_shape": (0, 28, 1)}, r"input_shape.*\(0, 28, 1\)"),
        ({"input_shape": (28.0, 28, 1)}, r"input_shape.*28\.0"),
        ({"input_shape": 28}, "input_shape.*28"),
        ({"num_classes": -1}, "num_classes.*-1"),
        ({"num_classes": "10"}, "num_classes.*'10'"),
        ({"representation": "vlad"}, "'vlad'.*'mpncov'"),
    ],
)
def test_arguments_that_do_not_fit_the_weights(artifact_hub: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        mpncov_zoo.load(MODEL, pretrained=True, hub=artifact_hub, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shape": (32, 32, 2)}, "3 channels .RGB. or 1"),
        ({"input_shape": (32, 32)}, "input_shape"),
        ({"options": {"head": {}}}, "'head'"),
        ({"representation": "vlad"}, "'vlad'"),
        ({"options": {"features": {"magic": 1}}}, "cifar_resnet20 cannot be built with options.*'magic'"),
        ({"options": {"features": {"block": "cube"}}}, "cannot be built.*cube"),
        ({"options": {"features": {"repeats": "three"}}}, "cannot be built.*three"),
        ({"options": {"features": {"repeats": [3, 4]}}}, "cannot be built"),
        ({"options": {"classifier": {"hidden": 5}}}, "cannot be built.*not iterable"),
        (
            {"representation": "mpncov", "options": {"representation": {"dimension_reduction": -1}}},
            "mpncov_cifar_resnet20 cannot be built.*dimension_reduction.*-1",
        ),
    ],
)
def test_build_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        mpncov_zoo.build("cifar_resnet20", **options)
    assert "\n" not in str(caught.value)


def test_tampered_file_is_refused_before_tensorflow_sees_it(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("TensorFlow was given the file")

    monkeypatch.setattr(tf.train, "load_checkpoint", opened)
    shutil.copytree(directory, tmp_path / WEIGHTS)
    data = tmp_path / WEIGHTS / "variables" / "variables.data-00000-of-00001"
    content = data.read_bytes()
    data.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=r"variables\.data-00000-of-00001.*sha256"):
        mpncov_zoo.load(MODEL, pretrained=True, hub=tmp_path)


def described(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "model.json").read_text())["architecture"]


def test_description_of_a_deeper_network_is_not_the_checkpoints(directory: Path, tmp_path: Path) -> None:
    architecture = described(directory)
    architecture["features_options"]["repeats"] = 2
    hub = copied(directory, tmp_path / WEIGHTS, architecture=architecture)
    with pytest.raises(IntegrityError, match=r"another network; missing: .*stage1_block2"):
        mpncov_zoo.load(MODEL, pretrained=True, hub=hub)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "resnet_of_the_future"}, "resnet_of_the_future"),
        ({"backbone": "resnet18"}, "resnet18"),
        ({"backbone": ["resnet18"]}, "resnet18"),
        ({"name": "mpncov_cifar_resnet32"}, "model is 'mpncov_cifar_resnet20'.*'mpncov_cifar_resnet32'"),
        ({"features_options": {"magic": 1}}, "magic"),
        ({"features_options": {"block": "basic", "repeats": [3, 4]}}, "cannot be built"),
        ({"features_options": [3]}, "features_options must be a mapping"),
        ({"representation": "vlad"}, "vlad"),
        ({"representation_options": {"dimension_reduction": -1}}, "dimension_reduction.*-1"),
        ({"colour": 1}, "colour"),
        ({"input_shape": [28, 28, 3]}, "1 channels"),
        ({"input_shape": [28, 28]}, r"\[28, 28\]"),
        ({"input_shape": "28x28x1"}, "28x28x1"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"num_classes": 7, "input_shape": (None, None, 1)}], ids=["as is", "adapted"])
def test_description_of_no_known_network(
    directory: Path, tmp_path: Path, changes: dict[str, Any], message: str, options: dict[str, Any]
) -> None:
    """Whatever else the caller asks for, it is the file's fault."""
    hub = copied(directory, tmp_path / WEIGHTS, architecture={**described(directory), **changes})
    pattern = rf"{WEIGHTS}/model\.json describes no network that this version.*{message}"
    with pytest.raises(ManifestError, match=pattern) as caught:
        mpncov_zoo.load(MODEL, pretrained=True, hub=hub, **options)
    assert str(caught.value).count("\n") <= 1


def test_description_without_an_architecture_or_with_another_number_of_labels(directory: Path, tmp_path: Path) -> None:
    hub = copied(directory, tmp_path / "classes" / WEIGHTS, num_classes=9)
    with pytest.raises(ManifestError, match=r"model\.json: num_classes is 9, but assets/labels\.txt has 10 labels"):
        mpncov_zoo.load(MODEL, pretrained=True, hub=hub)
    hub = copied(directory, tmp_path / "empty" / WEIGHTS, architecture={})
    with pytest.raises(ManifestError, match="input_shape"):
        mpncov_zoo.load(MODEL, pretrained=True, hub=hub)


@pytest.mark.parametrize("floatx", ["float16", "float64"])
def test_weights_of_another_type_are_named_and_not_the_artifact(floatx: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keras.config.floatx", lambda: floatx)
    for pretrained in (True, False):
        with pytest.raises(
            InputError, match=rf"floatx '{floatx}': set it to float32 there, or keras\.config\.set_floatx"
        ):
            mpncov_zoo.load(MODEL, pretrained=pretrained)


def test_the_other_layout_of_images_is_named_and_not_the_artifact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keras.config.image_data_format", lambda: "channels_first")
    with pytest.raises(InputError, match=r"'channels_first': keras\.config\.set_image_data_format\('channels_last'\)"):
        mpncov_zoo.load(MODEL, pretrained=True)


def test_another_representation_warns_that_the_classifier_is_fresh(
    artifact_hub: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load = partial(mpncov_zoo.load, f"{MODEL}.test", hub=artifact_hub, representation="cbp")
    load(num_classes=0)  # whose hash tables are drawn, the same in every network
    load(num_classes=4)  # which asks for a fresh classifier
    assert "fresh: random" not in caplog.text
    load()
    assert "only the trunk is pretrained" in caplog.text and "classifier is fresh: random values" in caplog.text
