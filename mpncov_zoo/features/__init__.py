"""Features of many images: found in folders, read some at a time, computed, and written to one file.

>>> from mpncov_zoo.features import Extract, feature_file, find_images
>>> extract = Extract("mpncov_cifar_resnet20")
>>> extract({"path": ["boot.png", "bag.png"]})["representation"].shape
(2, 2080)

The command line and Ray Data compute features by the same `Extract`. Importing this package is cheap: TensorFlow is
imported when the network is loaded.
"""

from typing import TYPE_CHECKING

from mpncov_zoo.lazy import lazy_names

if TYPE_CHECKING:
    from mpncov_zoo.features.extraction import Extract, Rows
    from mpncov_zoo.features.files import feature_file
    from mpncov_zoo.features.probing import probe
    from mpncov_zoo.features.reading import find_images, read_batches
    from mpncov_zoo.features.report import ProbeReport

__all__ = ["Extract", "ProbeReport", "Rows", "feature_file", "find_images", "probe", "read_batches"]

_HOMES = {
    "extraction": ("Extract", "Rows"),
    "files": ("feature_file",),
    "probing": ("probe",),
    "report": ("ProbeReport",),
    "reading": ("find_images", "read_batches"),
}
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
