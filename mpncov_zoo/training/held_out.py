"""Finds the images that a run kept apart from training again, so that a network is measured on none that it has seen.

The artifact of a run that divided its images by chance says how: the recipe has shares and seed, and beside it stand
the images that could not be decoded, and a digest of each part.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.description import DESCRIPTION_FILE, parse_description
from mpncov_zoo.documents import StrictModel, first_problem
from mpncov_zoo.errors import InputError
from mpncov_zoo.training.datasets import Shares, Split, dataset_splits, divide, read_dataset

ALL = "all"  # the split that is a whole data set which is not divided
KEY = "division"  # in an artifact's provenance


class Division(StrictModel):
    """How a run divided the training images of its data set.

    Attributes:
        left_out: names of images that could not be decoded, and belong to no part.
        parts: `Split.summary` of what was kept apart, by name.
    """

    left_out: tuple[str, ...] = ()
    parts: Mapping[str, str]


@dataclass(frozen=True)
class _Divided:
    """What an artifact says of its run: the shares, and the result."""

    shares: Shares
    division: Division


def division(whole: Split, usable: Split, shares: Shares) -> Division:
    """What a run has to note for `read_evaluated`.

    Args:
        whole: the training images before they were divided.
        usable: those of them that can be decoded.
        shares: by which they were divided.
    """
    names = [{images.name(index) for index in range(len(images))} for images in (whole, usable)]
    parts = divide(usable, shares)
    return Division(
        left_out=tuple(sorted(names[0] - names[1])) if len(usable) < len(whole) else (),
        parts={name: parts[name].summary() for name in shares.parts()},
    )


def evaluated_splits(model: ImageClassifier, dataset: str, directory: str | PathLike[str]) -> tuple[str, ...]:
    """The splits on which a network can be measured: those of the data set, and those that its run kept apart."""
    divided = _division_of(model, dataset)
    return dataset_splits(dataset, directory, divided.shares if divided else None)


def read_evaluated(model: ImageClassifier, dataset: str, directory: str | PathLike[str], split: str) -> Split:
    """The images of a split to measure a network on.

    Args:
        model: the network; if its run divided the data set, the parts are those of the run.
        dataset: the data set's layout.
        directory: where it lies.
        split: one of `evaluated_splits`, or "all" for all images of a data set that is not divided.

    Raises:
        InputError: there is no such split, or the directory holds other images than those that were divided.
    """
    divided = _division_of(model, dataset)
    if split == ALL:
        return read_dataset(dataset, directory, _only_split(dataset, directory))
    splits = dataset_splits(dataset, directory, divided.shares if divided else None)
    if split not in splits:
        raise InputError(f"{directory} has the splits {', '.join(splits)}. Received: {split!r}.{advice(splits)}")
    if divided is None or split not in ("train", *divided.shares.parts()):
        return read_dataset(dataset, directory, split)
    return _parts_again(read_dataset(dataset, directory, "train"), divided, directory)[split]


def advice(splits: tuple[str, ...]) -> str:
    """What to type where a data set is not divided: a sentence after a blank, or nothing."""
    if len(splits) > 1:
        return ""
    return (
        f" `--split {ALL}` measures on all of its images, which tells something if the network has seen none of them; "
        "`mpncov-zoo train ... --set split.test=0.2` keeps a fifth apart for `--split test`."
    )


def _only_split(dataset: str, directory: str | PathLike[str]) -> str:
    first, *others = dataset_splits(dataset, directory)
    if others:
        splits = ", ".join((first, *others))
        raise InputError(f"{directory} is divided: give one of its splits, {splits}. Received: {ALL!r}.")
    return first


def _parts_again(whole: Split, divided: _Divided, directory: str | PathLike[str]) -> dict[str, Split]:
    """The parts of the run, if the directory still holds them.

    Raises:
        InputError: it holds other images.
    """
    left_out = {*divided.division.left_out}
    kept = [index for index in range(len(whole)) if not left_out or whole.name(index) not in left_out]
    parts = divide(whole.take(np.array(kept, int)), divided.shares)
    for name, before in divided.division.parts.items():
        if name not in parts or parts[name].summary() != before:
            now = parts[name].summary() if name in parts else "no such part"
            raise InputError(
                f"{directory} does not hold the images that the network's run divided: {name} was {before}, now {now}. "
                f"Which of them it has seen is unknown. Give the directory as it was; `--split {ALL}` measures on all "
                "images that are there."
            )
    return parts


def _division_of(model: ImageClassifier, dataset: str) -> _Divided | None:
    """What the artifact of the loaded weights says; None if its run divided nothing, or another data set."""
    source = model.load_report.source
    path = Path(source) / DESCRIPTION_FILE if source and model.load_report.weights else None
    provenance: Mapping[str, Any] = parse_description(path).provenance if path else {}
    recipe = provenance.get("recipe")
    if path is None or not isinstance(recipe, dict) or not recipe.get("split") or recipe.get("dataset") != dataset:
        return None
    try:
        return _Divided(Shares.model_validate(recipe["split"]), Division.model_validate(provenance.get(KEY) or {}))
    except ValidationError as error:
        raise InputError(f"{path} does not say how its run divided the images: {first_problem(error)}.") from error
