"""CIFAR-100, the fine-grained benchmarks, AID and DTD: archives written here as they are published, file by file."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from mpncov_zoo.errors import InputError
from mpncov_zoo.training.datasets import Files, Images, dataset_splits, read_dataset


def files(name: str, directory: Path, split: str) -> Files:
    found = read_dataset(name, directory, split)
    assert isinstance(found, Files)
    return found


def listed(split: Files) -> list[tuple[str, str]]:
    """(path, class) of each image."""
    return [(path, split.class_names[label]) for path, label in zip(split.paths, split.labels, strict=True)]


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


@pytest.mark.parametrize("name", ["cifar100", "cub", "aircraft", "cars"])
def test_what_is_not_there_is_said(name: str, tmp_path: Path) -> None:
    assert dataset_splits(name, tmp_path) == ("train", "test")
    with pytest.raises(InputError, match=r"has the splits train, test\. Received: 'val'"):
        read_dataset(name, tmp_path, "val")
    with pytest.raises(InputError, match=f"{tmp_path} holds neither .*: unpack the archive there"):
        read_dataset(name, tmp_path, "train")


# --- CIFAR-100 --------------------------------------------------------------------------------------------------------


@pytest.fixture
def cifar(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """The archive's folder, with 7 images to train on: their pixels (7, 32, 32, 3)."""
    root = tmp_path / "cifar-100-binary"
    root.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)
    records = [bytes([19, label % 3]) + pixels[label].transpose(2, 0, 1).tobytes() for label in range(7)]
    (root / "train.bin").write_bytes(b"".join(records))
    (root / "fine_label_names.txt").write_text("apple\naquarium_fish\nbaby\n\n")
    return root, pixels


def test_cifar_100_is_read_as_written(cifar: tuple[Path, np.ndarray]) -> None:
    root, pixels = cifar
    for directory in (root, root.parent):
        found = read_dataset("cifar100", directory, "train")
        assert isinstance(found, Images) and found.class_names == ("apple", "aquarium_fish", "baby")
        np.testing.assert_array_equal(found.pixels, pixels)
        assert found.labels.tolist() == [0, 1, 2, 0, 1, 2, 0] and found.labels.dtype == np.int32


def test_damaged_cifar_100_is_refused(cifar: tuple[Path, np.ndarray]) -> None:
    root, _ = cifar
    with pytest.raises(InputError, match=r"test\.bin cannot be read: No such file"):
        read_dataset("cifar100", root, "test")
    (root / "test.bin").write_bytes((root / "train.bin").read_bytes()[:-1])
    with pytest.raises(InputError, match=r"test\.bin holds 21517 bytes, which are no whole images of 3074"):
        read_dataset("cifar100", root, "test")
    (root / "fine_label_names.txt").write_text("apple\naquarium_fish\n")
    with pytest.raises(InputError, match="a label of 2, but 2 names"):
        read_dataset("cifar100", root, "train")


# --- CUB-200-2011 -----------------------------------------------------------------------------------------------------


@pytest.fixture
def cub(tmp_path: Path) -> Path:
    root = tmp_path / "CUB_200_2011"
    images = ["001.Albatross/a_1.jpg", "001.Albatross/a_2.jpg", "002.Auk/b_1.jpg", "002.Auk/b_2.jpg", "002.Auk/b_3.jpg"]
    touch(root, *(f"images/{image}" for image in images))
    tables = {
        "images": images,
        "image_class_labels": [1, 1, 2, 2, 2],
        "train_test_split": [1, 0, 0, 1, 1],
        "classes": ["001.Albatross", "002.Auk"],
    }
    for name, column in tables.items():
        (root / f"{name}.txt").write_text("".join(f"{i} {value}\n" for i, value in enumerate(column, 1)))
    return root


def test_cub_is_read_by_its_lists(cub: Path) -> None:
    albatross, auk = "001.Albatross", "002.Auk"
    assert listed(files("cub", cub.parent, "train")) == [
        (f"{albatross}/a_1.jpg", albatross), (f"{auk}/b_2.jpg", auk), (f"{auk}/b_3.jpg", auk),
    ]  # fmt: skip
    assert listed(files("cub", cub, "test")) == [(f"{albatross}/a_2.jpg", albatross), (f"{auk}/b_1.jpg", auk)]
    assert files("cub", cub, "test").root == cub / "images"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("images.txt", "1 001.Albatross/a_1.jpg\n2\n", r"images\.txt, line 2: 1 columns instead of 2: '2'"),
        ("images.txt", "1 001.Albatross/a_1.jpg\n", "are not of the same images"),
        ("classes.txt", "1 001.Albatross\n", r"image_class_labels\.txt: the class 2 is not in classes\.txt"),
        ("train_test_split.txt", "1 1\n2 0\n3 0\n4 yes\n5 1\n", r"split\.txt: .*\(1\) or not \(0\)\. Received: 'yes'"),
        ("train_test_split.txt", None, r"train_test_split\.txt does not exist: was the archive unpacked completely"),
    ],
)
def test_damaged_lists_are_refused(cub: Path, name: str, text: str | None, message: str) -> None:
    (cub / name).unlink() if text is None else (cub / name).write_text(text)
    with pytest.raises(InputError, match=message):
        files("cub", cub, "train")


def test_missing_images_are_counted_and_named(cub: Path) -> None:
    (cub / "images" / "002.Auk" / "b_2.jpg").unlink()
    with pytest.raises(InputError, match=r"images lacks 1 of 3 listed images: 002\.Auk/b_2\.jpg"):
        files("cub", cub, "train")


# --- FGVC-Aircraft ----------------------------------------------------------------------------------------------------


@pytest.fixture
def aircraft(tmp_path: Path) -> Path:
    root = tmp_path / "fgvc-aircraft-2013b" / "data"
    touch(root, "images/0056978.jpg", "images/1025794.jpg", "images/2000000.jpg")
    (root / "variants.txt").write_text("707-320\nA300B4\nMD-80 (two words)\n")
    (root / "images_variant_trainval.txt").write_text("1025794 707-320\n0056978 A300B4\n2000000 MD-80 (two words)\n")
    (root / "images_variant_test.txt").write_text("2000000 MD-80 (two words)\n")
    return root


def test_aircraft_is_read_by_its_lists(aircraft: Path) -> None:
    for directory in (aircraft, aircraft.parent, aircraft.parent.parent):
        train = files("aircraft", directory, "train")
        assert train.class_names == ("707-320", "A300B4", "MD-80 (two words)")
        assert listed(train)[::2] == [("1025794.jpg", "707-320"), ("2000000.jpg", "MD-80 (two words)")]
    assert files("aircraft", aircraft, "test").labels.tolist() == [2]


def test_an_unknown_variant_is_refused(aircraft: Path) -> None:
    (aircraft / "images_variant_test.txt").write_text("2000000 Spitfire\n")
    with pytest.raises(InputError, match=r"images_variant_test\.txt: the variant 'Spitfire' is not in variants\.txt"):
        files("aircraft", aircraft, "test")


# --- Stanford Cars ----------------------------------------------------------------------------------------------------


def annotations(rows: list[tuple[int, str]], label: str = "class") -> dict[str, np.ndarray]:
    """A struct array as the devkit's: boxes, class from 1, file name."""
    fields = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", label, "fname")
    array = np.empty((1, len(rows)), [(name, "O") for name in fields])
    array[0] = [(39, 116, 569, 375, number, name) for number, name in rows]
    return {"annotations": array}


@pytest.fixture
def cars(tmp_path: Path) -> Path:
    touch(tmp_path, "cars_train/00001.jpg", "cars_train/00002.jpg", "cars_test/00001.jpg", "devkit/README.txt")
    names = np.empty((1, 2), "O")
    names[0] = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012"]
    savemat(tmp_path / "devkit" / "cars_meta.mat", {"class_names": names})
    savemat(tmp_path / "devkit" / "cars_train_annos.mat", annotations([(2, "00001.jpg"), (1, "00002.jpg")]))
    savemat(tmp_path / "cars_test_annos_withlabels.mat", annotations([(2, "00001.jpg")]))
    return tmp_path


def test_cars_is_read_by_its_annotations(cars: Path) -> None:
    hummer, acura = "AM General Hummer SUV 2000", "Acura RL Sedan 2012"
    train, test = files("cars", cars, "train"), files("cars", cars, "test")
    assert listed(train) == [("00001.jpg", acura), ("00002.jpg", hummer)] and train.root == cars / "cars_train"
    assert listed(test) == [("00001.jpg", acura)] and test.root == cars / "cars_test"
    assert train.class_names == (hummer, acura)


def test_cars_without_labels_or_damaged_are_refused(cars: Path) -> None:
    path = cars / "devkit" / "cars_test_annos_withlabels.mat"
    savemat(path, annotations([(1, "00001.jpg")], label="other"))
    with pytest.raises(InputError, match=r"withlabels\.mat must hold the annotations 'class' and 'fname'"):
        files("cars", cars, "test")
    savemat(path, {"other": 1})
    with pytest.raises(InputError, match="has no variable 'annotations'"):
        files("cars", cars, "test")
    path.write_bytes(b"MATLAB 5.0" + bytes(200))
    with pytest.raises(InputError, match=r"withlabels\.mat is not a readable MATLAB file"):
        files("cars", cars, "test")
    savemat(path, annotations([(3, "00001.jpg")]))
    with pytest.raises(InputError, match="classes 2 to 2 are listed, but 2 named"):
        files("cars", cars, "test")


def test_missing_scipy_is_said(cars: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(InputError, match=r"needs SciPy: pip install 'mpncov-zoo\[training\]'"):
        files("cars", cars, "train")


# --- AID and DTD ------------------------------------------------------------------------------------------------------

SCENES = ["Airport", *(f"Scene{number:02d}" for number in range(29))]


def test_aid_is_one_split_of_thirty_scenes(tmp_path: Path) -> None:
    touch(tmp_path / "AID", *(f"{name}/{name.lower()}_{number}.jpg" for name in SCENES for number in (1, 2)))
    for directory in (tmp_path, tmp_path / "AID"):
        assert dataset_splits("aid", directory) == ("train",)
        found = files("aid", directory, "train")
        assert found.class_names == tuple(SCENES) and np.bincount(found.labels).tolist() == [2] * 30
        assert found.root == tmp_path / "AID" and found.paths[0] == "Airport/airport_1.jpg"


def test_aid_that_lacks_a_class_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{name}/1.jpg" for name in SCENES[:-1]))
    with pytest.raises(InputError, match="29 classes, and AID 30: unpack the archive again"):
        read_dataset("aid", tmp_path, "train")
    with pytest.raises(InputError, match=r"has the splits train\. Received: 'test'"):
        read_dataset("aid", tmp_path, "test")


@pytest.fixture
def dtd(tmp_path: Path) -> Path:
    root = tmp_path / "dtd"
    lists = {name: [f"{kind}/{kind}_{name}.jpg" for kind in ("woven", "banded")] for name in ("train", "val", "test")}
    touch(root, *(f"images/{path}" for paths in lists.values() for path in paths), "labels/train2.txt")
    for name, paths in lists.items():
        (root / "labels" / f"{name}1.txt").write_text("".join(f"{path}\n" for path in paths))
    return root


def test_dtd_has_the_first_division_of_its_authors(dtd: Path) -> None:
    for directory in (dtd, dtd.parent):
        assert dataset_splits("dtd", directory) == ("train", "val", "test")
        for name in ("train", "val", "test"):
            found = files("dtd", directory, name)
            assert found.class_names == ("banded", "woven")
            assert listed(found) == [(f"woven/woven_{name}.jpg", "woven"), (f"banded/banded_{name}.jpg", "banded")]


def test_damaged_dtd_is_refused(dtd: Path) -> None:
    (dtd / "labels" / "val1.txt").write_text("zigzagged/zigzagged_1.jpg\n")
    with pytest.raises(InputError, match=r"the class 'zigzagged' is in val1\.txt, and not in train1\.txt"):
        read_dataset("dtd", dtd, "val")
    (dtd / "images" / "woven" / "woven_test.jpg").unlink()
    with pytest.raises(InputError, match="lacks 1 of 2 listed images: woven/woven_test"):
        read_dataset("dtd", dtd, "test")
