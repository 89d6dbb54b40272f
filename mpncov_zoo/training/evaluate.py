"""How well a network answers on a labelled data set."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.errors import InputError
from mpncov_zoo.manifest import DESCRIPTION_FILE, Metric, load_manifest, parse_description
from mpncov_zoo.progress import progress_bar
from mpncov_zoo.training.datasets import Split, evaluation_batches


@dataclass(frozen=True)
class Evaluation:
    """What came out.

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
        """Their number."""
        return int(self.confusion.sum())

    @property
    def class_accuracy(self) -> dict[str, float | None]:
        """Percent of each class's images that were recognised; None for a class without images."""
        right, total = np.diag(self.confusion).tolist(), self.confusion.sum(axis=1).tolist()
        counts = zip(self.class_names, right, total, strict=True)
        return {name: 100 * right / total if total else None for name, right, total in counts}


def evaluate(model: ImageClassifier, images: Split, *, batch_size: int = 250, progress: bool = False) -> Evaluation:
    """Classify a data set and count.

    Args:
        model: the network; the images pass through its input specification.
        images: the data set, of the model's classes.
        batch_size: images at once; the result does not depend on it.
        progress: show a bar on standard error.

    Raises:
        InputError: no images, other classes than the model's, or logits that are not finite.

    Example:
        >>> evaluate(model, fashion_mnist("/usr/share/datasets/fashion-mnist", "test")).top1
        94.34
    """
    _require_same_classes(model, images)
    logits = []
    with progress_bar(len(images), "image", show=progress) as bar:
        for batch, labels in evaluation_batches(images, model.input_specification, batch_size):
            logits.append(np.asarray(model.predict_on_batch(batch)))
            bar.update(len(labels))
    return _count(np.concatenate(logits).astype(np.float64), images)


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


def published_metrics(model: ImageClassifier, dataset: str, split: str) -> tuple[Metric, ...]:
    """What the manifest states for a model's loaded weights on this split of this data set."""
    weights = model.load_report.weights
    entry = load_manifest().get(weights) if weights else None
    stated: Iterable[Metric] = entry.metrics if entry is not None else ()
    return tuple(m for m in stated if m.dataset == dataset and m.protocol.partition(",")[0] == split)


def _require_same_classes(model: ImageClassifier, images: Split) -> None:
    if not len(images):
        raise InputError("There are no images to evaluate on.")
    if model.num_classes != len(images.class_names):
        raise InputError(
            f"{model.name} tells {model.num_classes} classes apart, the data set has {len(images.class_names)}."
        )
    for index, (known, given) in enumerate(zip(model.labels or (), images.class_names, strict=False)):
        if known != given:
            raise InputError(f"Class {index} is {known!r} to {model.name}, but {given!r} in the data set.")


def _count(logits: np.ndarray, images: Split) -> Evaluation:
    """Logits float64 (images, classes)."""
    if not np.isfinite(logits).all():
        raise InputError("The network's logits are not finite: its weights or its input are broken.")
    count, true = len(logits), images.labels
    order = np.argsort(-logits, axis=1, kind="stable")  # of equal logits the first, as ImageClassifier.decode
    right = order[:, :5] == true[:, None]
    highest = logits.max(axis=1)
    log_sum = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    confusion = np.zeros((logits.shape[1],) * 2, np.int64)
    np.add.at(confusion, (true, order[:, 0]), 1)
    return Evaluation(
        top1=100 * int(right[:, 0].sum()) / count,
        top5=100 * int(right.sum()) / count,
        cross_entropy=float(np.mean(log_sum - logits[np.arange(count), true])),
        confusion=confusion,
        class_names=images.class_names,
    )
