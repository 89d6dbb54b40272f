"""ELPV: the split against the stretches of the published file, of which none of it is needed here."""

import os
from itertools import groupby
from pathlib import Path

import pytest

from mpncov_zoo.errors import InputError
from mpncov_zoo.training.datasets import Files, dataset_splits, read_dataset

STRETCHES = (60, 300, 180, 360, 714, 530, 72, 180, 48, 180)  # cells of one type in a row, in the published labels.csv
PROBABILITIES = ("0.0", "0.3333333333333333", "0.6666666666666666", "1.0")


@pytest.fixture(scope="module")
def elpv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's data folder, with labels by turns and images without content."""
    package = tmp_path_factory.mktemp("site-packages")
    data = package / "elpv_dataset" / "data"
    (data / "images").mkdir(parents=True)
    (data / "empty").touch()
    types = [kind for stretch, kind in zip(STRETCHES, ("mono", "poly") * 5, strict=True) for _ in range(stretch)]
    lines = []
    for index, kind in enumerate(types):
        os.link(data / "empty", data / "images" / f"cell{index + 1:04d}.png")
        lines.append(f"images/cell{index + 1:04d}.png  {PROBABILITIES[index % 4]:<18}  {kind}\n")
    (data / "labels.csv").write_text("".join(lines))
    return package


def cells(split: Files) -> list[int]:
    """From 0."""
    return [int(path[-8:-4]) - 1 for path in split.paths]


def read(directory: Path, split: str, name: str = "elpv") -> Files:
    found = read_dataset(name, directory, split)
    assert isinstance(found, Files)
    return found


def test_labels_are_the_published_probabilities(elpv: Path) -> None:
    train, levels = read(elpv, "train"), read(elpv / "elpv_dataset" / "data", "train", "elpv_levels")
    assert train.class_names == ("functional", "defective") and levels.class_names == ("0", "1/3", "2/3", "1")
    assert train.labels.tolist() == [int(cell % 4 >= 2) for cell in cells(train)]
    assert levels.labels.tolist() == [cell % 4 for cell in cells(levels)]
    assert train.root == elpv / "elpv_dataset" / "data" and train.paths[0] == "images/cell0001.png"


def test_no_module_is_divided(elpv: Path) -> None:
    """Every certain end of a module: of a stretch, or a whole number of 60 cells from one without an odd module."""
    assert dataset_splits("elpv", elpv) == ("train", "val", "test")
    of = {cell: name for name in ("train", "val", "test") for cell in cells(read(elpv, name))}
    assert sorted(of) == list(range(2624)) and sum(STRETCHES) == 2624
    edges = [cell for cell in range(1, 2624) if of[cell] != of[cell - 1]]
    ends = [sum(STRETCHES[:index]) for index in range(11)]
    sixties = [*range(0, 901, 60), *range(900, 1201, 60), *range(1314, 1615, 60), 2084, *range(2216, 2397, 60)]
    assert set(edges) <= {*ends, *sixties, *range(2444, 2625, 60)}
    sizes = {name: len(list(group)) for name, group in groupby(sorted(of.values()))}
    assert sizes == {"train": 1676, "val": 360, "test": 588}


def test_another_file_is_refused(elpv: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ELPV has the splits train, val, test"):
        read(elpv, "validation")
    lines = (elpv / "elpv_dataset" / "data" / "labels.csv").read_text().splitlines()
    (tmp_path / "labels.csv").write_text("\n".join(lines[:-1]))
    with pytest.raises(InputError, match=r"labels\.csv lists 2623 cells; the split is that of all 2624"):
        read(tmp_path, "train")
    for wrong in ("0.5", "nan", "high"):
        (tmp_path / "labels.csv").write_text("\n".join([lines[0].replace("0.0", wrong), *lines[1:]]))
        with pytest.raises(InputError, match=f"a probability of '{wrong}'; allowed: 0, 1/3, 2/3, 1"):
            read(tmp_path, "train")
