"""Artifacts: a network as one directory that serves everybody, written, read and tested.

>>> from mpncov_zoo import artifact
>>> artifact.write(model, "exported/mpncov_resnet50.mine", tag="mine", provenance={"kind": "fine-tuned"})
"""

from mpncov_zoo.artifact.writer import write

__all__ = ["write"]
