"""The page's content for an image: what is computed stands there, and names of others do it no harm."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mpncov_zoo
from mpncov_zoo.demo import second_order
from mpncov_zoo.demo.answering import compare
from mpncov_zoo.demo.neighbours import Neighbours
from mpncov_zoo.demo.networks import Network
from mpncov_zoo.demo.panels import network_panel
from tests.photos import photo

EXAMPLES = Path(mpncov_zoo.__file__).parent / "demo" / "examples"
ORIGINALS = Path(__file__).parents[2] / "examples" / "images"


@pytest.fixture(scope="module")
def twins() -> list[Network]:
    names = "mpncov_cifar_resnet20.fashion_mnist", "cifar_resnet20.fashion_mnist"
    return [Network(mpncov_zoo.load(name, True)) for name in names]


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "<b>photo</b>.png".replace("/", "_")
    Image.fromarray(photo(50, 40)).save(path)
    return str(path)


def test_two_networks_side_by_side(twins: list[Network]) -> None:
    told: list[tuple[int, int, str]] = []
    path = str(EXAMPLES / "ankle-boot.png")
    status, panels = compare(path, twins, {}, lambda *step: told.append(step))
    assert told == [(0, 2, twins[0].name), (1, 2, twins[1].name)]
    assert status.count("says: Ankle boot, ") == 2
    first, second = panels.split("<section ")[1:]
    assert "square root" in first and "This network takes no covariance" not in first
    assert "This network takes no covariance: it is computed here, of the stage “stage3”." in second
    assert "Nearest neighbours" not in panels
    for section, network in zip((first, second), twins, strict=True):
        pixels = np.asarray(Image.open(path))[..., None]
        features = network.answer(pixels).features
        matrix = np.cov(features.astype(np.float64).reshape(-1, features.shape[-1]), rowvar=False, bias=True)
        values = np.linalg.eigvalsh(matrix)[::-1]
        assert f"{100 * values[0] / values.sum():.0f} % of the sum" in section
        for pair in second_order.strongest_pairs(matrix, 3):
            assert f"Channels {pair.first} and {pair.second}" in section
        assert section.count("<img") == (12 if network.has_covariance else 11) == section.count('alt="')
    assert not re.search(r"""(src|href)=["'](?!data:)""", panels)


def test_neighbours_are_shown_where_they_belong(twins: list[Network], image: str, tmp_path: Path) -> None:
    (tmp_path / "damaged.png").write_bytes(b"none")
    directions = np.eye(2, 2080, dtype=np.float32)
    neighbours = Neighbours((image, str(tmp_path / "damaged.png")), directions)
    _, panels = compare(image, twins, {twins[0].name: neighbours}, lambda *_: None)
    assert panels.count("Nearest neighbours") == 1 and "damaged.png, " in panels and "cannot be read" in panels
    assert "<b>photo" not in panels and "&lt;b&gt;photo" in panels


def test_what_cannot_be_used_is_said(twins: list[Network], tmp_path: Path) -> None:
    (tmp_path / "<i>x.png").write_bytes(b"garbage")
    status, panels = compare(str(tmp_path / "<i>x.png"), twins, {}, lambda *_: None)
    assert "The image cannot be used." in status
    assert 'role="alert"' in panels and "&lt;i&gt;x.png" in panels and "not an image" in panels
    assert "There is no image yet." in compare(None, twins, {}, lambda *_: None)[0]


def test_even_features_have_no_spectrum_to_show(twins: list[Network]) -> None:
    pixels = np.zeros((28, 28, 1), np.uint8)
    answer = replace(twins[0].answer(pixels), features=np.ones((7, 7, 4), np.float32), root=None)
    assert "so the covariance is zero" in network_panel(twins[0], answer, pixels, None)


def test_the_examples_are_those_of_the_repository() -> None:
    found = sorted(EXAMPLES.glob("*.png"))
    assert len(found) == 6 and (EXAMPLES / "LICENSE").is_file()
    assert [path.read_bytes() for path in found] == [(ORIGINALS / path.name).read_bytes() for path in found]
