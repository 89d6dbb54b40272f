"""mpncov_zoo: second-order pooling networks (iSQRT-COV) for TensorFlow 2 and Keras 3, with verified weights.

>>> import mpncov_zoo
>>> model = mpncov_zoo.load("mpncov_cifar_resnet20", pretrained=True)
>>> model.decode(model(model.preprocess("boot.png")))

Importing this package is cheap: every public name is resolved when it is first used (PEP 562), and TensorFlow is
imported by those that need it (`build`, `load`, `feature_extractor`, `ImageClassifier`) only.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mpncov_zoo.keras_registration import register_with_keras
from mpncov_zoo.version import __version__ as __version__

if TYPE_CHECKING:
    from mpncov_zoo import hub as hub
    from mpncov_zoo import training as training
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
    from mpncov_zoo.load_report import LoadReport
    from mpncov_zoo.zoo import build, feature_extractor, load

_HOMES = {
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
    "load_report": ("LoadReport",),
    "zoo": ("build", "feature_extractor", "load"),
}
_SUBMODULES = ("hub", "training")  # public, but not in __all__: TensorFlow Hub goes by the first name, too
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ConversionError",
    "FeatureExtractor",
    "FetchError",
    "ImageClassifier",
    "InputError",
    "IntegrityError",
    "LoadReport",
    "ManifestError",
    "ModelInfo",
    "NoPretrainedWeights",
    "OfflineError",
    "ParityError",
    "UnknownModel",
    "ZooError",
    "build",
    "feature_extractor",
    "info",
    "list_models",
    "load",
]
register_with_keras()


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
