"""Write a network, read it in every way that the format promises, and refuse every damaged one as a whole."""

import errno
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import mpncov_zoo
from mpncov_zoo import artifact
from mpncov_zoo.architectures import PARTS
from mpncov_zoo.artifact import selftest, writer
from mpncov_zoo.artifact.reader import assign_weights, read_labels, stored_weights
from mpncov_zoo.assembly import precision
from mpncov_zoo.classifier import FeatureExtractor, ImageClassifier
from mpncov_zoo.description import Metric, parse_description
from mpncov_zoo.errors import InputError, IntegrityError, ManifestError
from mpncov_zoo.hub.verification import verify_files
from tests import networks
from tests.photos import encode, photo
from tests.stored import KEY_SUFFIX, key, read_tensors, write_tensors

LABELS = ("ant", "naïve bee", "cat\u2028tail", "", "eel ☕")
RANDOM_STATE = "random_state.S0"  # of dropout, for the trace with training=True
METRIC = Metric(name="top-1 accuracy", value=94.5, dataset="toys", split="test", origin="paper")
MOMENTUM = 0.9
pytestmark = pytest.mark.usefixtures("plain_graphs")


@pytest.fixture(scope="module")
def model() -> ImageClassifier:
    network = networks.tiny()
    network.labels = LABELS
    return network


@pytest.fixture(scope="module")
def directory(model: ImageClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hub") / "mpncov_cifar_resnet20.toy"
    artifact.write(model, path, tag="toy", provenance={"kind": "test"}, metrics=[METRIC])
    return path


@pytest.fixture(scope="module")
def loaded(directory: Path) -> Any:
    return tf.saved_model.load(str(directory))


def rewritten(directory: Path, target: Path, change: Callable[[dict[str, np.ndarray]], Any]) -> Path:
    """A copy of only the checkpoint, changed."""
    tensors = read_tensors(directory)
    change(tensors)
    write_tensors(target, tensors)
    return target


def outputs(signature: Any, **inputs: Any) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in signature(**inputs).items()}


def test_checkpoint_holds_every_variable_once_under_its_name(model: ImageClassifier, directory: Path) -> None:
    stored = read_tensors(directory)
    named = networks.values(model)
    assert set(stored) == {key(name) for name in named} | {RANDOM_STATE + KEY_SUFFIX}
    for name, value in named.items():
        assert stored[key(name)].dtype == np.float32
        np.testing.assert_array_equal(stored[key(name)], value)


def test_without_tensorflow(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where Keras runs on JAX or PyTorch."""
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(InputError, match="needs TensorFlow: pip install tensorflow"):
        stored_weights(directory)


def test_size_is_that_of_the_parameters(model: ImageClassifier, directory: Path) -> None:
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    assert size <= 4 * networks.parameters(model) * 1.05 + 2_000_000
    data = (directory / "variables" / "variables.data-00000-of-00001").stat().st_size
    assert data <= 4 * sum(value.size for value in networks.values(model).values()) + 20_000


def test_directory_is_complete_and_describes_itself(model: ImageClassifier, directory: Path) -> None:
    description = parse_description(directory / "model.json")
    assert {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()} == {
        "model.json", "saved_model.pb", "fingerprint.pb", "selftest.npz", "assets/labels.txt",
        "variables/variables.index", "variables/variables.data-00000-of-00001",
    }  # fmt: skip
    verify_files(directory, description.files, ignore=("model.json",))
    assert (description.name, description.num_classes) == ("mpncov_cifar_resnet20.toy", 5)
    assert description.parameters == networks.parameters(model)
    assert description.input == model.input_specification
    assert (description.provenance, description.metrics) == ({"kind": "test"}, [METRIC])
    assert description.versions["tensorflow"] == tf.__version__
    assert oct(directory.stat().st_mode & 0o777) == "0o755"
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]


def test_labels_survive(directory: Path) -> None:
    """Also an empty one, and one with a character that Python's splitlines takes for an end of line."""
    assert read_labels(directory, parse_description(directory / "model.json")) == LABELS


def test_a_network_that_computes_nothing_finite_is_not_written(tmp_path: Path) -> None:
    model = networks.tiny(num_classes=2)
    for variable in model.learned_variables().values():
        variable.assign(np.full(variable.shape, 1e30, np.float32))
    with pytest.raises(InputError, match="is not finite, first in "):
        artifact.write(model, tmp_path / "broken", tag="broken", provenance={})
    assert not any(tmp_path.iterdir())


def test_labels_are_given_or_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer, "_write_saved_model", write_labels)
    network = networks.tiny(num_classes=2)
    artifact.write(network, tmp_path / "named", tag="a", provenance={}, labels=["cat", "dog"])
    description = parse_description(tmp_path / "named" / "model.json")
    assert read_labels(tmp_path / "named", description) == ("cat", "dog") and network.labels is None
    assert not caplog.records
    artifact.write(network, tmp_path / "nameless", tag="b", provenance={})
    assert [r.getMessage() for r in caplog.records] == [
        f"{tmp_path}/nameless: the classes have no names (labels= gives them to write, --labels to convert)"
    ]
    with pytest.raises(InputError, match=r"2 classes need as many labels\. Received: 1 labels"):
        artifact.write(network, tmp_path / "short", tag="c", provenance={}, labels=["cat"])


def test_labels_that_are_not_the_networks(directory: Path, tmp_path: Path) -> None:
    description = parse_description(directory / "model.json")
    path = tmp_path / "assets" / "labels.txt"
    path.parent.mkdir()
    path.write_bytes(b"a\nb\nc\nd\n")
    with pytest.raises(ManifestError, match=r"model\.json: num_classes is 5, but assets/labels\.txt has 4 labels"):
        read_labels(tmp_path, description)
    path.write_bytes("naïve\n".encode("latin-1"))
    with pytest.raises(ManifestError, match=r"labels\.txt: not UTF-8"):
        read_labels(tmp_path, description)


def test_saved_model_is_callable_and_reusable(model: ImageClassifier, loaded: Any) -> None:
    x = networks.images(model, batch=3)
    np.testing.assert_allclose(loaded(x), model(x), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(loaded(x, training=False), model(x), rtol=1e-5, atol=1e-5)
    shapes = sorted(tuple(variable.shape) for variable in loaded.variables)
    assert shapes == sorted(tuple(variable.shape) for variable in model.weights)
    assert len(loaded.trainable_variables) == len(model.trainable_variables)
    assert list(loaded.regularization_losses) == []


def test_signatures(model: ImageClassifier, loaded: Any) -> None:
    x = networks.images(model, batch=3)
    logits = model(x).numpy()
    assert set(loaded.signatures) == {"serving_default", "from_bytes", "features"}
    served = outputs(loaded.signatures["serving_default"], images=tf.constant(x))
    assert set(served) == {"logits", "probabilities"}
    np.testing.assert_allclose(served["logits"], logits, rtol=1e-5, atol=1e-5)
    softmax = np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(served["probabilities"], softmax, atol=1e-5)
    features = outputs(loaded.signatures["features"], images=tf.constant(x))
    expected = FeatureExtractor(model, ["covariance", "representation"])(x)
    assert set(features) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(features[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(9, 20), (33, 28)])  # fewer positions than channels of the covariance, and more
def test_saved_model_takes_any_size(model: ImageClassifier, loaded: Any, size: tuple[int, int]) -> None:
    of_any_size = networks.tiny(input_shape=(None, None, 3))
    x = np.random.default_rng(0).normal(0, 1, (2, *size, 3)).astype(np.float32)
    logits = of_any_size(x).numpy()
    np.testing.assert_allclose(loaded(x), logits, rtol=1e-5, atol=1e-5)
    served = outputs(loaded.signatures["serving_default"], images=tf.constant(x))
    np.testing.assert_allclose(served["logits"], logits, rtol=1e-5, atol=1e-5)
    features = outputs(loaded.signatures["features"], images=tf.constant(x))
    for name, value in FeatureExtractor(of_any_size, ["covariance", "representation"])(x).items():
        np.testing.assert_allclose(features[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("representation", ["bcnn", "cbp"])
def test_bilinear_networks_take_any_size(representation: str, tmp_path: Path) -> None:
    options = {"features": {"repeats": 1}}
    network, of_any_size = (
        mpncov_zoo.build(
            "cifar_resnet20", num_classes=5, input_shape=shape, representation=representation, options=options
        )
        for shape in ((12, 12, 3), (None, None, 3))
    )
    for model in (network, of_any_size):
        networks.randomize(model)
    artifact.write(network, tmp_path / "a", tag="a", provenance={})
    x = np.random.default_rng(0).normal(0, 1, (2, 9, 20, 3)).astype(np.float32)
    np.testing.assert_allclose(tf.saved_model.load(str(tmp_path / "a"))(x), of_any_size(x), rtol=1e-5, atol=1e-5)


def test_a_grid_fixes_the_size() -> None:
    vgg = mpncov_zoo.build("vgg16", num_classes=5, input_shape=(64, 48, 3), options={"classifier": {"hidden": (4,)}})
    assert writer._images(vgg).shape.as_list() == [None, 64, 48, 3]


def test_from_bytes_is_preprocess_and_model(model: ImageClassifier, loaded: Any) -> None:
    """Three real files of other sizes than the network's: two PNG (one grey) and a JPEG."""
    files = [encode(Image.fromarray(photo(40, 30)), "PNG"), encode(Image.fromarray(photo(17, 50)), "JPEG", quality=90)]
    files.append(encode(Image.fromarray(photo(12, 13)).convert("L"), "PNG"))
    answered = outputs(loaded.signatures["from_bytes"], encoded=tf.constant(files))
    logits = model(model.preprocess([Image.open(BytesIO(file)) for file in files])).numpy()
    np.testing.assert_allclose(answered["logits"], logits, rtol=1e-5, atol=1e-5)
    decoded = model.decode(logits, top=1)
    assert answered["probabilities"].max(axis=1) == pytest.approx([pairs[0][1] for pairs in decoded], abs=1e-5)


def test_saved_model_trains(model: ImageClassifier, directory: Path) -> None:
    """The batch normalises and moves the statistics; every trainable variable gets a gradient."""
    trainee = tf.saved_model.load(str(directory))
    by_name = {name: getattr(trainee, name) for name in model.named_variables()}
    x = networks.images(model, batch=4)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(trainee(x, training=True) ** 2)
    for gradient in tape.gradient(loss, list(trainee.trainable_variables)):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    rows = tf.nn.conv2d(x, by_name["features/stem_conv/kernel"], 1, "SAME").numpy().reshape(-1, 16)
    before = networks.values(model)
    for statistic, batch in (("moving_mean", rows.mean(0)), ("moving_variance", rows.var(0, ddof=1))):
        name = f"features/stem_bn/{statistic}"
        expected = MOMENTUM * before[name] + (1 - MOMENTUM) * batch
        np.testing.assert_allclose(by_name[name].numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:pkg_resources is deprecated:UserWarning")
def test_tensorflow_hub_loads_it(model: ImageClassifier, directory: Path) -> None:
    import tensorflow_hub as hub

    x = networks.images(model)
    np.testing.assert_allclose(hub.load(str(directory))(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:pkg_resources is deprecated:UserWarning")
def test_tensorflow_hub_layer_trains_in_a_keras_2_model(model: ImageClassifier, directory: Path) -> None:
    import tensorflow_hub as hub
    import tf_keras

    layer = hub.KerasLayer(str(directory), trainable=True)
    x, y = networks.images(model, batch=8), np.arange(8) % 5
    classifier = tf_keras.Sequential([layer])
    np.testing.assert_allclose(classifier(x), model(x), rtol=1e-5, atol=1e-5)
    assert len(classifier.trainable_weights) == len(model.trainable_variables)
    assert len(classifier.weights) == len(model.weights)
    classifier.compile("sgd", tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = [weight.numpy() for weight in classifier.weights]
    classifier.fit(x, y, epochs=1, verbose=0)
    assert all((old != new.numpy()).any() for old, new in zip(before, classifier.weights, strict=True))


def read_weights(model: ImageClassifier, directory: Path, parts: Sequence[str] = PARTS) -> tuple[str, ...]:
    stored = stored_weights(directory, parts)
    assign_weights(model, stored)
    return stored.unused


def test_weights_are_read_back(model: ImageClassifier, directory: Path) -> None:
    blank = networks.tiny()
    networks.randomize(blank, seed=9)
    assert read_weights(blank, directory) == ()
    for name, value in networks.values(model).items():
        np.testing.assert_array_equal(blank.named_variables()[name], value)


def test_only_the_parts_asked_for_are_read(model: ImageClassifier, directory: Path) -> None:
    other = networks.tiny(num_classes=3)
    networks.randomize(other, seed=9)
    before, published = networks.values(other), networks.values(model)
    unused = read_weights(other, directory, ["features", "representation"])
    assert unused == ("classifier/logits/bias", "classifier/logits/kernel")
    for name, value in networks.values(other).items():
        expected = before if name.startswith("classifier/") else published
        np.testing.assert_array_equal(value, expected[name])


Tensors = dict[str, np.ndarray]
KERNEL = "representation/reduction_conv/kernel"  # (1, 1, 64, 8); nearly the last one to be read
VARIANCE = "features/stage3_block1_bn2/moving_variance"
STEM = "features/stem_conv/kernel"


def poison(tensors: Tensors, name: str, value: float) -> None:
    tensors[key(name)].flat[1] = value


def replace(tensors: Tensors, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    tensors[key(name)] = change(tensors[key(name)])


def rename(tensors: Tensors, name: str, other: str) -> None:
    tensors[key(other)] = tensors.pop(key(name))


DAMAGES: dict[str, tuple[Callable[[Tensors], Any], str]] = {
    "NaN": (lambda t: poison(t, KERNEL, np.nan), f"{KERNEL}.*NaN"),
    "infinity": (lambda t: poison(t, KERNEL, -np.inf), f"{KERNEL}.*infinity"),
    "variance": (lambda t: poison(t, VARIANCE, -1e-6), f"{VARIANCE}.*negative variance"),
    "shape": (lambda t: replace(t, KERNEL, lambda v: v[..., 1:]), rf"{KERNEL} is float32 \(1, 1, 64, 7\).*64, 8\)"),
    "transposed": (lambda t: replace(t, KERNEL, lambda v: v.swapaxes(2, 3)), rf"{KERNEL}.*\(1, 1, 8, 64\)"),
    "dtype": (lambda t: replace(t, KERNEL, lambda v: v.astype(np.float64)), f"{KERNEL} is float64"),
    "missing": (lambda t: t.pop(key(VARIANCE)), f"missing: {VARIANCE}"),
    "extra": (
        lambda t: t.update({key("features/stem_conv/bias"): t[key("classifier/logits/bias")]}),
        "unexpected: fea",
    ),
    "no part": (lambda t: t.update({key("extra/kernel"): t[key(KERNEL)]}), "unexpected: extra/kernel"),
    "renamed": (
        lambda t: rename(t, STEM, "features/stem/kernel"),
        f"missing: {STEM}; unexpected: features/stem/kernel",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_is_refused_and_nothing_assigned(directory: Path, tmp_path: Path, damage: str) -> None:
    change, message = DAMAGES[damage]
    damaged = rewritten(directory, tmp_path / "damaged", change)
    network = networks.tiny()
    networks.randomize(network, seed=9)
    before = networks.values(network)
    with pytest.raises(IntegrityError, match=message):
        read_weights(network, damaged)
    for name, value in networks.values(network).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    "damage",
    [
        lambda variables: shutil.rmtree(variables),
        lambda variables: (variables / "variables.index").write_bytes(b"no index"),
        lambda variables: (variables / "variables.data-00000-of-00001").write_bytes(b"short"),
        lambda variables: flip(variables / "variables.data-00000-of-00001"),
    ],
    ids=["absent", "index", "truncated", "flipped"],
)
def test_unreadable_checkpoint_is_refused_and_nothing_assigned(
    directory: Path, tmp_path: Path, damage: Callable[[Path], Any]
) -> None:
    """TensorFlow's own checks, reported as this package's error."""
    shutil.copytree(directory, tmp_path / "damaged")
    damage(tmp_path / "damaged" / "variables")
    network = networks.tiny()
    networks.randomize(network, seed=9)
    before = networks.values(network)
    with pytest.raises(IntegrityError, match=r"damaged: its checkpoint cannot be read: [^\n]+\.$"):
        read_weights(network, tmp_path / "damaged")
    for name, value in networks.values(network).items():
        np.testing.assert_array_equal(value, before[name])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_selftest_passes_on_the_same_weights(model: ImageClassifier, directory: Path) -> None:
    errors = selftest.differences(model, directory)
    assert tuple(errors) == model.stages
    assert max(errors.values()) < 1e-5


def test_selftest_sees_a_changed_weight_where_it_acts(directory: Path) -> None:
    changed = networks.tiny()
    kernel = changed.named_variables()["features/stage3_block1_conv2/kernel"]
    kernel.assign(keras.ops.convert_to_numpy(kernel) * 1.01)
    errors = selftest.differences(changed, directory)
    assert max(errors[stage] for stage in ("stem", "stage1", "stage2")) < 1e-5
    assert min(errors[stage] for stage in ("stage3", "reduction", "covariance", "representation", "logits")) > 1e-4


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_selftest_of_numbers_that_are_not_finite(directory: Path, value: float) -> None:
    broken = networks.tiny()
    broken.named_variables()["classifier/logits/bias"].assign([0, 0, value, 0, 0])
    errors = selftest.differences(broken, directory)
    assert errors["logits"] == np.inf and errors["representation"] < 1e-5


def test_selftest_against_a_record_that_is_not_finite(model: ImageClassifier, directory: Path, tmp_path: Path) -> None:
    record = dict(np.load(directory / "selftest.npz"))
    record["stage1"][3] = np.nan
    np.savez(tmp_path / "selftest.npz", **record)
    errors = selftest.differences(model, tmp_path)
    assert errors["stage1"] == np.inf and errors["stage2"] < 1e-5


def test_selftest_of_a_network_that_computes_in_another_type(directory: Path) -> None:
    """Its weights are intact: the environment is at fault."""
    with precision("float64"):
        model = networks.tiny()
    with pytest.raises(InputError, match="computes in float64, as the dtype policy of this program says"):
        selftest.differences(model, directory)


def test_selftest_of_another_network(directory: Path) -> None:
    with pytest.raises(IntegrityError, match=r"selftest\.npz does not describe"):
        selftest.differences(networks.tiny(num_classes=3), directory)


@pytest.fixture(scope="module")
def frozen_of_any_size(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageClassifier, Path]:
    """A network without labels that takes any image size, and was frozen in part when it was written."""
    network = networks.tiny(input_shape=(None, None, 3), options={"features": {"repeats": 1}})
    network.features.trainable = False
    network.classifier.get_layer("logits").trainable = False
    assert len(network.trainable_variables) == 3  # the reduction's
    path = tmp_path_factory.mktemp("frozen") / "any"
    artifact.write(network, path, tag="any", provenance={})
    return network, path


def test_frozen_layers_make_the_same_artifact(frozen_of_any_size: tuple[ImageClassifier, Path]) -> None:
    """What one training left alone is no property of the network."""
    network, path = frozen_of_any_size
    assert [layer.trainable for layer in (network.features, network.representation)] == [False, True]
    assert len(network.trainable_variables) == 3
    names = {name for name in network.named_variables() if "/moving_" not in name}
    numbers = sum(networks.values(network)[name].size for name in names)
    assert parse_description(path / "model.json").parameters == numbers
    trainee = tf.saved_model.load(str(path))
    assert len(trainee.trainable_variables) == len(names)
    before = getattr(trainee, "features/stem_bn/moving_mean").numpy()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(trainee(networks.images(network, batch=4), training=True) ** 2)
    gradients = tape.gradient(loss, list(trainee.trainable_variables))
    assert all(gradient is not None and np.abs(gradient).max() > 0 for gradient in gradients)
    assert (getattr(trainee, "features/stem_bn/moving_mean").numpy() != before).all()


def test_artifact_without_labels_or_fixed_size(frozen_of_any_size: tuple[ImageClassifier, Path]) -> None:
    """Any image size; the self-test then has the size of the input specification."""
    network, path = frozen_of_any_size
    description = parse_description(path / "model.json")
    assert description.labels_file is None and read_labels(path, description) is None  # with a warning
    assert max(selftest.differences(network, path).values()) < 1e-5
    loaded = tf.saved_model.load(str(path))
    for size in ((16, 20), (33, 9)):
        x = np.random.default_rng(0).normal(0, 1, (2, *size, 3)).astype(np.float32)
        np.testing.assert_allclose(loaded(x), network(x), rtol=1e-4, atol=1e-5)
    assert set(loaded.signatures["features"].structured_outputs) == {"covariance", "representation"}


def test_existing_target_is_refused_and_left_alone(model: ImageClassifier, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match=r"taken exists already"):
        artifact.write(model, tmp_path / "taken", tag="toy", provenance={})
    assert not list((tmp_path / "taken").iterdir())


def test_an_empty_list_of_labels_is_none_of_a_network_without_a_classifier(tmp_path: Path) -> None:
    artifact.write(networks.tiny(0), tmp_path / "a", tag="toy", provenance={}, labels=[])
    assert mpncov_zoo.load(tmp_path / "a").labels is None


def test_models_that_make_no_artifact(model: ImageClassifier, tmp_path: Path) -> None:
    with precision("mixed_bfloat16"):
        mixed = networks.tiny()
    with pytest.raises(InputError, match="mixed_bfloat16"):
        artifact.write(mixed, tmp_path / "a", tag="toy", provenance={})
    model_with_labels = networks.tiny()
    model_with_labels.labels = ("a", "b", "two\nlines", "d", "e")
    with pytest.raises(InputError, match=r"'two\\nlines'"):
        artifact.write(model_with_labels, tmp_path / "a", tag="toy", provenance={})
    assert not list(tmp_path.iterdir())


def test_tag_that_is_no_name(model: ImageClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_write_saved_model", write_labels)
    with pytest.raises(InputError, match=r"a cannot be described: tag: .*'Toy set'"):
        artifact.write(model, tmp_path / "a", tag="Toy set", provenance={})
    assert not list(tmp_path.iterdir())


def no_space(*args: Any, **kwargs: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def tensorflow_has_no_space(*args: Any, **kwargs: Any) -> Any:
    raise tf.errors.ResourceExhaustedError(None, None, "variables: No space left on device")


def interrupted(*args: Any, **kwargs: Any) -> Any:
    raise KeyboardInterrupt


def write_labels(model: ImageClassifier, labels: Sequence[str] | None, directory: Path) -> None:
    (directory / "assets").mkdir()
    (directory / "assets" / "labels.txt").write_text("".join(f"{label}\n" for label in labels or ()))


@pytest.fixture
def failing_step(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[BaseException]]:
    place, name, failure, expected = request.param
    if place is not tf.saved_model:  # tracing takes seconds, and is not what fails here
        monkeypatch.setattr(writer, "_write_saved_model", write_labels)
    monkeypatch.setattr(place, name, failure)
    yield expected


@pytest.mark.parametrize(
    "failing_step",
    [
        (tf.saved_model, "save", no_space, InputError),
        (tf.saved_model, "save", tensorflow_has_no_space, InputError),
        (np, "savez_compressed", no_space, InputError),
        (writer, "describe_files", no_space, InputError),
        (Path, "replace", no_space, InputError),
        (np, "savez_compressed", interrupted, KeyboardInterrupt),
    ],
    indirect=True,
    ids=["SavedModel", "TensorFlow", "selftest", "digests", "rename", "Ctrl-C"],
)
def test_failure_in_the_middle_leaves_nothing_behind(
    model: ImageClassifier, tmp_path: Path, failing_step: type[BaseException]
) -> None:
    with pytest.raises(failing_step, match="No space left" if failing_step is InputError else None):
        artifact.write(model, tmp_path / "hub" / "new", tag="toy", provenance={})
    assert not list((tmp_path / "hub").iterdir())


def test_target_below_a_file(model: ImageClassifier, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        artifact.write(model, tmp_path / "file" / "new", tag="toy", provenance={})
