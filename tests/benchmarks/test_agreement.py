"""benchmarks.agreement counts what it says."""

import numpy as np

from benchmarks.agreement import agreement

LOGITS = np.array([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [1.0, 0.9, 0.8], [0.8, 0.9, 1.0]])


class Exact:
    """Two images that it is sure of, two that it is not."""

    def preprocess(self, paths: list[str]) -> np.ndarray:
        return LOGITS[[int(path) for path in paths]]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return images


def test_shares_and_the_largest_difference() -> None:
    changed = {2: [0.8, 0.9, 1.0]}  # another best class, where it was not sure

    def quick(images: np.ndarray) -> np.ndarray:
        return np.array([changed.get(int(np.flatnonzero((row == LOGITS).all(1))[0]), row) for row in images])

    line = agreement(Exact(), quick, ["0", "1", "2", "3"])
    assert line == (
        "the same class for 75.0 % of 4 images, and for 100.0 % of the 2 that it is sure of; "
        "logits within 2.2e-02 of a batch's largest"
    )
