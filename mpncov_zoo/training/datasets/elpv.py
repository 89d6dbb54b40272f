"""ELPV: electroluminescence photos of solar cells, cut from photos of whole modules (PyPI: elpv-dataset).

Cells of one module resemble each other, so modules must not be divided between training and test; the published files
do not say which cells belong together. They do show it: the cells stand in the order of their modules, all of one type
(mono or poly) each, and where the type changes, a module ends. These stretches have 60, 300, 180, 360, 714, 530, 72,
180, 48 and 180 cells, and the data set 44 modules (its README): that is so if modules have 60 cells, apart from one of
54, 50, 72 and 48 each. The mean image changes abruptly just there (seen in windows of 12 cells): every 60 up to 1,200,
then at 1,254, 1,314 ... 1,614. Only where between 1,674 and 2,084 the module of 50 lies stays open. So all of that is
for training, and the other splits are whole modules elsewhere.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from mpncov_zoo.errors import InputError
from mpncov_zoo.training.datasets.listings import files, read_table, require_split, unpacked
from mpncov_zoo.training.datasets.splits import Files

CELLS = 2624
MODULES: dict[str, tuple[tuple[int, int], ...]] = {  # (first cell, end), counted from 0; all others are for training
    "val": ((240, 300), (420, 480), (720, 780), (1434, 1494), (2276, 2336), (2504, 2564)),
    "test": ((300, 360), (480, 540), (780, 900), (1494, 1614), (2084, 2144), (2336, 2396), (2396, 2444), (2564, 2624)),
}
SPLITS = ("train", *MODULES)
LEVELS = ("0", "1/3", "2/3", "1")  # the probability of a defect, as the experts gave it


def read_elpv(directory: Path, split: str) -> Files:
    """Functional (probability of a defect below 1/2) or defective cells, 300x300 grey.

    Args:
        directory: the installed package elpv_dataset, its `data` folder, or what holds these.
        split: "train" (1,676 cells), "val" (360) or "test" (588), of different modules.

    Raises:
        InputError: a file is missing or not what it should be, or there is no such split.
    """
    return _read(directory, split, ("functional", "defective"), lambda level: int(level >= 2))


def read_elpv_levels(directory: Path, split: str) -> Files:
    """The same cells as `read_elpv`, with four classes: how certain the experts were that a cell is defective."""
    return _read(directory, split, LEVELS, lambda level: level)


def _read(directory: Path, split: str, class_names: Sequence[str], class_of: Callable[[int], int]) -> Files:
    require_split("ELPV", split, SPLITS)
    root = unpacked(directory, "elpv_dataset/data", "labels.csv")
    rows = read_table(root / "labels.csv", 3)
    if len(rows) != CELLS:
        raise InputError(f"{root / 'labels.csv'} lists {len(rows)} cells; the split is that of all {CELLS}.")
    chosen = [row for index, row in enumerate(rows) if _split_of(index) == split]
    labels = [class_of(_level(probability, root)) for _, probability, _ in chosen]
    return files(root, [path for path, _, _ in chosen], labels, class_names)


def _split_of(cell: int) -> str:
    return next((name for name, modules in MODULES.items() if any(a <= cell < b for a, b in modules)), "train")


def _level(probability: str, root: Path) -> int:
    """The number of thirds in a probability."""
    with suppress(ValueError):
        for level in range(len(LEVELS)):
            if abs(3 * float(probability) - level) < 1e-6:
                return level
    raise InputError(f"{root / 'labels.csv'}: a probability of {probability!r}; allowed: {', '.join(LEVELS)}.")
