"""Where weights come from and how they are trusted: places, transport, verification, cache; and `register`.

>>> mpncov_zoo.hub.register()
>>> network = tensorflow_hub.load("mpncov://mpncov_cifar_resnet20")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpncov_zoo.handles import register

__all__ = ["register"]


def __getattr__(name: str) -> Any:
    if name != "register":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mpncov_zoo.handles import register

    return register
