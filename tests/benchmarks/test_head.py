"""The benchmark's bookkeeping; its figures are measured, not tested."""

import pytest

from benchmarks import head


def test_multiplications_are_those_of_the_cheaper_form() -> None:
    assert head.multiplications((28, 256, 1, False)) == 784 * 256**2 + 11 * 256**3
    assert head.multiplications((7, 256, 2, False)) == 2 * (2 * 49**2 * 256 + 49 * 256**2 + 11 * 49**3)


@pytest.mark.parametrize("side", ["analytic", "autodiff", "tensorflow"])
def test_worker_times_a_case_and_measures_its_memory(side: str) -> None:
    answer = head.worker(side)
    case = (2, 4, 1, True)
    assert answer(head.request(case))["seconds"] > 0
    assert answer(head.request(case, memory=True))["memory"] >= 0


def test_row_gives_the_ratios() -> None:
    times = {"analytic": 2.0, "autodiff": 3.0, "pytorch": 5.0, "tensorflow": 4.0}
    row = head.row((14, 256, 8, True), times, rate=1e12)
    assert row.startswith("| 14x14 | 256 | 8 | forward + backward | 2.0 | 3.0 | 5.0 | 4.0 | **2.5x** | **2.0x** |")
