"""What a probe found, as data."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Score:
    """A share over splits, 0 to 1: its mean, its standard deviation (of a sample; 0 for one split), and each."""

    mean: float
    std: float
    splits: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Score":
        """The score whose splits have these values."""
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        return cls(float(np.mean(values)), spread, tuple(values))


@dataclass(frozen=True)
class ProbeReport:
    """What a probe found.

    Attributes:
        model: the network's name.
        stages: of its trunk, which the representation stands on; none for its end.
        dimension: of the features.
        dataset: the layout of the data.
        images, classes: how many there are.
        train: the share of each class that the classifier learned from; None for the data set's own splits.
        seed: of the splits.
        top1: share of the test images whose class is found.
        balanced_accuracy: the mean of the classes' shares.
        class_names: in the order of `confusion`.
        confusion: test images of all splits together by true class (rows) and answer (columns).
        constants: C of each split, by cross-validation on its training images.
        seconds: "features", to compute them or to find them in the cache, with the time to build the network where it
            was built for that; "classifiers", to fit and measure those of the splits, not the one that is written.
        artifact: where the classifier was written, if it was.
    """

    model: str
    stages: tuple[str, ...]
    dimension: int
    dataset: str
    images: int
    classes: int
    train: float | None
    seed: int
    top1: Score
    balanced_accuracy: Score
    class_names: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    constants: tuple[float, ...]
    seconds: dict[str, float]
    artifact: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self)
