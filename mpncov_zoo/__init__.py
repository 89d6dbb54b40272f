"""mpncov_zoo: second-order pooling networks (iSQRT-COV) for TensorFlow 2 and Keras 3, with verified weights.

>>> import mpncov_zoo
>>> model = mpncov_zoo.load("mpncov_cifar_resnet20", pretrained=True)
>>> model.decode(model(model.preprocess("boot.png")))

Importing this package is cheap: every public name is resolved when it is first used (PEP 562), and TensorFlow is
imported by those that need it (`build`, `load`, `feature_extractor`, `ImageClassifier`) only.
"""

from typing import TYPE_CHECKING

from mpncov_zoo.keras_registration import register_with_keras
from mpncov_zoo.lazy import lazy_names
from mpncov_zoo.version import __version__ as __version__

if TYPE_CHECKING:
    from mpncov_zoo import features as features
    from mpncov_zoo import hub as hub
    from mpncov_zoo import training as training
    from mpncov_zoo.attaching import attach
    from mpncov_zoo.catalog import ModelInfo, info, list_models
    from mpncov_zoo.classifier import FeatureExtractor, ImageClassifier
    from mpncov_zoo.errors import (
        ConversionError,
        FetchError,
        InputError,
        IntegrityError,
        ManifestError,
        NoPretrainedWeights,
        OfflineError,
        ParityError,
        UnknownModel,
        ZooError,
    )
    from mpncov_zoo.exporting.exporter import export
    from mpncov_zoo.inference import optimize
    from mpncov_zoo.load_report import LoadReport
    from mpncov_zoo.specification import InputSpecification
    from mpncov_zoo.zoo import build, feature_extractor, load

_HOMES = {
    "attaching": ("attach",),
    "catalog": ("ModelInfo", "info", "list_models"),
    "classifier": ("FeatureExtractor", "ImageClassifier"),
    "errors": (
        "ConversionError",
        "FetchError",
        "InputError",
        "IntegrityError",
        "ManifestError",
        "NoPretrainedWeights",
        "OfflineError",
        "ParityError",
        "UnknownModel",
        "ZooError",
    ),
    "exporting.exporter": ("export",),
    "inference": ("optimize",),
    "load_report": ("LoadReport",),
    "specification": ("InputSpecification",),
    "zoo": ("build", "feature_extractor", "load"),
}
_SUBMODULES = ("features", "hub", "training")  # public, but not in __all__: TensorFlow Hub goes by "hub", too

__all__ = [
    "ConversionError",
    "FeatureExtractor",
    "FetchError",
    "ImageClassifier",
    "InputError",
    "InputSpecification",
    "IntegrityError",
    "LoadReport",
    "ManifestError",
    "ModelInfo",
    "NoPretrainedWeights",
    "OfflineError",
    "ParityError",
    "UnknownModel",
    "ZooError",
    "attach",
    "build",
    "export",
    "feature_extractor",
    "info",
    "list_models",
    "load",
    "optimize",
]
__getattr__, __dir__ = lazy_names(__name__, _HOMES, _SUBMODULES)

register_with_keras()
