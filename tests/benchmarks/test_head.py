"""The benchmark's bookkeeping; its figures are measured, not tested."""

import numpy as np
import pytest

from benchmarks import head


def test_multiplications_are_those_of_the_cheaper_form() -> None:
    assert head.multiplications((28, 256, 1, False)) == 784 * 256**2 + 11 * 256**3
    assert head.multiplications((7, 256, 2, False)) == 2 * (2 * 49**2 * 256 + 49 * 256**2 + 11 * 49**3)


@pytest.mark.parametrize("side", ["analytic", "autodiff", "tensorflow"])
def test_sides_compute_the_same(side: str) -> None:
    case = (4, 6, 2, True)
    x = head.features(case)
    for backward in (False, True):
        actual, expected = (head.tensorflow_call(name, x, backward)() for name in (side, "analytic"))
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)
    assert head.worker(side)(head.request(case)).keys() == {"seconds"}


def test_row_gives_the_ratios() -> None:
    times = {"analytic": 2.0, "autodiff": 3.0, "pytorch": 5.0, "tensorflow": 4.0}
    row = head.row((14, 256, 8, True), times, rate=1e12)
    assert row.startswith("| 14x14 | 256 | 8 | forward + backward | 2.0 | 3.0 | 5.0 | 4.0 | **2.5x** | **2.0x** |")
