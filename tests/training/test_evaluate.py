"""Evaluation: counts against a plain loop, on logits that are known because a stand-in network returns them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mpncov_zoo
from mpncov_zoo.classifier import LoadReport
from mpncov_zoo.errors import InputError
from mpncov_zoo.manifest import InputSpecification, load_manifest
from mpncov_zoo.training.datasets import Images, fashion_mnist
from mpncov_zoo.training.evaluate import dataset_of, evaluate, published_metrics

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


# --- which data set ---------------------------------------------------------------------------------------------------


def loaded(weights: str | None, source: Path | None = None) -> Any:
    model = Lookup(np.zeros((1, 7)))
    model.load_report = LoadReport(weights=weights, source=None if source is None else str(source))
    return model


def test_the_manifest_says_which_data_set_weights_are_for() -> None:
    entry = load_manifest().published("mpncov_resnet50")
    assert dataset_of(loaded(entry.name)) == entry.dataset == "imagenet_1k"


def test_the_recipe_says_it_where_the_manifest_does_not_know_the_weights(trained_run: tuple[Path, str, str]) -> None:
    (artifact,) = trained_run[0].glob("*.retrained")
    assert dataset_of(loaded("mpncov_cifar_resnet20.unknown", artifact)) == "fashion_mnist"


def test_where_nothing_says_it_one_has_to(artifact_hub: Path) -> None:
    for model in (loaded("tiny.test", artifact_hub / "mpncov_cifar_resnet20.test"), loaded(None)):
        with pytest.raises(InputError, match=r"Nothing says which data set .* --dataset"):
            dataset_of(model)


def test_published_metrics_are_those_of_the_split() -> None:
    entry = load_manifest().published("mpncov_resnet50")
    assert published_metrics(loaded(entry.name), "imagenet_1k", "validation") == tuple(entry.metrics)
    assert published_metrics(loaded(entry.name), "imagenet_1k", "test") == ()
    assert published_metrics(loaded(entry.name), "fashion_mnist", "validation") == ()
    assert published_metrics(loaded("tiny.test"), "imagenet_1k", "validation") == ()
