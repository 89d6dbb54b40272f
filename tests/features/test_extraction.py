"""Extract: the features of batches of images, by themselves and as Ray Data asks for them."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mpncov_zoo
from mpncov_zoo.errors import InputError
from mpncov_zoo.features import Extract, feature_file
from mpncov_zoo.features.extraction import Rows
from tests.networks import tiny
from tests.photos import photo

STAGES = ("covariance", "representation")
Shared = tuple[mpncov_zoo.ImageClassifier, Extract]


@pytest.fixture(scope="module")
def shared() -> Shared:
    model = tiny()
    return model, Extract(model, STAGES)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Two images, and between them a file that is not an image."""
    found = [str(tmp_path / name) for name in ("a.png", "page.png", "c.png")]
    for size, path in ((28, found[0]), (35, found[2])):
        Image.fromarray(photo(size, size)).save(path)
    Path(found[1]).write_text("<html>")
    return found


def assert_of(model: mpncov_zoo.ImageClassifier, images: list, features: dict[str, np.ndarray]) -> None:
    """The features are those that the network computes of these images."""
    expected = mpncov_zoo.feature_extractor(model, STAGES)(model.preprocess(images))
    for stage in STAGES:
        np.testing.assert_allclose(features[stage], np.asarray(expected[stage]), rtol=1e-4, atol=1e-5)


def test_rows_of_what_can_be_read(shared: Shared, paths: list[str]) -> None:
    model, extract = shared
    rows = extract.rows(paths)
    assert isinstance(rows, Rows) and rows.read == (0, 2) and list(rows.features) == list(STAGES)
    assert_of(model, [paths[0], paths[2]], rows.features)
    (error,) = rows.unreadable
    assert repr(paths[1]) in str(error)
    assert str(extract.rows([b"nothing"]).unreadable[0]).startswith("'image 0': ")


def test_a_table_of_paths(shared: Shared, paths: list[str]) -> None:
    """The columns that came with the images stay beside them."""
    model, extract = shared
    batch = {"path": np.array(paths, object), "label": np.array([4, 5, 6])}
    with pytest.raises(InputError, match=r"page\.png"):
        extract(batch)
    table = Extract(extract.network, skip_unreadable=True)(batch)
    assert list(table) == ["path", "label", *STAGES]
    assert table["path"].tolist() == [paths[0], paths[2]] and table["label"].tolist() == [4, 6]
    assert_of(model, [paths[0], paths[2]], table)
    nothing = Extract(extract.network, skip_unreadable=True)({"path": np.array(paths[1:2])})
    assert {name: column.shape for name, column in nothing.items()} == {
        "path": (0,),
        "covariance": (0, 8, 8),
        "representation": (0, 36),
    }


def test_tables_of_pixels_and_of_the_bytes_of_files(shared: Shared, paths: list[str]) -> None:
    model, extract = shared
    pixels = np.stack([photo(28, 28), photo(28, 28)[::-1]])
    table = extract({"image": pixels})
    assert list(table) == [*STAGES]
    assert_of(model, [*pixels], table)
    encoded = [Path(path).read_bytes() for path in paths]
    batch = {"path": ["s3://a", "s3://page", "s3://c"], "bytes": np.array(encoded, object)}
    table = Extract(extract.network, skip_unreadable=True)(batch)
    assert table["path"].tolist() == ["s3://a", "s3://c"] and "bytes" not in table
    assert_of(model, [encoded[0], encoded[2]], table)
    with pytest.raises(InputError, match="'s3://page': "):
        extract(batch)
    with pytest.raises(InputError, match=r"one of the columns bytes, image, path\. Received: url\."):
        extract({"url": ["a"]})


def test_a_copy_in_another_process_computes_the_same(shared: Shared, paths: list[str]) -> None:
    model, extract = shared
    copy = pickle.loads(pickle.dumps(extract))
    assert_of(model, [paths[0]], copy.rows(paths[:1]).features)


def test_a_name_is_loaded(artifact_hub: Path, paths: list[str]) -> None:
    extract = Extract("mpncov_cifar_resnet20", ["stage3"], hub=artifact_hub)
    model = mpncov_zoo.load("mpncov_cifar_resnet20", True, hub=artifact_hub)
    expected = mpncov_zoo.feature_extractor(model, ["stage3"])(model.preprocess(paths[0]))["stage3"]
    np.testing.assert_allclose(extract({"path": paths[:1]})["stage3"], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="stage9"):
        Extract(model, ["stage9"])


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet"])
def test_a_file_without_rows_does_not_appear(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InputError, match="at least one row"), feature_file(str(tmp_path / f"a{suffix}"), []):
        pass
    with pytest.raises(InputError, match=r"^output must end with \.npy"), feature_file("a.csv", []):
        pass
    assert not [*tmp_path.iterdir()]
