"""Converts published checkpoints to artifacts, and artifacts back to PyTorch's files.

Readers take a checkpoint apart, maps say which tensor is which variable, and parity holds the result to the source
network. A certificate says what was done.

>>> import conversion
>>> conversion.convert("mpncovresnet50-15991845.pth", model="mpncov_resnet50", output="converted/resnet50")

Importing this package is cheap; what its functions need is imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conversion.certificate import Certificate, read_certificate
    from conversion.converter import convert, plan
    from conversion.export import write_pytorch

_MODULE_OF = {
    "Certificate": "certificate",
    "convert": "converter",
    "plan": "converter",
    "read_certificate": "certificate",
    "write_pytorch": "export",
}

__all__ = ["Certificate", "convert", "plan", "read_certificate", "write_pytorch"]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
