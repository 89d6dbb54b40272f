"""Measures how well a network classifies a labelled data set."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.description import DESCRIPTION_FILE, Metric, Views, parse_description
from mpncov_zoo.errors import InputError
from mpncov_zoo.labels import labels_of
from mpncov_zoo.manifest import load_manifest
from mpncov_zoo.progress import progress_bar
from mpncov_zoo.specification import InputSpecification
from mpncov_zoo.training.datasets import Split
from mpncov_zoo.training.datasets.checking import find_corrupt
from mpncov_zoo.training.datasets.folders import WNID
from mpncov_zoo.training.datasets.pipelines import view_batches
from mpncov_zoo.training.divergence import reason
from mpncov_zoo.training.views import COUNT, require_views

IMAGENET = "imagenet_1k"
# Of ImageNet's 1000 WordNet identifiers, sorted, joined by line breaks: the order of the published networks' logits.
IMAGENET_SHA256 = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"

DATASET_NAMES: Mapping[str, str] = {"imagenet": IMAGENET}  # what the manifest calls otherwise than the readers do


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        top1, top5: accuracy in percent: the true class is the most probable one, or among the five most probable.
        cross_entropy: mean over the images, in nats.
        confusion: images by true class (rows) and answer (columns), int64 (classes, classes).
        class_names: in the order of the rows.
    """

    top1: float
    top5: float
    cross_entropy: float
    confusion: np.ndarray
    class_names: tuple[str, ...]

    @property
    def images(self) -> int:
        """How many images were classified."""
        return int(self.confusion.sum())

    @property
    def balanced_accuracy(self) -> float:
        """The mean of `class_accuracy` over the classes that have images, in percent: each class counts the same."""
        return float(np.mean([percent for percent in self.class_accuracy.values() if percent is not None]))

    @property
    def class_accuracy(self) -> dict[str, float | None]:
        """For each class the percentage of its images that were recognised; None for a class without images."""
        right, total = np.diag(self.confusion).tolist(), self.confusion.sum(axis=1).tolist()
        counts = zip(self.class_names, right, total, strict=True)
        return {name: 100 * right / total if total else None for name, right, total in counts}

    def summary(self) -> dict[str, Any]:
        """The numbers as plain data; accuracies are in percent."""
        return {
            "images": self.images,
            "top1_accuracy": self.top1,
            "top5_accuracy": self.top5,
            "balanced_accuracy": self.balanced_accuracy,
            "cross_entropy": self.cross_entropy,
        }


def evaluate(
    model: ImageClassifier,
    images: Split,
    *,
    views: Views = "single",
    batch_size: int = 250,
    progress: bool = False,
) -> Evaluation:
    """Classify a data set and count the right answers.

    If there are several views of an image, the probabilities of the classes are averaged over them. The class that is
    the most probable then is the answer.

    Args:
        model: the network; the images pass through its input specification.
        images: the data set, of the model's classes.
        views: "single" is the view that `preprocess` takes, "mirror" that view and its mirror image, and "ten_crops"
            the corners and the centre of the resized image and of its mirror image.
        batch_size: views at once, and at least all views of one image; the result does not depend on it.
        progress: show a bar on standard error.

    Raises:
        InputError: no such views, no images, one that cannot be decoded, other classes than the model's, or logits
            that are not finite.

    Example:
        >>> evaluate(model, fashion_mnist("/usr/share/datasets/fashion-mnist", "test")).top1
        94.34
    """
    require_views(views)
    _require_same_classes(model, images)
    best, losses = [], []
    with progress_bar(len(images), "image", show=progress) as bar:
        for batch, labels in _batches(images, model.input_specification, views, batch_size):
            logits = _averaged(_logits(model, batch))
            best.append(np.argsort(-logits, axis=1, kind="stable")[:, :5])  # of equal ones the first, as in `decode`
            losses.append(_log_sum_exp(logits, axis=1) - logits[np.arange(len(labels)), labels])
            bar.update(len(labels))
    return _count(np.concatenate(best), np.concatenate(losses), images)


def dataset_of(model: ImageClassifier) -> str:
    """The data set that a model's loaded weights are for, by the manifest or by the recipe in their artifact.

    Raises:
        InputError: neither says.
    """
    weights, source = model.load_report.weights, model.load_report.source
    entry = load_manifest().get(weights) if weights else None
    if entry is not None:
        return entry.dataset
    recipe = parse_description(Path(source) / DESCRIPTION_FILE).provenance.get("recipe") if source else None
    if not isinstance(recipe, dict) or "dataset" not in recipe:
        raise InputError(f"Nothing says which data set {weights or model.name} is for; name it: --dataset.")
    return recipe["dataset"]


def published_metrics(model: ImageClassifier, dataset: str, split: str, views: Views = "single") -> tuple[Metric, ...]:
    """What the manifest states for a model's loaded weights on this split of this data set, by these views.

    A number of which the manifest does not say by which views it was measured is left out: nothing can stand beside it.
    """
    weights = model.load_report.weights
    entry = load_manifest().get(weights) if weights else None
    stated: Iterable[Metric] = entry.metrics if entry is not None else ()
    wanted = (DATASET_NAMES.get(dataset, dataset), split, views)
    return tuple(m for m in stated if (m.dataset, m.split, m.views) == wanted)


def _require_same_classes(model: ImageClassifier, images: Split) -> None:
    if not len(images):
        raise InputError("There are no images to evaluate on.")
    names = images.class_names
    if model.num_classes != len(names):
        raise InputError(
            f"{model.name} tells {model.num_classes} classes apart, the data set has {len(names)}.{_hint(model, names)}"
        )
    if model.labels is None or tuple(model.labels) in (names, _imagenet_names(names)):
        return
    for index, (known, given) in enumerate(zip(model.labels, names, strict=True)):
        if known != given:
            raise InputError(f"Class {index} is {known!r} to {model.name}, but {given!r} in the data set.")


def _imagenet_names(wnids: tuple[str, ...]) -> tuple[str, ...] | None:
    """The names of ImageNet's classes in published networks, if these are exactly its 1000 identifiers; else None."""
    if hashlib.sha256("\n".join(wnids).encode("utf-8", "surrogateescape")).hexdigest() != IMAGENET_SHA256:
        return None
    return labels_of(IMAGENET)


def _hint(model: ImageClassifier, names: tuple[str, ...]) -> str:
    """Advice for a part of ImageNet: without the other folders nothing tells which logit belongs to which class."""
    if model.num_classes != 1000 or len(names) > 1000 or not all(WNID.fullmatch(name) for name in names):
        return ""
    return " Make train/ hold a folder for each of ImageNet's 1000 classes; the folders may be empty."


def _batches(
    images: Split, spec: InputSpecification, views: Views, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(images float32 (batch, views, height, width, channels), labels int32 (batch,)), in order.

    Raises:
        InputError: an image cannot be decoded.
    """
    done = 0
    try:
        for batch, labels in view_batches(images, spec, max(1, batch_size // COUNT[views]), views):
            yield batch.numpy(), labels.numpy()
            done += len(labels)
    except tf.errors.OpError as error:
        raise InputError(_unreadable(images, done, error)) from None


def _unreadable(images: Split, done: int, error: tf.errors.OpError) -> str:
    """What is wrong with one of the images after the first `done`."""
    corrupt = next(find_corrupt(images.take(np.arange(done, len(images)))), None)
    what = f"{corrupt.name}: {corrupt.reason}" if corrupt else f"After {done} images: {reason(error)}"
    return (
        f"{what}. It is not left out, as an accuracy over fewer images compares with none: obtain it again, or remove "
        "it yourself. `mpncov-zoo data check` lists all that are corrupt."
    )


def _logits(model: ImageClassifier, batch: np.ndarray) -> np.ndarray:
    """Images (batch, views, height, width, channels) -> logits float64 (batch, views, classes).

    Raises:
        InputError: some are not finite.
    """
    logits = np.asarray(model.predict_on_batch(batch.reshape(-1, *batch.shape[2:]))).astype(np.float64)
    if not np.isfinite(logits).all():
        raise InputError("The network's logits are not finite: its weights or its input are broken.")
    return logits.reshape(*batch.shape[:2], -1)


def _averaged(logits: np.ndarray) -> np.ndarray:
    """Logits (batch, views, classes) -> (batch, classes): those whose softmax is the mean of the views' softmax.

    By logarithms, in which no probability becomes 0. Those of one view stay as they are, unrounded.
    """
    if logits.shape[1] == 1:
        return logits[:, 0]
    log_probabilities = logits - _log_sum_exp(logits, axis=2)[..., None]
    return _log_sum_exp(log_probabilities, axis=1) - np.log(logits.shape[1])


def _log_sum_exp(values: np.ndarray, axis: int) -> np.ndarray:
    highest = values.max(axis=axis, keepdims=True)
    return highest.squeeze(axis) + np.log(np.exp(values - highest).sum(axis=axis))


def _count(best: np.ndarray, losses: np.ndarray, images: Split) -> Evaluation:
    """The most probable classes (images, up to 5), best first, and the cross-entropies float64 (images,)."""
    count, true, classes = len(images), images.labels, len(images.class_names)
    right = best == true[:, None]
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (true, best[:, 0]), 1)
    return Evaluation(
        top1=100 * int(right[:, 0].sum()) / count,
        top5=100 * int(right.sum()) / count,
        cross_entropy=float(np.mean(losses)),
        confusion=confusion,
        class_names=images.class_names,
    )
