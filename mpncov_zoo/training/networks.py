"""The network of a recipe: built anew, with the weights that it begins with."""

import logging
from collections.abc import Mapping
from os import PathLike

from mpncov_zoo import architectures
from mpncov_zoo.artifact.reader import stored_shapes
from mpncov_zoo.assembly import precision
from mpncov_zoo.catalog import architecture_and_input
from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.errors import InputError
from mpncov_zoo.find import find
from mpncov_zoo.hub.local import is_path
from mpncov_zoo.pretrained import described, fill
from mpncov_zoo.training.recipes import Recipe

logger = logging.getLogger(__name__)


def build(
    recipe: Recipe, class_names: tuple[str, ...], architecture: architectures.Architecture | None = None
) -> ImageClassifier:
    """The network of a recipe, freshly initialised, under the recipe's precision.

    Args:
        recipe: what is trained.
        class_names: in the order of the logits.
        architecture: the recipe's, if it was built before: an artifact that the recipe names may have changed since.

    Raises:
        InputError: the recipe's options make no network.
    """
    with precision(recipe.precision):
        return ImageClassifier(
            architecture or _architecture(recipe),
            num_classes=len(class_names),
            input_shape=(*recipe.input.size, recipe.input.channels),
            input_specification=recipe.input,
            labels=class_names,
        )


def _architecture(recipe: Recipe) -> architectures.Architecture:
    known, _ = architecture_and_input(recipe.model)
    if known.stages != recipe.stages:
        known = architectures.standing_on(known, known.representation, recipe.stages)
    return architectures.with_options(known, recipe.options)


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
    named = isinstance(recipe.pretrained, str) and ("." in recipe.pretrained or is_path(recipe.pretrained))
    found = find(str(recipe.pretrained), hub=hub) if named else find(recipe.model, recipe.pretrained, hub=hub)
    artifact = found.artifact
    architecture, _ = described(artifact)
    stored = stored_shapes(artifact.directory)
    wanted = {name: tuple(variable.shape) for name, variable in model.named_variables().items()}
    met = {name: shape for name, shape in stored.items() if name not in model.behind_stages}
    if _of_part(met, "features") != _of_part(wanted, "features"):
        raise InputError(
            f"The weights {artifact.description.name} are of other features than the recipe's {recipe.model} with the "
            f"options {recipe.options or '{}'}: change model, options or pretrained."
        )
    same = architecture.representation == model.architecture.representation
    same = same and _of_part(stored, "representation") == _of_part(wanted, "representation")
    fill(model, artifact, ("features", "representation") if same else ("features",))
    logger.info("%s: %s", model.name, model.load_report)


def _of_part(shapes: Mapping[str, tuple[int, ...]], part: str) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in shapes.items() if name.split("/")[0] == part}
