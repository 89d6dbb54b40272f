"""The networks of the demonstration page: loaded, verified and without the network, and asked about one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mpncov_zoo.catalog import split_name
from mpncov_zoo.errors import InputError
from mpncov_zoo.hub.local import is_path
from mpncov_zoo.manifest import BundledSource, load_manifest
from mpncov_zoo.preprocessing import normalize
from mpncov_zoo.specification import InputSpecification

if TYPE_CHECKING:
    from mpncov_zoo.classifier import FeatureExtractor, ImageClassifier

TOP = 5


@dataclass(frozen=True, eq=False)
class Answer:
    """What a network makes of one image.

    Attributes:
        prediction: the most probable classes with their probabilities, best first; None without trained classifier.
        features: what the covariance is of, float32 (height, width, d).
        root: the matrix that stands in the place of the covariance, float32 (d, d); None where there is none.
        representation: float32 (values,).
    """

    prediction: list[tuple[str, float]] | None
    features: np.ndarray
    root: np.ndarray | None
    representation: np.ndarray


class Network:
    """A pretrained network, ready to answer.

    Args:
        model: as `mpncov_zoo.load` returns it.

    Attributes:
        name: of the model and its weights.
        trust: what its files were verified against; None for nothing.
        specification: how images become its input.
        stage: name of the features that the covariance is of.
        has_covariance: whether the network itself takes it; else it is computed for the page alone.
        has_classifier: whether its classifier is trained.

    Raises:
        InputError: the weights behind the representation are random, or its last features are no maps.
    """

    def __init__(self, model: ImageClassifier):
        from mpncov_zoo.classifier import FeatureExtractor

        self.has_classifier = _has_trained_classifier(model)
        self.stage, self._matrix = covariance_stage(model)
        self.has_covariance = self._matrix is not None
        last = ["logits"] if self.has_classifier else []
        stages = [self.stage, *([self._matrix] if self._matrix else []), "representation", *last]
        self._model, self._extract = model, FeatureExtractor(model, stages)
        if len(self._extract.output[self.stage].shape) != 4:
            raise InputError(f"{model.name}: its stage {self.stage} has no feature maps to show.")
        self.name = model.name if model.load_report.weights is None else _named(model)
        self.trust = model.load_report.trust
        self.specification: InputSpecification = model.input_specification

    @property
    def representation_extractor(self) -> FeatureExtractor:
        """The network up to its representation, as `mpncov-zoo features` runs it."""
        from mpncov_zoo.classifier import FeatureExtractor

        return FeatureExtractor(self._model, ["representation"])

    @property
    def length(self) -> int:
        """How many values the representation has."""
        return self._model.representation.output_shape[1]

    def answer(self, pixels: np.ndarray) -> Answer:
        """Compute what the page shows of an image.

        Args:
            pixels: as `resize_and_crop` returns them, uint8 (height, width, channels).
        """
        found = self._extract(normalize(pixels[np.newaxis], self.specification))
        arrays = {stage: np.asarray(values)[0] for stage, values in found.items()}
        return Answer(
            prediction=self._model.decode(found["logits"], TOP)[0] if self.has_classifier else None,
            features=arrays[self.stage],
            root=arrays[self._matrix] if self._matrix else None,
            representation=arrays["representation"],
        )


def bundled_names() -> list[str]:
    """The sets of weights that lie in the package, and need no network.

    First those that are the default of their model, which know the page's examples; of these, those with a covariance.
    """
    bundled = [
        entry for entry in load_manifest().entries if any(isinstance(source, BundledSource) for source in entry.sources)
    ]
    bundled.sort(key=lambda entry: (not entry.default, not entry.name.startswith("mpncov_"), entry.name))
    return [entry.name for entry in bundled]


def check_names(names: Sequence[str]) -> None:
    """Refuse a misspelt name before TensorFlow's seconds; raises UnknownModel, or InputError for a name twice."""
    for name in names:
        if not is_path(name):
            split_name(name, True)
    if len({*names}) < len(names):
        raise InputError(f"--models names a network twice. Received: {' '.join(names)}.")


def load_network(name: str) -> Network:
    """Load a network by `mpncov_zoo.load`, which verifies it; what is not on this machine is not fetched.

    Raises:
        ZooError: of `mpncov_zoo.load`; OfflineError says how to fetch the weights beforehand.
        InputError: as `Network` raises it.
    """
    from mpncov_zoo.zoo import load

    return Network(load(name, True, offline=True))


def covariance_stage(model: ImageClassifier) -> tuple[str, str | None]:
    """The stages of the features whose covariance counts, and of its root; of several the last.

    Without a covariance in the network they are the trunk's last stage, and None.
    """
    trunk = [stage for stage in model.stages if model.part_of(stage) == "features"]
    matrices = [stage for stage in model.stages if stage.partition("_")[0] == "covariance"]
    if not matrices:
        return trunk[-1], None
    suffix = matrices[-1].removeprefix("covariance")
    reduction = f"reduction{suffix}"
    own = suffix.removeprefix("_") or trunk[-1]
    return (reduction if reduction in model.stages else own), matrices[-1]


def _has_trained_classifier(model: ImageClassifier) -> bool:
    from mpncov_zoo.pretrained import require_pretrained

    require_pretrained(model, "representation")
    try:
        require_pretrained(model, "logits")
    except InputError:
        return False
    return True


def _named(model: ImageClassifier) -> str:
    """The name of the model with the tag of its weights, also where these are its trunk's alone."""
    weights = str(model.load_report.weights)
    return weights if weights.partition(".")[0] == model.name else f"{model.name} ({weights})"
