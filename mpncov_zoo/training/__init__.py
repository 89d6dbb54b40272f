"""Training and evaluation: recipes (data), data sets, the fit, the metrics and their curves.

>>> from mpncov_zoo import training
>>> artifact = training.train("fashion_mnist", "/usr/share/datasets/fashion-mnist", "runs/fashion_mnist")
>>> model = mpncov_zoo.load("mpncov_cifar_resnet20", True, hub=artifact)

Public names are resolved when they are first used: recipes are read without TensorFlow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpncov_zoo.training.datasets import read_dataset
    from mpncov_zoo.training.fit import train
    from mpncov_zoo.training.recipes import Recipe, list_recipes, load_recipe

_HOMES = {"datasets": ("read_dataset",), "fit": ("train",), "recipes": ("Recipe", "list_recipes", "load_recipe")}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["Recipe", "list_recipes", "load_recipe", "read_dataset", "train"]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
