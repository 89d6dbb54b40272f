"""Nearest neighbours against NumPy, and features files that belong to a network, or do not."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mpncov_zoo
from mpncov_zoo.demo.neighbours import Neighbours, match, read_features
from mpncov_zoo.demo.networks import Network
from mpncov_zoo.errors import InputError
from mpncov_zoo.features import Extract, extract, feature_file
from tests.photos import photo

PATHS = ["a.png", "b.png", "c.png"]
ROWS = np.array([[3.0, 0.0], [1.0, 1.0], [-1.0, 0.0]], np.float32)


@pytest.fixture(scope="module")
def network(artifact_hub: Path) -> Network:
    return Network(mpncov_zoo.load("mpncov_cifar_resnet20", True, hub=artifact_hub))


def written(path: Path, rows: np.ndarray, paths: list[str] = PATHS) -> str:
    with feature_file(str(path), paths) as file:
        file.append(paths, rows)
    return str(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet"])
def test_files_of_features_are_read_as_they_were_written(tmp_path: Path, suffix: str) -> None:
    found = read_features(written(tmp_path / f"features{suffix}", ROWS))
    assert found.paths == (*PATHS,)
    np.testing.assert_allclose(found.directions, ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True), rtol=1e-6)


def test_a_directory_of_features(network: Network, artifact_hub: Path, tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(photo(28 + number, 28)[..., 0]).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_text("<html>")
    extract("mpncov_cifar_resnet20", [tmp_path], tmp_path / "out", rows_per_file=2, dtype="float16", hub=artifact_hub)
    found = read_features(str(tmp_path / "out"))
    assert sorted(found.paths) == [str(tmp_path / f"{number}.png") for number in range(3)]
    assert match(found, [network]) == {network.name}


def test_the_nearest_have_the_largest_cosines() -> None:
    rng = np.random.default_rng(0)
    rows, one = rng.normal(size=(20, 7)), rng.normal(size=7)
    directions = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    found = Neighbours(tuple(map(str, range(20))), directions).nearest(one, 4)
    cosines = rows @ one / np.linalg.norm(rows, axis=1) / np.linalg.norm(one)
    assert [neighbour.path for neighbour in found] == [str(index) for index in np.argsort(-cosines)[:4]]
    np.testing.assert_allclose([neighbour.cosine for neighbour in found], np.sort(cosines)[::-1][:4], rtol=1e-5)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "damaged.npz").write_bytes(b"PK\3\4 and no more")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.save(tmp_path / "array.npy", ROWS)
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    np.savez(tmp_path / "objects.npz", paths=np.array(["a", None]), features=ROWS[:2])
    maps = written(tmp_path / "maps.npz", np.zeros((3, 2, 2, 4), np.float32))
    refused = {
        "damaged.npz": "is no file of",
        "damaged.parquet": "is no file of",
        "other.npz": "is no file of",
        "array.npz": "is no file of",
        "objects.npz": "is no file of",
        "gone.npz": "No file",
        "features.txt": "must end with .npy, .npz, .parquet",
        maps: "3x2x2x4 for 3 images: one vector an image",
    }
    for name, reason in refused.items():
        with pytest.raises(InputError, match=reason):
            read_features(str(tmp_path / name))


def test_a_file_belongs_to_the_network_that_computed_it(network: Network, tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in PATHS]
    for size, path in enumerate(paths[1:], start=28):  # the first one is not there any more
        Image.fromarray(photo(size, size)).save(path)
    rows = Extract(network.representation_extractor).rows(paths[1:]).features["representation"]
    rows = np.concatenate([rows[:1], rows])
    file = read_features(written(tmp_path / "features.npz", rows, paths))
    shorter: Any = SimpleNamespace(name="shorter", length=3)
    assert match(file, [shorter, network]) == {network.name}
    pixels = np.asarray(Image.open(paths[2]).convert("L").resize((28, 28), Image.Resampling.BILINEAR))[..., None]
    nearest = file.nearest(network.answer(pixels).representation, 1)[0]
    assert nearest.path == paths[2] and nearest.cosine > 0.999
    with pytest.raises(InputError, match=r"of 2080 values, are of none of the networks: shorter \(3 values\)"):
        match(file, [shorter])
    with pytest.raises(InputError, match="of none of the networks"):
        match(read_features(written(tmp_path / "others.npz", rows[:, ::-1], paths)), [network])
    with pytest.raises(InputError, match=r"none of the 3 images can be read, such as 'a\.png'"):
        match(read_features(written(tmp_path / "gone.npz", rows)), [network])
