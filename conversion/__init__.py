"""Converts published checkpoints to artifacts, and artifacts back to PyTorch's files.

Readers take a checkpoint apart, maps say which tensor is which variable, and parity holds the result to the source
network. A certificate says what was done.

>>> import conversion
>>> conversion.convert("mpncovresnet50-15991845.pth", model="mpncov_resnet50", output="converted/resnet50")

Importing this package is cheap; what its functions need is imported when they are first used.
"""

from typing import TYPE_CHECKING

from mpncov_zoo.lazy import lazy_names

if TYPE_CHECKING:
    from conversion.certificate import Certificate, read_certificate
    from conversion.converter import convert, plan
    from conversion.export import write_pytorch
    from conversion.parity import check

__all__ = ["Certificate", "check", "convert", "plan", "read_certificate", "write_pytorch"]

_HOMES = {
    "certificate": ("Certificate", "read_certificate"),
    "converter": ("convert", "plan"),
    "export": ("write_pytorch",),
    "parity": ("check",),
}
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
