"""Evaluation: counts against a plain loop, on logits that are known because a stand-in network returns them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

import mpncov_zoo
from mpncov_zoo.description import Views
from mpncov_zoo.errors import InputError
from mpncov_zoo.labels import labels_of
from mpncov_zoo.load_report import LoadReport
from mpncov_zoo.manifest import Manifest, load_manifest
from mpncov_zoo.specification import InputSpecification
from mpncov_zoo.training.datasets import Images, Split, fashion_mnist, read_dataset
from mpncov_zoo.training.evaluate import dataset_of, evaluate, published_metrics
from tests.image_folders import specification, write_folders
from tests.photos import photo
from tests.publishing.publications import trained
from tests.training.test_views import five_crops, resized

NAMES = ("a", "b", "c", "d", "e", "f", "g")


class Lookup:
    """A network that answers an image of value n with the n-th row of a table of logits."""

    name = "lookup"
    input_specification = InputSpecification(
        size=(2, 2),
        channel_order="L",
        resize="squash",
        crop_fraction=1.0,
        interpolation="bilinear",
        antialias=True,
        mean=(0.0,),
        std=(1 / 255,),
    )

    def __init__(self, logits: np.ndarray, labels: Sequence[str] | None = NAMES):
        self.logits, self.labels, self.num_classes = logits, labels, logits.shape[1]
        self.load_report = LoadReport()

    def predict_on_batch(self, batch: Any) -> np.ndarray:
        return self.logits[np.rint(np.asarray(batch)[:, 0, 0, 0]).astype(int)]


def images_of(labels: Sequence[int], names: tuple[str, ...] = NAMES) -> Images:
    numbers = np.arange(len(labels), dtype=np.uint8)
    return Images(np.tile(numbers[:, None, None, None], (1, 2, 2, 1)), np.array(labels, np.int32), names)


def random_case() -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(0)
    return rng.normal(0, 3, (90, 7)).astype(np.float32), rng.integers(0, 6, 90).tolist()  # of class g there is none


@pytest.mark.parametrize("batch_size", [1, 7, 90, 250])
def test_the_numbers_are_those_of_a_plain_loop(batch_size: int) -> None:
    logits, labels = random_case()
    result = evaluate(Lookup(logits), images_of(labels), batch_size=batch_size)
    first = five = 0
    loss, confusion = 0.0, [[0] * 7 for _ in NAMES]
    for row, label in zip(logits.tolist(), labels, strict=True):
        order = sorted(range(7), key=lambda k: row[k], reverse=True)
        first += order[0] == label
        five += label in order[:5]
        loss += math.log(math.fsum(math.exp(value - row[label]) for value in row))
        confusion[label][order[0]] += 1
    assert (result.images, result.top1, result.top5) == (90, 100 * first / 90, 100 * five / 90)
    assert result.cross_entropy == pytest.approx(loss / 90, rel=1e-12)
    assert result.confusion.tolist() == confusion
    expected = {name: 100 * confusion[i][i] / sum(confusion[i]) for i, name in enumerate(NAMES) if sum(confusion[i])}
    assert result.class_accuracy == pytest.approx({**expected, "g": None})
    assert result.balanced_accuracy == pytest.approx(math.fsum(expected.values()) / 6)


def test_of_equal_logits_the_first_is_the_answer() -> None:
    result = evaluate(Lookup(np.zeros((7, 7))), images_of(range(7)))
    assert (result.top1, result.top5) == (pytest.approx(100 / 7), pytest.approx(500 / 7))
    assert result.confusion[:, 0].tolist() == [1] * 7


def test_logits_far_from_zero_keep_their_loss_finite() -> None:
    logits = np.array([[1e4, 0.0], [1e4, 0.0]])
    result = evaluate(Lookup(logits, "ab"), images_of([0, 1], ("a", "b")))
    assert result.cross_entropy == 5000


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_broken_logits_are_no_right_answers(value: float) -> None:
    logits, labels = random_case()
    logits[3, 2] = value
    with pytest.raises(InputError, match="not finite"):
        evaluate(Lookup(logits), images_of(labels))


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([], NAMES, "no images"),
        ([0], NAMES[:6], "lookup tells 7 classes apart, the data set has 6"),
        ([0], ("a", "c", "b", *NAMES[3:]), "Class 1 is 'b' to lookup, but 'c' in the data set"),
    ],
)
def test_other_classes_are_refused(labels: list[int], names: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(Lookup(np.zeros((9, 7))), images_of(labels, names))


def test_a_real_network_sees_the_images_as_predict_does(artifact_hub: Path, tiny_fashion: Path) -> None:
    model = mpncov_zoo.load("mpncov_cifar_resnet20", True, hub=artifact_hub)
    images = fashion_mnist(tiny_fashion, "test")
    logits = np.asarray(model(model.preprocess(list(images.pixels))))
    result = evaluate(model, images, batch_size=25)
    assert result.images == 60
    assert result.top1 == 100 * np.mean(logits.argmax(axis=1) == images.labels)
    probabilities = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(axis=1, keepdims=True)
    assert result.cross_entropy == pytest.approx(-np.log(probabilities[range(60), images.labels]).mean(), rel=1e-5)


def test_balanced_accuracy_counts_classes_not_images() -> None:
    """Always answering the class of 9 in 10 images is 90 % right, and a coin's throw between the two classes."""
    result = evaluate(Lookup(np.tile([1.0, 0.0], (10, 1)), "ab"), images_of([0] * 9 + [1], ("a", "b")))
    assert (result.top1, result.balanced_accuracy) == (90, 50)


# --- views ------------------------------------------------------------------------------------------------------------

PHOTOS = [photo(40, 52), photo(40, 52)[:, ::-1], photo(61, 40)[:40], np.flip(photo(40, 52), axis=0)]


class Linear(Lookup):
    """A network of one matrix, in float64, a row at a time: what it says of an image depends on no other."""

    input_specification = specification()
    largest_batch = 0

    def predict_on_batch(self, batch: Any) -> np.ndarray:
        self.largest_batch = max(self.largest_batch, len(batch))
        return np.stack([np.asarray(image, float).ravel() @ self.logits for image in batch])


def linear() -> Linear:
    return Linear(np.random.default_rng(2).normal(0, 0.06, (24 * 24 * 3, 7)))


def photos_of(labels: Sequence[int]) -> Images:
    pixels = np.stack([np.resize(image, (40, 52, 3)) ^ np.uint8(5 * i) for i, image in enumerate(PHOTOS * 4)])
    return Images(pixels, np.array(labels, np.int32), NAMES)


def pillow_views(pixels: np.ndarray, kind: str) -> list[np.ndarray]:
    """Crops of 24x24 pixels; of 40x52 pixels the short side becomes 32."""
    image = resized(pixels, 41, 32)
    if kind == "ten_crops":
        return five_crops(image) + five_crops(ImageOps.mirror(image))
    centre = Image.fromarray(five_crops(image)[4])
    return [np.asarray(centre), np.asarray(ImageOps.mirror(centre))][: 1 if kind == "single" else 2]


def mean_probabilities(model: Linear, images: Images, kind: str) -> np.ndarray:
    """(images, classes)."""
    mean, std = np.array([0.3, 0.4, 0.5]), np.array([0.35, 0.3, 0.25])
    rows = []
    for pixels in images.pixels:
        seen = [((view / 255 - mean) / std).ravel() @ model.logits for view in pillow_views(pixels, kind)]
        rows.append(np.mean([np.exp(logits) / np.exp(logits).sum() for logits in seen], axis=0))
    return np.array(rows)


@pytest.mark.parametrize("kind", ["single", "mirror", "ten_crops"])
def test_probabilities_of_views_are_averaged(kind: Any) -> None:
    model, images = linear(), photos_of(np.arange(16) % 7)
    expected = mean_probabilities(model, images, kind)
    result = evaluate(model, images, views=kind)
    order = np.argsort(-expected, axis=1)
    assert result.cross_entropy == pytest.approx(-np.log(expected[range(16), images.labels]).mean(), rel=1e-5)
    assert result.top5 == 100 * np.mean([label in row[:5] for label, row in zip(images.labels, order, strict=True)])
    confusion = np.zeros((7, 7), int)
    for label, row in zip(images.labels, order, strict=True):
        confusion[label, row[0]] += 1
    np.testing.assert_array_equal(result.confusion, confusion)


def test_the_views_of_the_photos_differ() -> None:
    """Or the test above would not see which of them were taken."""
    model, images = linear(), photos_of(np.arange(16) % 7)
    losses = [
        -np.log(mean_probabilities(model, images, kind)[range(16), images.labels]).mean()
        for kind in ("single", "mirror", "ten_crops")
    ]
    assert np.diff(sorted(losses)).min() > 1e-2


def test_probabilities_not_logits_are_averaged() -> None:
    """An image whose left column is 0 and whose right one is 1; its mirror image begins with 1."""
    logits = np.log([[0.96, 0.02, 0.02], [0.0001, 0.7, 0.2999]])
    assert logits.mean(axis=0).argmax() == 1
    pixels = np.tile(np.array([0, 1], np.uint8)[None, None, :, None], (1, 2, 1, 1))
    result = evaluate(Lookup(logits, "abc"), Images(pixels, np.array([1], np.int32), ("a", "b", "c")), views="mirror")
    assert result.confusion[1, 0] == 1  # (0.96 + 0.0001) / 2 against (0.02 + 0.7) / 2
    assert result.cross_entropy == pytest.approx(-math.log(0.36), rel=1e-12)


@pytest.mark.parametrize("kind", ["mirror", "ten_crops"])
def test_the_batch_size_bounds_the_views_at_once_and_changes_nothing(kind: Any) -> None:
    images, views = photos_of(np.arange(16) % 7), 2 if kind == "mirror" else 10
    whole = evaluate(linear(), images, views=kind)
    for batch_size in (1, 64):
        model = linear()
        result = evaluate(model, images, views=kind, batch_size=batch_size)
        assert model.largest_batch == max(views, min(batch_size // views, 16) * views)
        assert result.cross_entropy == whole.cross_entropy
        np.testing.assert_array_equal(result.confusion, whole.confusion)


def test_certain_views_keep_their_loss_finite() -> None:
    """The probability e^-1000 is 0 in float64; the mean of two views of it is no less."""
    result = evaluate(
        Lookup(np.array([[1000.0, 0.0], [1000.0, 0.0]]), "ab"), images_of([0, 1], ("a", "b")), views="mirror"
    )
    assert result.cross_entropy == 500


def test_unknown_views_are_refused() -> None:
    with pytest.raises(InputError, match="views 'five'; allowed: single, mirror, ten_crops"):
        evaluate(Lookup(np.zeros((9, 7))), images_of([0]), views="five")  # pyright: ignore[reportArgumentType]


# --- corrupt images ---------------------------------------------------------------------------------------------------


@pytest.fixture
def photos_in_folders(tmp_path: Path) -> Path:
    return write_folders(tmp_path, {"train": {"ant": 1, "bee": 1}, "test": {"ant": 4, "bee": 4}})


def two_classes() -> Linear:
    return Linear(np.zeros((24 * 24 * 3, 2)), ("ant", "bee"))


@pytest.mark.parametrize("batch_size", [1, 250])
def test_a_corrupt_image_is_an_error_that_names_it(photos_in_folders: Path, batch_size: int) -> None:
    images = read_dataset("folders", photos_in_folders, "test")
    (photos_in_folders / "test" / "bee" / "001.jpg").write_bytes(b"<html>404 Not Found</html>")
    with pytest.raises(InputError, match=r"^bee/001\.jpg: .*not an image.*`mpncov-zoo data check` lists all"):
        evaluate(two_classes(), images, batch_size=batch_size)


def test_so_is_one_that_vanished(photos_in_folders: Path) -> None:
    images = read_dataset("folders", photos_in_folders, "test")
    (photos_in_folders / "test" / "ant" / "003.jpg").unlink()
    with pytest.raises(InputError, match=r"^ant/003\.jpg: it cannot be read: No such file"):
        evaluate(two_classes(), images)


def test_a_failure_of_the_network_is_not_blamed_on_the_images(
    photos_in_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(self: Linear, batch: Any) -> np.ndarray:
        raise tf.errors.ResourceExhaustedError(None, None, "out of memory")

    monkeypatch.setattr(Linear, "predict_on_batch", exhausted)
    with pytest.raises(tf.errors.ResourceExhaustedError):
        evaluate(two_classes(), read_dataset("folders", photos_in_folders, "test"))


# --- ImageNet's classes -----------------------------------------------------------------------------------------------

WNIDS = tuple((Path(__file__).parent / "imagenet_wnids.txt").read_text().split())
LABELS = labels_of("imagenet_1k") or ()


def of_thousand(names: tuple[str, ...], labels: tuple[str, ...] | None = LABELS) -> tuple[Any, Split]:
    """A network that answers 388, the giant panda, and an image of that class."""
    logits = np.zeros((1, 1000))
    logits[0, 388] = 1
    return Lookup(logits, labels), images_of([388 if len(names) > 388 else 0], names)


def test_wordnet_identifiers_are_matched_with_the_published_labels() -> None:
    assert (WNIDS[388], LABELS[388]) == ("n02510455", "giant panda")
    for labels in (LABELS, WNIDS, None):
        assert evaluate(*of_thousand(WNIDS, labels)).top1 == 100


@pytest.mark.skipif(not Path("/usr/share/wordnet/data.noun").exists(), reason="Debian's wordnet-base is not installed")
def test_the_identifiers_are_those_of_the_labels_by_wordnet() -> None:
    with open("/usr/share/wordnet/data.noun", "rb") as file:
        for wnid, label in zip(WNIDS, LABELS, strict=True):
            file.seek(int(wnid[1:]))
            assert label.startswith(file.readline().decode().split()[4].replace("_", " "))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (WNIDS[:999], "1000 classes apart, the data set has 999. Make train/ hold a folder for each of ImageNet's"),
        (WNIDS[:100], "the data set has 100. Make train/ hold a folder .* may be empty"),
        ((*WNIDS[:999], "n15075142"), "Class 0 is 'tench' to lookup, but 'n01440764' in the data set"),
        ((*WNIDS[:387], WNIDS[388], WNIDS[387], *WNIDS[389:]), "Class 0 is 'tench'"),
        ((*(f"class {i}" for i in range(999)),), r"the data set has 999\.$"),
    ],
)
def test_other_thousands_are_not(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(*of_thousand(names))


def test_other_labels_do_not_become_imagenets() -> None:
    swapped = (LABELS[1], LABELS[0], *LABELS[2:])
    with pytest.raises(InputError, match="Class 0 is 'goldfish' to lookup, but 'n01440764' in the data set"):
        evaluate(*of_thousand(WNIDS, swapped))


def test_folders_of_other_classes_may_be_empty_as_the_message_says(tmp_path: Path) -> None:
    root = write_folders(tmp_path, {"val": {WNIDS[388]: 1}})
    for wnid in WNIDS:
        (root / "train" / wnid).mkdir(parents=True)
    images = read_dataset("imagenet", root, "val")
    assert images.labels.tolist() == [388]
    answer = Linear(np.zeros((24 * 24 * 3, 1000)), LABELS)
    assert evaluate(answer, images).confusion[388, 0] == 1


# --- which data set ---------------------------------------------------------------------------------------------------


def loaded(weights: str | None, source: Path | None = None) -> Any:
    model = Lookup(np.zeros((1, 7)))
    model.load_report = LoadReport(weights=weights, source=None if source is None else str(source))
    return model


def test_the_manifest_says_which_data_set_weights_are_for() -> None:
    entry = load_manifest().published("mpncov_resnet50")
    assert dataset_of(loaded(entry.name)) == entry.dataset == "imagenet_1k"


def test_the_recipe_says_it_where_the_manifest_does_not_know_the_weights(artifact_hub: Path, tmp_path: Path) -> None:
    artifact = trained(artifact_hub, tmp_path / "artifact")
    assert dataset_of(loaded("mpncov_cifar_resnet20.unknown", artifact)) == "fashion_mnist"


def test_where_nothing_says_it_one_has_to(artifact_hub: Path) -> None:
    for model in (loaded("tiny.test", artifact_hub / "mpncov_cifar_resnet20.test"), loaded(None)):
        with pytest.raises(InputError, match=r"Nothing says which data set .* --dataset"):
            dataset_of(model)


def test_published_metrics_are_those_of_the_split() -> None:
    entry = load_manifest().published("mpncov_resnet50")
    assert published_metrics(loaded(entry.name), "imagenet", "val") == tuple(entry.metrics)
    assert published_metrics(loaded(entry.name), "imagenet_1k", "val") == tuple(entry.metrics)
    assert published_metrics(loaded(entry.name), "imagenet_1k", "test") == ()
    assert published_metrics(loaded(entry.name), "fashion_mnist", "val") == ()
    assert published_metrics(loaded("tiny.test"), "imagenet_1k", "val") == ()
    assert published_metrics(loaded(entry.name), "imagenet_1k", "val", "ten_crops") == ()


@pytest.mark.parametrize(
    ("stated", "kind"),
    [
        ({"split": "val", "views": "single"}, "single"),
        ({"split": "val", "views": "mirror", "remark": "448x448"}, "mirror"),
        ({"split": "val", "views": "ten_crops"}, "ten_crops"),
        ({"split": "val"}, None),
        ({"split": "train", "views": "single"}, None),
    ],
)
def test_published_metrics_are_those_of_the_views(
    stated: dict[str, str], kind: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = load_manifest().published("mpncov_resnet50").model_dump(mode="json")
    metric = {key: value for key, value in entry["metrics"][0].items() if key not in ("split", "views", "remark")}
    entry["metrics"] = [{**metric, **stated}]
    manifest = Manifest.model_validate({"schema_version": 1, "entries": [entry]})
    monkeypatch.setattr("mpncov_zoo.training.evaluate.load_manifest", lambda: manifest)
    model = loaded("mpncov_resnet50.imagenet_pytorch")
    shown = [views for views in get_args(Views) if published_metrics(model, "imagenet_1k", "val", views)]
    assert shown == ([kind] if kind else [])


def test_every_number_beside_which_one_can_be_measured_states_its_views() -> None:
    """Of the real manifest: of the data sets that there are readers for all is found by one of the views."""
    for entry in load_manifest().entries:
        stated = [metric for metric in entry.metrics if metric.dataset == entry.dataset]
        splits = ("test", "val")
        found = [m for split in splits for m in published_metrics(loaded(entry.name), entry.dataset, split)]
        assert found == stated
