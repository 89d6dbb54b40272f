"""Recipes: training runs as data. A recipe is a TOML file in this folder, or any path to one."""

import json
import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from mpncov_zoo.documents import StrictModel, first_problem
from mpncov_zoo.errors import InputError
from mpncov_zoo.manifest import InputSpecification, Name
from mpncov_zoo.registry import canonical_name


class Optimizer(StrictModel):
    """SGD with momentum; linear warm-up, then a cosine to zero.

    Attributes:
        learning_rate: at the end of the warm-up.
        weight_decay: coupled L2: added to every gradient before the momentum, as published.
    """

    learning_rate: float = Field(gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_epochs: int = Field(default=0, ge=0)


class Augmentation(StrictModel):
    """Random changes of the training images.

    Attributes:
        pad_crop: pixels of zero padding on each side before a random crop of the original size.
        flip: mirror left and right with probability 1/2.
    """

    pad_crop: int = Field(default=0, ge=0)
    flip: bool = False


class Recipe(StrictModel):
    """All that determines a training run, apart from the data.

    Attributes:
        holdout: training images kept apart as a validation set (the last ones of a seeded shuffle), 0 for none.
        options: architecture options that differ from the registry's, by part.
    """

    model: str
    tag: Name
    dataset: str
    input: InputSpecification
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    seed: int = Field(default=0, ge=0)
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    holdout: int = Field(default=0, ge=0)
    options: dict[str, dict[str, Any]] = {}
    optimizer: Optimizer
    augmentation: Augmentation = Augmentation()

    @model_validator(mode="after")
    def _known_model(self) -> Self:
        canonical_name(self.model)
        return self

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if self.optimizer.warmup_epochs >= self.epochs:
            raise ValueError("optimizer.warmup_epochs must be less than epochs")
        return self


def list_recipes() -> list[str]:
    """The names of the recipes that come with the package."""
    return sorted(
        Path(entry.name).stem for entry in resources.files(__name__).iterdir() if entry.name.endswith(".toml")
    )


def load_recipe(name: str, settings: Sequence[str] = ()) -> Recipe:
    """Read and validate a recipe.

    Args:
        name: a name of `list_recipes()`, or the path of a TOML file.
        settings: changes, "key=value" or "section.key=value", the value as TOML (a bare word is text).

    Raises:
        InputError: no such recipe, not TOML, an unknown key, a value out of range.
    """
    try:
        values = tomllib.loads(_recipe_text(name))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"Recipe {name}: not valid TOML: {error}.") from error
    for setting in settings:
        _apply(values, setting)
    try:
        return Recipe.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        raise InputError(f"Recipe {name}: {first_problem(error)}") from error


def _recipe_text(name: str) -> str:
    if name in list_recipes():
        return resources.files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8")
    path = Path(name)
    if path.suffix != ".toml" or not path.is_file():
        raise InputError(f"No recipe {name!r}; allowed are {', '.join(list_recipes())}, or the path of a .toml file.")
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"Recipe {name}: cannot be read: {error.strerror}.") from error


def _apply(values: dict[str, Any], setting: str) -> None:
    key, separator, text = setting.partition("=")
    if not separator or not key:
        raise InputError(f"A setting is key=value, for example epochs=10. Received: {setting!r}.")
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise InputError(f"{section!r} in {setting!r} is not a section of the recipe.")
    try:
        values[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        values[last] = text
