"""Artifacts: a network as one directory that serves everybody, written, read and tested.

>>> from mpncov_zoo import artifact
>>> artifact.write(model, "exported/mpncov_resnet50.mine", tag="mine", provenance={"kind": "fine-tuned"})

Importing this package is cheap; TensorFlow, which writes and reads artifacts, is imported when one is.
"""

from typing import TYPE_CHECKING

from mpncov_zoo.lazy import lazy_names

if TYPE_CHECKING:
    from mpncov_zoo.artifact.writer import write

__all__ = ["write"]

__getattr__, __dir__ = lazy_names(__name__, {"writer": ("write",)})
