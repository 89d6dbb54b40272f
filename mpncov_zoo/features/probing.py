"""A probe: how well a linear classifier on frozen features tells the classes of a data set, and that classifier."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mpncov_zoo.description import Metric
from mpncov_zoo.errors import InputError
from mpncov_zoo.features.linear import coordinates, fit, products, require_scikit_learn
from mpncov_zoo.features.report import Report, Score
from mpncov_zoo.features.stored import stored_features
from mpncov_zoo.registry import with_options
from mpncov_zoo.training.datasets import Files, Images, Shares, dataset_splits, read_dataset
from mpncov_zoo.training.datasets.division import positions

if TYPE_CHECKING:
    from mpncov_zoo.classifier import ImageClassifier

TRAIN, SPLITS = 0.2, 5
OWN = "test"  # the split of a data set that is its own, on which it is measured
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Data:
    """The images of a data set in one row, their classes, and how they are divided, once for each split."""

    parts: Sequence[Files | Images]
    labels: np.ndarray
    class_names: tuple[str, ...]
    divisions: Sequence[tuple[np.ndarray, np.ndarray]]


def probe(
    model: str | PathLike[str] | ImageClassifier,
    data: str | PathLike[str],
    *,
    dataset: str = "folders",
    stages: Sequence[str] | None = None,
    pool: str | None = None,
    train: float | None = None,
    splits: int = SPLITS,
    seed: int = 0,
    balanced: bool = False,
    size: int | None = None,
    batch_size: int = 32,
    output: str | PathLike[str] | None = None,
    tag: str = "probe",
    hub: str | PathLike[str] | None = None,
    cache_dir: str | PathLike[str] | None = None,
    offline: bool | None = None,
    progress: bool = False,
) -> Report:
    """Measure a linear classifier on the frozen features of a network.

    The features of every stage are normalised to length 1. The classifier is a linear support vector machine whose C
    is chosen by cross-validation on the training images of each split, as in the fine-grained protocol of iSQRT-COV
    (Li et al., CVPR 2018, Sec. 4.3).

    Args:
        model: a pretrained network, by its name or path, or a network.
        data: the directory of the images.
        dataset: their layout, a name of `mpncov_zoo.training.datasets.DATASETS`.
        stages: of the trunk, for the pooling to stand on; by default its end.
        pool: the representation: "mpncov", "gap", "bcnn" or "cbp"; by default the network's own.
        train: the share of each class to learn from, in random splits; by default the data set's own split "test" is
            measured on, or, where it has none, 0.2 is taken.
        splits: how many random splits.
        seed: of the splits.
        balanced: weigh classes by the inverse of their size.
        size: height and width of the images, in pixels; by default the network's.
        batch_size: images at once.
        output: a directory; the network with the classifier, which has then learned from all images (with the data
            set's own splits from the training images), is written into it as the artifact `<model>.<tag>`.
        tag: of that artifact.
        hub: the only place to look for the weights, as `mpncov_zoo.load` takes it.
        cache_dir: of `load`; the features are kept there, too.
        offline: of `load`.
        progress: show a bar on standard error.

    Returns:
        What was measured.

    Raises:
        InputError: an argument cannot be used, a class has too few images, weights that the features need are fresh.
        ZooError: scikit-learn is missing.
        UnknownModel, NoPretrainedWeights, FetchError, IntegrityError: of `mpncov_zoo.load`.

    Example:
        >>> report = probe("efficientnet_lite0", "photos", stages=["stage5"], pool="mpncov", output="classifiers")
        >>> mpncov_zoo.load(report.artifact)
    """
    require_scikit_learn()
    _check(train, splits)
    images = _read(dataset, data, train, splits, seed)
    loaded = _loaded(model, stages, pool, hub, cache_dir, offline)
    network = _normalising(loaded, len(images.class_names), size)
    target = None if output is None else Path(output) / f"{network.architecture.name}.{tag}"
    if target is not None and target.exists():
        raise InputError(f"{target} exists already: give another output or tag.")
    started = time.perf_counter()
    features = stored_features(network, images.parts, cache_dir=cache_dir, batch_size=batch_size, progress=progress)
    computed = time.perf_counter()
    gram = products(features)
    found = [_measure(features, gram, images, division, balanced, seed) for division in images.divisions]
    report = Report(
        model=network.name,
        stages=network.architecture.stages,
        dimension=features.shape[1],
        dataset=dataset,
        images=len(images.labels),
        classes=len(images.class_names),
        train=None if len(images.parts) > 1 else train or TRAIN,
        seed=seed,
        top1=Score.of([top1 for top1, _, _ in found]),
        balanced_accuracy=Score.of([accuracy for _, accuracy, _ in found]),
        constants=tuple(constant for _, _, constant in found),
        seconds={"features": computed - started, "classifiers": time.perf_counter() - computed},
    )
    if target is None:
        return report
    _learn(network, features, gram, images, balanced, seed)
    options = {"stage": stages, "pool": pool, "train": train, "splits": splits, "seed": seed, "size": size}
    named = model if isinstance(model, str | PathLike) else report.model
    command = _command(named, data, {"dataset": dataset, **options, "balanced": () if balanced else None})
    _write(network, target, report, command)
    return replace(report, artifact=str(target))


def _check(train: float | None, splits: int) -> None:
    if train is not None and not 0 < train < 1:
        raise InputError(f"train is a share of the images of each class, above 0 and below 1. Received: {train!r}.")
    if splits < 1:
        raise InputError(f"splits must be at least 1. Received: {splits!r}.")


def _read(dataset: str, data: str | PathLike[str], train: float | None, splits: int, seed: int) -> _Data:
    own = train is None and OWN in dataset_splits(dataset, data)
    parts = [_images(dataset, data, name) for name in (("train", OWN) if own else ("train",))]
    labels = np.concatenate([part.labels for part in parts])
    first = len(parts[0])
    if own:
        divisions = [(np.arange(first), np.arange(first, len(labels)))]
    else:
        divisions = list(_random_splits(parts[0], train or TRAIN, splits, seed))
    for training, _ in divisions:
        counts = np.bincount(labels[training], minlength=len(parts[0].class_names))
        if counts.min() < 2:
            name = parts[0].class_names[counts.argmin()]
            raise InputError(
                f"{data}: the class {name!r} has {counts.min()} images to learn from, and a probe needs 2: add images, "
                "remove the class, or take a larger share, --train."
            )
    return _Data(parts, labels, parts[0].class_names, divisions)


def _images(dataset: str, data: str | PathLike[str], split: str) -> Files | Images:
    found = read_dataset(dataset, data, split)
    if not isinstance(found, Files | Images):
        raise InputError(f"A probe reads image files. Received: {data}, which is packed: give what it was packed from.")
    return found


def _random_splits(
    images: Files | Images, train: float, splits: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for number in range(splits):
        parts = positions(images, Shares(test=1 - train, seed=seed + number))
        yield parts["train"], parts["test"]


def _loaded(
    model: Any,
    stages: Sequence[str] | None,
    pool: str | None,
    hub: str | PathLike[str] | None,
    cache_dir: str | PathLike[str] | None,
    offline: bool | None,
) -> ImageClassifier:
    from mpncov_zoo.classifier import ImageClassifier
    from mpncov_zoo.zoo import load

    if isinstance(model, ImageClassifier):
        if any(value is not None for value in (stages, pool, hub, offline)):
            raise InputError(f"{model.name} is a network already: leave out stages, pool, hub and offline.")
        return model
    return load(
        model,
        True,
        num_classes=0,
        representation=pool,
        stages=stages,
        hub=hub,
        cache_dir=cache_dir,
        offline=offline,
    )


def _normalising(model: ImageClassifier, classes: int, size: int | None) -> ImageClassifier:
    """The same network for images of this size, with vectors of length 1, and a dense classifier, still empty."""
    from mpncov_zoo.classifier import ImageClassifier
    from mpncov_zoo.pretrained import require_pretrained

    require_pretrained(model, "representation")
    options = {"representation": {"l2_normalize": True}}
    height, width, channels = model.input_shape[1:]
    shape = (height, width, channels) if size is None else (size, size, channels)
    network = ImageClassifier(
        replace(with_options(model.architecture, options), classifier_options={}),
        num_classes=classes,
        input_shape=shape,
        input_specification=model.input_specification.for_shape(shape),
        initialize=(),
    )
    given = model.named_variables()
    for name, variable in network.named_variables().items():
        if not name.startswith("classifier/"):
            variable.assign(given[name])
    network.load_report = model.load_report
    return network


def _measure(
    features: np.ndarray,
    gram: np.ndarray | None,
    images: _Data,
    division: tuple[np.ndarray, np.ndarray],
    balanced: bool,
    seed: int,
) -> tuple[float, float, float]:
    """Top-1 and balanced accuracy on the test images of a split, and C."""
    training, test = division
    place = coordinates(features, gram, training, test)
    classes = len(images.class_names)
    machine = fit(place.training, images.labels[training], classes, balanced=balanced, seed=seed)
    right = machine.logits(place.test).argmax(1) == images.labels[test]
    shares = [right[images.labels[test] == number].mean() for number in np.unique(images.labels[test])]
    logger.info("a split: %.2f %% of %d test images, C %g", 100 * right.mean(), len(test), machine.constant)
    return float(right.mean()), float(np.mean(shares)), machine.constant


def _learn(
    network: ImageClassifier, features: np.ndarray, gram: np.ndarray | None, images: _Data, balanced: bool, seed: int
) -> None:
    """Give the network the classifier of all training images, and its classes their names."""
    learned, classes = np.arange(len(images.parts[0])), len(images.class_names)
    place = coordinates(features, gram, learned, learned[:0])
    machine = fit(place.training, images.labels[learned], classes, balanced=balanced, seed=seed)
    machine = place.in_features(machine, features[: len(learned)])
    classifier = network.classifier
    assert classifier is not None
    kernel, bias = classifier.get_layer("logits").weights
    kernel.assign(machine.weights.astype(np.float32))
    bias.assign(machine.bias.astype(np.float32))
    network.labels = images.class_names


def _command(model: str | PathLike[str], data: str | PathLike[str], options: dict[str, Any]) -> str:
    """The command line that measures the same."""
    words = ["mpncov-zoo", "probe", model, "--data", data]
    for name, value in options.items():
        if value is not None:
            words += [f"--{name}", *(value if isinstance(value, list | tuple) else (value,))]
    return shlex.join(map(str, words))


def _write(network: ImageClassifier, path: Path, report: Report, command: str) -> None:
    from mpncov_zoo import artifact

    random = f"{len(report.top1.splits)} random splits with a share of {report.train} to learn from"
    how, learned = (random, "all images") if report.train else ("its own split", "the training images")
    metric = Metric(
        name="top-1 accuracy",
        value=100 * report.top1.mean,
        dataset=report.dataset,
        split=OWN,
        views="single",
        remark=f"a linear classifier on these features, {how}; these weights have learned from {learned}",
        origin="measured here",
        command=command,
    )
    found = {"command": command, "report": report.to_dict()}
    provenance = {"kind": "probe", "features": network.load_report.weights, **found}
    artifact.write(network, path, tag=path.name.rpartition(".")[2], provenance=provenance, metrics=[metric])
