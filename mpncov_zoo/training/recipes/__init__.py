"""Reads recipes, which describe training runs as data. A recipe is a TOML file in this folder, or any other one.

`extends = "NAME"` begins with the values of another recipe, or of a file beside this one, and changes some of them.
Sections are changed key by key. An empty section, or an empty text, takes back what the other recipe says. What `input`
leaves out is as the backbone of the model has it.
"""

import json
import os
import tomllib
from collections.abc import Sequence
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from mpncov_zoo.catalog import architecture_and_input
from mpncov_zoo.documents import Name, StrictModel, first_problem
from mpncov_zoo.errors import InputError
from mpncov_zoo.hub.local import is_path
from mpncov_zoo.specification import InputSpecification
from mpncov_zoo.training.shares import Shares


class Optimizer(StrictModel):
    """SGD with momentum; linear warm-up from zero, then a schedule.

    Attributes:
        learning_rate: at the end of the warm-up.
        weight_decay: coupled L2: added to every gradient before the momentum, as published.
        decay_all: of every learned variable, as published; false leaves out biases and batch norm's gamma and beta.
        classifier_factor: of the classifier's learning rate, published as 5 for fine-tuning.
        warmup_epochs: from 0 to `learning_rate`.
        schedule: "cosine" to zero, "step" by `step_factor` after each of `step_epochs`, or "constant".
        momentum: of the velocity, 0 for none.
        nesterov: look ahead along it.
        accumulate: batches whose mean gradient makes one step; what is left of them at the end of a stage is not used.
    """

    learning_rate: float = Field(gt=0, le=1e30)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=0.0, ge=0)
    decay_all: bool = True
    classifier_factor: float = Field(default=1.0, gt=0)
    warmup_epochs: int = Field(default=0, ge=0)
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    step_epochs: tuple[int, ...] = ()
    step_factor: float = Field(default=0.1, gt=0, lt=1)
    accumulate: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _steps_of_the_schedule(self) -> Self:
        if bool(self.step_epochs) != (self.schedule == "step"):
            raise ValueError("step_epochs is for schedule 'step', and required there")
        if list(self.step_epochs) != sorted({*self.step_epochs}) or any(epoch < 1 for epoch in self.step_epochs):
            raise ValueError("step_epochs must increase, from 1 on")
        return self


class RandomResizedCrop(StrictModel):
    """A random part of the image, resized to what the network takes (Szegedy et al., 2015), as torchvision does it.

    Attributes:
        scale: (least, most) of the image's area that the part has.
        ratio: (least, most) width over height of the part; its logarithm is uniform.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for name, (least, most), bound in (("scale", self.scale, 1.0), ("ratio", self.ratio, float("inf"))):
            if not 0 < least <= most <= bound:
                raise ValueError(f"{name} is (least, most), above 0 and at most {bound:g}; received ({least}, {most})")
        return self


class Augmentation(StrictModel):
    """Random changes of the training images, in this order.

    Attributes:
        random_resized_crop: takes the place of the resizing and cropping that `input` describes.
        crop: where that cropping takes place: at the centre, as in evaluation, or anywhere.
        pad_crop: pixels of zero padding on each side before a random crop of the original size.
        flip: mirror left and right with probability 1/2.
    """

    random_resized_crop: RandomResizedCrop | None = None
    crop: Literal["center", "random"] = "center"
    pad_crop: int = Field(default=0, ge=0, le=1024)
    flip: bool = False

    @model_validator(mode="after")
    def _one_crop(self) -> Self:
        if self.random_resized_crop and (self.crop == "random" or self.pad_crop):
            raise ValueError("random_resized_crop is a crop already: leave crop and pad_crop at their defaults")
        return self


class FirstStage(StrictModel):
    """The first of two stages: the classifier alone learns, on features as they are (bilinear pooling's protocol).

    Attributes:
        epochs: of this stage; those of the recipe follow.
        optimizer: of this stage; the second one begins anew with the recipe's.
    """

    epochs: int = Field(ge=1, le=10**6)
    optimizer: Optimizer

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        _require_fitting(self.optimizer, self.epochs)
        return self


class Recipe(StrictModel):
    """Everything that determines a training run, apart from the data.

    Attributes:
        model: the network, by its name, or the path of an artifact or a run: then of its architecture, and with its
            weights, unless `pretrained` says otherwise.
        tag: of the weights that come out, "<model>.<tag>".
        dataset: the layout of the data, a name of `training.datasets.DATASETS`.
        input: how images become the network's input, in training and ever after.
        epochs: passes through the training images; with `first_stage`, those after it.
        batch_size: images of one step, of all devices together.
        remainder: what becomes of the images that do not fill a batch. "train": the batches of an epoch are a little
            smaller, all alike up to one image, and it has all images. "skip": the last ones of its shuffle are left
            out, others in each epoch. By default "skip" where that is at most one image in a hundred, or where
            several devices share the batches, and else "train".
        seed: of the initial weights, the order of the images, augmentation and dropout.
        precision: Keras' dtype policy; weights, head and statistics are float32 under each.
        label_smoothing: share of each target that is spread over all classes.
        stages: of the model's backbone, for the representation to stand on, none for its end. What a file leaves out is
            as the model has it.
        options: architecture options that differ from the registry's, by part.
        pretrained: the weights to begin with, a tag, or true for the default ones; the classifier is fresh, and so is
            the representation where the weights have none or another one.
        freeze: the stage of the network that stays as it is, with all before it ("features": the whole trunk); its
            batch normalisation uses the statistics that it has.
        first_stage: the classifier alone, before everything.
        split: takes a test split, a validation split or both from the training images, where the data set has none of
            that name: a share of each class, chosen by a seed of its own.
        validation: the split that every epoch is measured on; by default "val", if `split` makes it, else none.
        holdout: instead of a split, so many training images, or such a share of them (0.2), rounded and at least one,
            are kept apart for that: the last of a seeded shuffle. `split.val` takes a share of each class instead.
        keep: the weights that come out: of the epoch with the "best" accuracy on the validation images (of equal ones
            that with the lower loss), or of the "last" epoch; without validation images always that.
        early_stop: epochs without a better one after which the run ends, 0 for never.
        ema: momentum, a batch, of an exponential moving average of the learned weights, which is what is measured and
            comes out; 0 for none. Not in the first stage.
        corrupt_tolerance: share of the image files that may be undecodable and are left out; ten may always be.
        optimizer: how weights learn.
        augmentation: random changes of the training images.
    """

    model: str
    tag: Name
    dataset: str
    input: InputSpecification
    epochs: int = Field(ge=1, le=10**6)
    batch_size: int = Field(ge=1)
    remainder: Literal["train", "skip"] | None = None
    seed: int = Field(default=0, ge=0, lt=2**32)
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    stages: tuple[str, ...] = ()
    options: dict[str, dict[str, Any]] = {}
    pretrained: bool | Annotated[str, Field(min_length=1)] = False
    freeze: str | None = None
    split: Shares | None = None
    validation: str | None = None
    holdout: int | float = 0
    keep: Literal["best", "last"] = "best"
    early_stop: int = Field(default=0, ge=0)
    ema: float = Field(default=0.0, ge=0, lt=1)
    corrupt_tolerance: float = Field(default=0.001, ge=0, lt=1)
    optimizer: Optimizer
    augmentation: Augmentation = Augmentation()
    first_stage: FirstStage | None = None

    @model_validator(mode="before")
    @classmethod
    def _val_is_watched(cls, data: Any) -> Any:
        """A validation split that `split` makes is for that, unless the recipe says otherwise."""
        split = data.get("split") if isinstance(data, dict) else None
        watched = isinstance(split, dict) and split.get("val") and not data.get("validation")
        return {**data, "validation": "val"} if watched else data

    @field_validator("holdout", mode="before")
    @classmethod
    def _images_or_share(cls, value: Any) -> Any:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not (value >= 0 if isinstance(value, int) else 0 <= value < 1):
            raise ValueError("it is a whole number of images, or a share of them between 0 and 1, such as 0.2")
        return value or 0

    @field_validator("first_stage", "freeze", "remainder", "split", "validation", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return None if value in ({}, "") else value

    @model_validator(mode="after")
    def _known_model(self) -> Self:
        architecture_and_input(self.model)
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        _require_fitting(self.optimizer, self.epochs)
        return self

    @model_validator(mode="after")
    def _one_validation(self) -> Self:
        if self.validation and self.holdout:
            raise ValueError("validation names a split, holdout takes training images: leave one of them out")
        if self.validation == "train":
            raise ValueError("validation must be another split than 'train'; holdout keeps training images apart")
        if self.early_stop and not (self.validation or self.holdout):
            raise ValueError("early_stop needs images to measure on: set validation or holdout")
        return self

    def held_out(self, images: int) -> int:
        """How many of so many training images `holdout` keeps apart."""
        return self.holdout if isinstance(self.holdout, int) else max(1, round(self.holdout * images))

    def phases(self) -> "tuple[Recipe, ...]":
        """A recipe without `first_stage` for the classifier alone, if there is one, and for what comes after it."""
        last = self.model_copy(update={"first_stage": None})
        if self.first_stage is None:
            return (last,)
        alone = {"epochs": self.first_stage.epochs, "optimizer": self.first_stage.optimizer, "ema": 0.0}
        return last.model_copy(update={**alone, "freeze": "representation"}), last


def _require_fitting(optimizer: Optimizer, epochs: int) -> None:
    if optimizer.warmup_epochs >= epochs:
        raise ValueError("optimizer.warmup_epochs must be less than epochs")


def list_recipes() -> list[str]:
    """The names of the recipes that come with the package."""
    return sorted(
        Path(entry.name).stem for entry in resources.files(__name__).iterdir() if entry.name.endswith(".toml")
    )


def load_recipe(name: str | PathLike[str], settings: Sequence[str] = ()) -> Recipe:
    """Read and validate a recipe.

    Args:
        name: a name of `list_recipes()`, or the path of a TOML file.
        settings: changes, "key=value" or "section.key=value", the value as TOML (a bare word is text).

    Raises:
        InputError: no such recipe, not TOML, an unknown key (with the closest one), a value out of range.
    """
    name = os.fspath(name)
    values = _recipe_values(name, ())
    for setting in settings:
        _apply(values, setting)
    given = values.get("input", {})
    if isinstance(values.get("model"), str) and isinstance(given, dict):  # else the validation says what is wrong
        architecture, usual = architecture_and_input(values["model"])
        values["input"] = {**usual.model_dump(), **given}
        values.setdefault("stages", architecture.stages)
        values.setdefault("pretrained", is_path(values["model"]))
    try:
        return Recipe.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        raise InputError(f"Recipe {name}: {first_problem(error, document='')}") from error


def load_shares(settings: Sequence[str]) -> Shares | None:
    """Read the section `split` alone, for what divides a data set without a recipe; None without settings.

    Args:
        settings: "split.key=value".

    Raises:
        InputError: another key, or a value out of range.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        _apply(values, setting)
    if values.keys() - {"split"}:
        raise InputError(f"Only split.test, split.val and split.seed can be set here. Received: {min(values)}.")
    try:
        return Shares.model_validate(values["split"]) if values.get("split") else None
    except ValidationError as error:
        raise InputError(f"split: {first_problem(error, document='')}") from error


def _recipe_values(name: str, extended_by: tuple[str, ...]) -> dict[str, Any]:
    """The values of a file, on top of those of the recipe that it `extends`."""
    if name in extended_by:
        raise InputError(f"Recipe {name} extends itself: {' -> '.join((*extended_by, name))}.")
    try:
        values = tomllib.loads(_recipe_text(name))
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"Recipe {name}: not valid TOML: {error}.") from error
    base = values.pop("extends", None)
    if base is None:
        return values
    beside = os.path.normpath(Path(name).parent / base) if str(base).endswith(".toml") else str(base)
    return _merged(_recipe_values(beside, (*extended_by, name)), values)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Sections are merged key by key, unless the change is empty; everything else is replaced."""
    both = (
        key for key in base.keys() & changes.keys() if isinstance(base[key], dict) and isinstance(changes[key], dict)
    )
    return base | changes | {key: _merged(base[key], changes[key]) for key in both if changes[key]}


def _recipe_text(name: str) -> str:
    if name in list_recipes():
        return resources.files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8-sig")
    path = Path(name)
    if path.suffix != ".toml" or not path.is_file():
        raise InputError(f"No recipe {name!r}; allowed are {', '.join(list_recipes())}, or the path of a .toml file.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"Recipe {name}: cannot be read: {error.strerror}.") from error


def _apply(values: dict[str, Any], setting: str) -> None:
    key, separator, text = (part.strip() for part in setting.partition("="))
    if not separator or not key:
        raise InputError(f"A setting is key=value, for example epochs=10. Received: {setting!r}.")
    *sections, last = (part.strip() for part in key.split("."))
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise InputError(f"{section!r} in {setting!r} is not a section of the recipe.")
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        parsed = {"value": text}
    if parsed.keys() != {"value"}:
        raise InputError(f"A setting is one key=value. Received: {setting!r}.")
    values[last] = parsed["value"]
