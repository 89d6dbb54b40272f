"""The network of a recipe: built anew, with the weights that it begins with."""

import logging
from os import PathLike

import keras

from mpncov_zoo import registry, zoo
from mpncov_zoo.classifier import ImageClassifier, LoadReport, precision
from mpncov_zoo.errors import InputError
from mpncov_zoo.training.recipes import Recipe

logger = logging.getLogger(__name__)


def build(recipe: Recipe, class_names: tuple[str, ...]) -> ImageClassifier:
    """The network of a recipe, freshly initialised, under the recipe's precision.

    Raises:
        InputError: the recipe's options make no network.
    """
    with precision(recipe.precision):
        return ImageClassifier(
            registry.architecture(recipe.model, options=recipe.options),
            num_classes=len(class_names),
            input_shape=(*recipe.input.size, recipe.input.channels),
            input_specification=recipe.input,
            labels=class_names,
        )


def assign_pretrained(model: ImageClassifier, recipe: Recipe, hub: str | PathLike[str] | None = None) -> None:
    """Give a network the features and, where it is the same, the representation that its recipe begins with.

    Args:
        model: the network that `build` made.
        recipe: names the weights.
        hub: the only place to look for them, as `mpncov_zoo.load` takes it.

    Raises:
        NoPretrainedWeights, FetchError, IntegrityError: of `mpncov_zoo.load`.
        InputError: the weights are of other features than the recipe's.
    """
    named = isinstance(recipe.pretrained, str) and "." in recipe.pretrained
    source = zoo.load(str(recipe.pretrained), hub=hub) if named else zoo.load(recipe.model, recipe.pretrained, hub=hub)
    found = source.load_report
    its_own = {*found.loaded}
    loaded = {name: v for name, v in source.named_variables().items() if name in its_own}
    wanted = model.named_variables()
    if not _holds(loaded, wanted, "features"):
        raise InputError(
            f"The weights {found.weights} are of other features than the recipe's {recipe.model} with the options "
            f"{recipe.options or '{}'}: change model, options or pretrained."
        )
    same = _same_representation(source, model) and _holds(loaded, wanted, "representation")
    taken = ("features", "representation") if same else ("features",)
    names = {name: None for name in wanted if name.split("/")[0] in taken}
    for name in names:
        wanted[name].assign(loaded[name])
    model.load_report = LoadReport(
        weights=found.weights,
        source=found.source,
        trust=found.trust,
        loaded=tuple(names),
        fresh=tuple(name for name in wanted if name not in names),
        unused=tuple(name for name in (*loaded, *found.unused) if name not in names),
    )
    logger.info("%s: %s", model.name, model.load_report)


def _holds(loaded: dict[str, keras.Variable], wanted: dict[str, keras.Variable], part: str) -> bool:
    """Are the loaded variables of a part those that are wanted, by name and shape?"""
    shapes = [{n: tuple(v.shape) for n, v in each.items() if n.split("/")[0] == part} for each in (loaded, wanted)]
    return shapes[0] == shapes[1]


def _same_representation(one: ImageClassifier, other: ImageClassifier) -> bool:
    return one.architecture.representation == other.architecture.representation
