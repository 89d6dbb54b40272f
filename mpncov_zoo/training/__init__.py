"""Training and evaluation: recipes (data), data sets, the fit, the metrics and their curves.

>>> from mpncov_zoo import training
>>> artifact = training.train("fashion_mnist", "/usr/share/datasets/fashion-mnist", "runs/fashion_mnist")
>>> model = mpncov_zoo.load("mpncov_cifar_resnet20", True, hub=artifact)

Public names are resolved when they are first used: recipes are read without TensorFlow.
"""

from typing import TYPE_CHECKING

from mpncov_zoo.lazy import lazy_names

if TYPE_CHECKING:
    from mpncov_zoo.training.datasets import read_dataset
    from mpncov_zoo.training.fit import train
    from mpncov_zoo.training.recipes import Recipe, list_recipes, load_recipe

__all__ = ["Recipe", "list_recipes", "load_recipe", "read_dataset", "train"]

_HOMES = {"datasets": ("read_dataset",), "fit": ("train",), "recipes": ("Recipe", "list_recipes", "load_recipe")}
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
