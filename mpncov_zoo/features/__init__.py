"""Features of many images: found in folders, read some at a time, computed, and written to files.

>>> from mpncov_zoo.features import Extract, extract, feature_file, find_images
>>> extract("mpncov_cifar_resnet20", ["photos"], "features")  # Parquet, resumable, here or on a Ray cluster
>>> compute = Extract("mpncov_cifar_resnet20")
>>> compute({"path": ["boot.png", "bag.png"]})["representation"].shape
(2, 2080)

The command line, Ray's workers and probes compute features by the same `Extract`. Importing this package is cheap:
TensorFlow is imported when the network is loaded.
"""

from typing import TYPE_CHECKING

from mpncov_zoo.lazy import lazy_names

if TYPE_CHECKING:
    from mpncov_zoo.features.extracting import ExtractReport, extract
    from mpncov_zoo.features.extraction import Extract, Rows
    from mpncov_zoo.features.files import feature_file
    from mpncov_zoo.features.probing import probe
    from mpncov_zoo.features.reading import find_images, read_batches
    from mpncov_zoo.features.report import ProbeReport

__all__ = [
    "Extract",
    "ExtractReport",
    "ProbeReport",
    "Rows",
    "extract",
    "feature_file",
    "find_images",
    "probe",
    "read_batches",
]

_HOMES = {
    "extracting": ("ExtractReport", "extract"),
    "extraction": ("Extract", "Rows"),
    "files": ("feature_file",),
    "probing": ("probe",),
    "report": ("ProbeReport",),
    "reading": ("find_images", "read_batches"),
}
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
