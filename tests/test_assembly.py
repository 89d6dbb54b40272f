"""Networks whose representation stands on stages of the trunk: what they compute, keep, and refuse."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import mpncov_zoo
from mpncov_zoo import artifact
from mpncov_zoo.classifier import FeatureExtractor, ImageClassifier
from mpncov_zoo.errors import InputError
from mpncov_zoo.representations.covariance import isqrt_covariance
from tests import networks

SHALLOW = {"features": {"repeats": 1}}
STAGES = ["stage2", "stage3"]  # of 32 and 64 channels
SIZE = 24


def build(representation: str = "mpncov", stages: Any = (), **changes: Any) -> ImageClassifier:
    shape = {"num_classes": 5, "input_shape": (SIZE, SIZE, 3), "options": SHALLOW}
    model = mpncov_zoo.build("cifar_resnet20", representation=representation, stages=stages, **{**shape, **changes})
    networks.randomize(model)
    return model


@pytest.fixture(scope="module")
def model() -> ImageClassifier:
    return build(stages=STAGES)


@pytest.fixture(scope="module")
def directory(model: ImageClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("staged") / "mpncov_cifar_resnet20.toy"
    artifact.write(model, path, tag="toy", provenance={}, labels=list("abcde"))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of the first-order network, the trunk with its end."""
    path = tmp_path_factory.mktemp("whole") / "cifar_resnet20.toy"
    artifact.write(build("gap"), path, tag="toy", provenance={}, labels=list("abcde"))
    return path


def stage_values(model: ImageClassifier, names: list[str], x: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in FeatureExtractor(model, names)(x).items()}


def test_each_stage_has_its_own_covariance_and_the_vectors_are_joined(model: ImageClassifier) -> None:
    x = networks.images(model)
    covariances = [f"covariance_{stage}" for stage in STAGES]
    values = stage_values(model, [*STAGES, *covariances, "representation"], x)
    assert model.stages[-1] == "logits" and not any("reduction" in name for name in model.stages)
    vectors = []
    for stage, name in zip(STAGES, covariances, strict=True):
        root = isqrt_covariance(tf.constant(values[stage])).numpy()
        np.testing.assert_allclose(values[name], root, rtol=1e-5, atol=1e-6)
        vectors.append(root[:, *np.triu_indices(root.shape[1])])
    np.testing.assert_allclose(values["representation"], np.concatenate(vectors, axis=1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("representation", "length"), [("gap", 32 + 64), ("bcnn", 32**2 + 64**2), ("cbp", 2 * 100), ("flatten", 4 * 96)]
)
def test_any_representation_stands_on_stages(representation: str, length: int) -> None:
    special = {"cbp": {"dimension": 100}, "flatten": {"size": 2}}
    options = {**SHALLOW, "representation": special.get(representation, {})}
    model = build(representation, STAGES, options=options)
    x = networks.images(model)
    values = stage_values(model, [*(f"representation_{stage}" for stage in STAGES), "representation"], x)
    *vectors, joined = values.values()
    np.testing.assert_array_equal(np.concatenate(vectors, axis=1), joined)
    assert joined.shape == (2, length)


def test_vectors_are_normalised_one_by_one_if_asked_for() -> None:
    plain, normalised = (
        build(stages=STAGES, options={**SHALLOW, "representation": {"l2_normalize": flag}}) for flag in (False, True)
    )
    x = networks.images(plain)
    names = [f"representation_{stage}" for stage in STAGES]
    before, after = (stage_values(model, names, x) for model in (plain, normalised))
    for name in names:
        unit = before[name] / np.linalg.norm(before[name], axis=1, keepdims=True)
        np.testing.assert_allclose(after[name], unit, rtol=1e-5, atol=1e-7)


def test_a_reduction_is_there_if_asked_for() -> None:
    model = build(stages=STAGES, options={**SHALLOW, "representation": {"dimension_reduction": 8}})
    assert model.representation.output_shape == (None, 2 * 36)
    assert {"reduction_stage2", "reduction_stage3"} <= {*model.stages}


def test_the_trunk_ends_with_the_last_stage() -> None:
    model = build(stages=["stage2"])
    assert model.stages == ("stem", "stage1", "stage2", "covariance_stage2", "representation", "logits")
    assert not any("stage3" in name for name in model.named_variables())
    assert model.behind_stages == {name for name in build().named_variables() if name.startswith("features/stage3")}


def test_it_is_reloaded_from_every_form(model: ImageClassifier, directory: Path, tmp_path: Path) -> None:
    x = networks.images(model)
    logits = model(x).numpy()
    loaded = mpncov_zoo.load(directory)
    assert loaded.architecture == model.architecture and loaded.architecture.stages == tuple(STAGES)
    np.testing.assert_array_equal(loaded(x), logits)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(x), logits)
    served = tf.saved_model.load(str(directory))
    np.testing.assert_allclose(served(x), logits, rtol=1e-5, atol=1e-5)
    features = served.signatures["features"](tf.constant(x))
    assert {"covariance_stage2", "covariance_stage3", "representation"} <= {*features}


def test_pretrained_weights_of_the_trunk_up_to_the_stage(whole: Path) -> None:
    trunk = mpncov_zoo.load(whole)
    model = mpncov_zoo.load(whole, representation="mpncov", stages=["stage2"], num_classes=3)
    x = networks.images(model)
    np.testing.assert_array_equal(
        stage_values(model, ["stage2"], x)["stage2"], stage_values(trunk, ["stage2"], x)["stage2"]
    )
    report = model.load_report
    assert {name.split("/")[0] for name in report.fresh} == {"classifier"}
    assert {*report.loaded} == {name for name in model.named_variables() if name.startswith("features/")}
    assert {*report.unused} == {*model.behind_stages, "classifier/logits/kernel", "classifier/logits/bias"}


def test_fewer_stages_of_an_artifact_and_none_behind_it(model: ImageClassifier, directory: Path) -> None:
    first = mpncov_zoo.load(directory, stages=["stage2"])
    x = networks.images(model)
    np.testing.assert_array_equal(
        stage_values(first, ["stage2"], x)["stage2"], stage_values(model, ["stage2"], x)["stage2"]
    )
    path = directory.parent / "short"
    artifact.write(build("gap", ["stage2"]), path, tag="short", provenance={}, labels=list("abcde"))
    for stages in (["stage3"], []):
        with pytest.raises(InputError, match=r"holds the trunk up to stage2\. Received: stages="):
            mpncov_zoo.load(path, stages=stages)


@pytest.mark.parametrize("stage", ["stage2", "features", "covariance_stage2"])
def test_it_is_frozen_up_to_a_stage(model: ImageClassifier, stage: str) -> None:
    with model.keeping_flags():
        model.freeze(stage)
        learning = {name.split("/")[0] for name, v in model.named_variables().items() if v.trainable}
        assert "classifier" in learning
        assert not any(v.trainable for name, v in model.named_variables().items() if "stage1" in name)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (["stage9"], "The trunk has the stages stem, stage1, stage2, stage3. Received: stage9."),
        ("stage2", r"stages must be a list of different names, such as \['stage5'\]. Received: 'stage2'."),
        (["stage2", "stage2"], "stages must be a list of different names"),
        ([2], "stages must be a list of different names"),
    ],
)
def test_stages_that_make_no_network(stages: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(stages=stages)


def test_each_stage_needs_its_positions() -> None:
    with pytest.raises(
        InputError, match=r"features of 1x1 positions from images of 2x2.* smallest square images are 3x3"
    ):
        build(stages=["stage1", "stage3"], input_shape=(2, 2, 3))


def test_suffixes_are_no_option() -> None:
    with pytest.raises(InputError, match="suffix"):
        build(options={**SHALLOW, "representation": {"suffix": "x"}})
