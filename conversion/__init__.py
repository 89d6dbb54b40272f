"""Published checkpoints to artifacts: readers, name maps, the parity that they are held to, and certificates.

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

__all__ = ["Certificate", "convert", "plan", "read_certificate", "write_pytorch"]

_HOMES = {
    "certificate": ("Certificate", "read_certificate"),
    "converter": ("convert", "plan"),
    "export": ("write_pytorch",),
}
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
