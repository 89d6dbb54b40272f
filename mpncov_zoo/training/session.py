"""What a training run works on: the images that a recipe names, their parts, and the batches of its epochs."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path

import numpy as np
import tensorflow as tf

from mpncov_zoo.artifact import writer
from mpncov_zoo.errors import InputError
from mpncov_zoo.training.datasets import Split, dataset_splits, divide, read_dataset, split_holdout
from mpncov_zoo.training.datasets.checking import without_corrupt
from mpncov_zoo.training.datasets.pipelines import WHOLE, Share, training_batches
from mpncov_zoo.training.datasets.splits import require_usable
from mpncov_zoo.training.epochs import epoch_sizes, trains_all_images
from mpncov_zoo.training.recipes import Recipe
from mpncov_zoo.training.runs import Run

HOLDOUT = "holdout"  # what `Recipe.holdout` keeps apart


@dataclass(frozen=True)
class Session:
    """What the parts of a training run share.

    Attributes:
        recipe: what is trained.
        run: its directory.
        devices: the strategy whose replicas share each batch.
        whole: the training images as they were found, before any were left out or kept apart.
        usable: the splits that can be decoded, by name.
        verbose: Keras' progress bar.
    """

    recipe: Recipe
    run: Run
    devices: tf.distribute.Strategy
    whole: Split
    usable: Mapping[str, Split]
    verbose: int

    @cached_property
    def parts(self) -> Mapping[str, Split]:
        """What the usable training images are divided into: "train", and what is kept apart."""
        return divided(self.recipe, self.usable["train"], self.devices.num_replicas_in_sync)

    @property
    def training(self) -> Split:
        """The images to train on."""
        return self.parts["train"]

    @property
    def watched(self) -> Split | None:
        """The images to measure every epoch on, if there are any."""
        found = {**self.usable, **self.parts}
        return found.get(self.recipe.validation or HOLDOUT)

    @property
    def sizes(self) -> np.ndarray:
        """The sizes of an epoch's batches."""
        return epoch_sizes(self.recipe, len(self.training), self.devices.num_replicas_in_sync)

    @property
    def steps(self) -> int:
        """How many batches an epoch has."""
        return len(self.sizes)

    @property
    def at_once(self) -> int:
        """How many images each replica measures at once: no more than it trains on, which its memory holds."""
        return min(250, max(2, self.recipe.batch_size // self.devices.num_replicas_in_sync))

    def batches(self, epoch: int, share: Share = WHOLE, *, first: int = 0) -> tf.data.Dataset:
        """The batches from one of an epoch on, both counted from 0, without end; or a share of each batch."""
        recipe = self.recipe
        return training_batches(
            self.training,
            recipe.input,
            recipe.augmentation,
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            epoch=epoch,
            first=first,
            share=share,
            all_images=trains_all_images(recipe, len(self.training), self.devices.num_replicas_in_sync),
        )


def read_splits(recipe: Recipe, directory: str | PathLike[str], replicas: int) -> dict[str, Split]:
    """The splits that the recipe names, that to train on first and undivided; no image is decoded yet.

    Raises:
        InputError: they cannot be read, have other classes, or are too few images for the recipe.
    """
    name, directory = recipe.dataset, Path(directory)
    parts = recipe.split.parts() if recipe.split else ()
    dataset_splits(name, directory, recipe.split)  # refuses to make one that there is
    splits = {"train": read_dataset(name, directory, "train")}
    if recipe.validation and recipe.validation not in parts:
        splits[recipe.validation] = read_dataset(name, directory, recipe.validation)
    classes = splits["train"].class_names
    writer.require_labels(classes)
    for split_name, split in splits.items():
        if split.class_names != classes:
            other = sorted({*split.class_names} ^ {*classes}) or ["their order"]
            raise InputError(f"{split_name} has other classes than the training images: {', '.join(other[:5])}.")
    divided(recipe, splits["train"], replicas)
    return splits


def divided(recipe: Recipe, images: Split, replicas: int) -> dict[str, Split]:
    """The images to train on, "train", and what is kept apart of them: the parts of `split`, or the holdout.

    Raises:
        InputError: too few images are left for a batch or a step, or the replicas cannot share the batches equally.
    """
    parts = divide(images, recipe.split) if recipe.split else {"train": images}
    training, holdout = split_holdout(parts["train"], recipe.held_out(len(parts["train"])), recipe.seed)
    require_usable(training, training=True)
    if len(training) < recipe.batch_size:
        raise InputError(
            f"batch_size={recipe.batch_size} is more than the {len(training)} images to train on: take fewer at once, "
            f"such as --set batch_size={min(32, len(training))}."
        )
    if recipe.remainder == "train" and replicas > 1:
        raise InputError(
            f"remainder='train' makes batches that {replicas} replicas cannot share equally: leave it out."
        )
    for phase in recipe.phases():
        batches = phase.epochs * len(epoch_sizes(recipe, len(training), replicas))
        if batches < phase.optimizer.accumulate:
            raise InputError(
                f"optimizer.accumulate={phase.optimizer.accumulate} is more than the {batches} batches of a stage: "
                "no step would be taken."
            )
    return {**parts, "train": training, **({HOLDOUT: holdout} if len(holdout) else {})}


def usable(recipe: Recipe, splits: Mapping[str, Split], run: Run, verbose: int) -> dict[str, Split]:
    """The images of each split that can be decoded."""
    return {
        name: without_corrupt(split, tolerance=recipe.corrupt_tolerance, record=run.images(name), progress=verbose == 1)
        for name, split in splits.items()
    }
