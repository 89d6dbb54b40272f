"""A probe: how well a linear classifier on frozen features tells the classes of a data set, and that classifier."""

from __future__ import annotations

import logging
import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mpncov_zoo.architectures import with_options
from mpncov_zoo.description import Metric
from mpncov_zoo.documents import NAME
from mpncov_zoo.errors import InputError
from mpncov_zoo.features.divisions import OWN, Divided, divided
from mpncov_zoo.features.linear import coordinates, fit, products, require_scikit_learn
from mpncov_zoo.features.report import ProbeReport, Score
from mpncov_zoo.features.stored import identity_of, stored_features
from mpncov_zoo.training.datasets import require_outside

if TYPE_CHECKING:
    from mpncov_zoo.classifier import ImageClassifier

SPLITS = 5
logger = logging.getLogger(__name__)


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
) -> ProbeReport:
    """Measure a linear classifier on the frozen features of a network.

    The features of every stage are normalised to length 1. The classifier is a linear support vector machine whose C
    is chosen by cross-validation on the training images of each split.

    Args:
        model: a pretrained network, by its name or path; or a network that is not optimized, whose weights are taken
            as they are.
        data: the directory of the images.
        dataset: their layout, a name of `mpncov_zoo.training.datasets.DATASETS`.
        stages: of the trunk, for the pooling to stand on; by default those of the model, most often its end.
        pool: the representation of these stages, "mpncov", "gap", "bcnn" or "cbp"; by default that of the network.
        train: the share of each class to learn from, in random splits of all images; by default the
            classifier learns from the data set's own split "train" and is measured on its "test", and if there is no
            "test", the share is 0.2.
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
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1. Received: {batch_size!r}.")
    if not re.fullmatch(NAME, tag):
        raise InputError(f"A tag is lower-case letters, digits, '_' and '-'. Received: {tag!r}.")
    images = divided(dataset, data, train=train, splits=splits, seed=seed)
    loaded = _loaded(model, stages, pool, hub, cache_dir, offline)
    probed = _Normalised(loaded, len(images.class_names), size)
    target = None if output is None else Path(output) / f"{probed.architecture.name}.{tag}"
    if target is not None:
        require_outside(dataset, data, target)
        if target.exists():
            raise InputError(f"{target} exists already: give another output or tag.")
    started = time.perf_counter()
    if size is not None:
        _ = probed.network  # refuses a size that the network cannot take before the images are read
    features, rows = stored_features(
        identity_of(probed.architecture, probed.input_shape, probed.input_specification, loaded),
        lambda: probed.network,
        images.parts,
        cache_dir=cache_dir,
        batch_size=batch_size,
        progress=progress,
    )
    images = images.in_rows(rows)
    computed = time.perf_counter()
    gram = products(features)
    found = [_measure(features, gram, images, division, balanced, seed) for division in images.divisions]
    report = ProbeReport(
        model=probed.architecture.name,
        stages=probed.architecture.stages,
        dimension=features.shape[1],
        dataset=dataset,
        images=len(images.labels),
        classes=len(images.class_names),
        train=images.train,
        seed=seed,
        top1=Score.of([_top1(confusion) for confusion, _ in found]),
        balanced_accuracy=Score.of([_balanced_accuracy(confusion) for confusion, _ in found]),
        class_names=images.class_names,
        confusion=tuple(map(tuple, np.sum([confusion for confusion, _ in found], axis=0).tolist())),
        constants=tuple(constant for _, constant in found),
        seconds={"features": computed - started, "classifiers": time.perf_counter() - computed},
    )
    if target is None:
        return report
    _learn(probed.network, features, gram, images, balanced, seed)
    command = None
    if isinstance(model, str | PathLike):
        where = {"dataset": dataset, "hub": hub, "stage": stages, "pool": pool, "size": size}
        how = {"train": train, "splits": splits, "seed": seed, "balanced": () if balanced else None}
        command = _command(model, data, {**where, **how})
    _write(probed.network, target, tag, report, command)
    return replace(report, artifact=str(target))


def _loaded(
    model: Any,
    stages: Sequence[str] | None,
    pool: str | None,
    hub: str | PathLike[str] | None,
    cache_dir: str | PathLike[str] | None,
    offline: bool | None,
) -> ImageClassifier:
    from mpncov_zoo.classifier import ImageClassifier
    from mpncov_zoo.pretrained import require_pretrained
    from mpncov_zoo.zoo import load

    if isinstance(model, ImageClassifier):
        if any(value is not None for value in (stages, pool, hub, offline)):
            raise InputError(f"{model.name} is a network already: leave out stages, pool, hub and offline.")
        if model.folded:
            raise InputError(f"{model.name} is optimized, for inference alone: probe the network that it was made of.")
        return model
    if pool is not None and not stages:
        raise InputError(
            f"pool={pool!r} needs stages to stand on, such as stages=['stage5']; leave both out for the "
            "representation that the network has."
        )
    found = load(
        model,
        True,
        num_classes=0,
        representation=pool,
        stages=stages,
        hub=hub,
        cache_dir=cache_dir,
        offline=offline,
    )
    require_pretrained(found, "representation")
    return found


class _Normalised:
    """A network for images of this size, whose features have length 1; it is built when it is first asked for.

    Its weights up to the representation are those of the given model. Its dense classifier is still empty.

    Attributes:
        architecture: of the network.
        input_shape: its (height, width, channels).
        input_specification: how images become its input.
    """

    def __init__(self, model: ImageClassifier, classes: int, size: int | None):
        height, width, channels = model.input_shape[1:]
        self.model, self.classes = model, classes
        self.input_shape = (height, width, channels) if size is None else (size, size, channels)
        self.input_specification = model.input_specification.for_shape(self.input_shape)
        normalised = with_options(model.architecture, {"representation": {"l2_normalize": True}})
        self.architecture = replace(normalised, classifier_options={})

    @cached_property
    def network(self) -> ImageClassifier:
        """The network, which the first call builds.

        Raises:
            InputError: the network cannot take images of this size.
        """
        from mpncov_zoo.classifier import ImageClassifier

        network = ImageClassifier(
            self.architecture,
            num_classes=self.classes,
            input_shape=self.input_shape,
            input_specification=self.input_specification,
            initialize=(),
        )
        given = self.model.named_variables()
        for name, variable in network.named_variables().items():
            if not name.startswith("classifier/"):
                variable.assign(given[name])
        network.load_report = self.model.load_report
        return network


def _measure(
    features: np.ndarray,
    gram: np.ndarray | None,
    images: Divided,
    division: tuple[np.ndarray, np.ndarray],
    balanced: bool,
    seed: int,
) -> tuple[np.ndarray, float]:
    """The test images of a split by true class and answer, int64 (classes, classes); and C."""
    training, test = division
    place = coordinates(features, gram, training, test)
    classes = len(images.class_names)
    machine = fit(place.training, images.labels[training], classes, balanced=balanced, seed=seed)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (images.labels[test], machine.logits(place.test).argmax(1)), 1)
    logger.info("a split: %.2f %% of %d test images, C %g", 100 * _top1(confusion), len(test), machine.constant)
    return confusion, machine.constant


def _top1(confusion: np.ndarray) -> float:
    return float(np.trace(confusion) / confusion.sum())


def _balanced_accuracy(confusion: np.ndarray) -> float:
    """The mean over the classes that have test images."""
    images = confusion.sum(axis=1)
    return float((np.diag(confusion)[images > 0] / images[images > 0]).mean())


def _learn(
    network: ImageClassifier, features: np.ndarray, gram: np.ndarray | None, images: Divided, balanced: bool, seed: int
) -> None:
    """Give the network the classifier of all training images, and its classes their names."""
    learned, classes = images.learned, len(images.class_names)
    place = coordinates(features, gram, learned, learned[:0])
    machine = fit(place.training, images.labels[learned], classes, balanced=balanced, seed=seed)
    machine = place.in_features(machine, features, learned)
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


def _write(network: ImageClassifier, path: Path, tag: str, report: ProbeReport, command: str | None) -> None:
    """Write the artifact; what was measured is among its metrics where a command measures it again."""
    from mpncov_zoo import artifact

    random = f"{len(report.top1.splits)} random splits with a share of {report.train} to learn from"
    how, learned = (random, "all images") if report.train else ("its own split", "the training images")
    metrics = []
    if command is not None:
        metrics.append(
            Metric(
                name="top-1 accuracy",
                value=100 * report.top1.mean,
                dataset=report.dataset,
                split=OWN,
                views="single",
                remark=f"a linear classifier on these features, {how}; these weights have learned from {learned}",
                origin="measured here",
                command=command,
            )
        )
    # The artifact has labels of its own, and a confusion of k classes is k * k numbers.
    facts = {name: value for name, value in report.to_dict().items() if name not in ("class_names", "confusion")}
    found = {"command": command, "report": facts}
    provenance = {"kind": "probe", "features": network.load_report.weights, **found}
    artifact.write(network, path, tag=tag, provenance=provenance, metrics=metrics)
