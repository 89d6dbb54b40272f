"""docs/: the table of recipe keys is the models', the layer's example runs, and the site builds and stays at home."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mpncov_zoo.documents import StrictModel
from mpncov_zoo.manifest import load_manifest
from mpncov_zoo.specification import InputSpecification
from mpncov_zoo.training import recipes
from mpncov_zoo.training.shares import Shares

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SECTIONS: dict[str, type[StrictModel]] = {
    "": recipes.Recipe,
    "input.": InputSpecification,
    "optimizer.": recipes.Optimizer,
    "augmentation.": recipes.Augmentation,
    "augmentation.random_resized_crop.": recipes.RandomResizedCrop,
    "split.": Shares,
    "first_stage.": recipes.FirstStage,
}
PUBLIC = ("", ".features", ".training", ".representations", ".artifact", ".hub")
NOT_IN_THE_REFERENCE = {"BUILDERS"}  # a table of functions, for those who add a representation


def shown(value: Any) -> str:
    """A default as TOML has it, numbers with four digits; None has no TOML."""
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return f"`[{', '.join(f'{number:.4g}' for number in value)}]`"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"`{value:.4g}`" if number else f"`{json.dumps(value)}`"


def defaults() -> dict[str, str]:
    """Of every key of a recipe; what a recipe leaves out of `input` and `stages` is as the model has it."""
    return {
        prefix + name: "the model's"
        if prefix == "input." or name == "stages"
        else "required"
        if field.is_required()
        else shown(field.default)
        for prefix, model in SECTIONS.items()
        for name, field in model.model_fields.items()
        if f"{prefix}{name}." not in SECTIONS
    }


def test_every_recipe_key_stands_in_the_table_with_its_default() -> None:
    section = (DOCS / "training.md").read_text().partition("## All keys of a recipe")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(.+?)` \| (.+?) \| .*? \| .+ \|$", section, re.MULTILINE)
    assert dict(rows) == defaults()
    assert len(rows) == section.count("\n|") - 2


@pytest.fixture
def eager() -> Iterator[None]:
    """Without graphs: two steps of a trunk take a third of the time that compiling them takes."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.usefixtures("eager")
def test_example_of_the_layer_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / "layer.md").read_text(), re.DOTALL):
        exec(block.replace("224", "64"), names)
    assert names["network"].architecture.stages == ("block_12_add",) and names["network"].input_shape[1] == 192
    assert names["model"].output_shape == (None, 10) and names["x"].shape == (None, 4656)
    expected = names["model"](names["images"], training=False)
    np.testing.assert_array_equal(names["again"](names["images"], training=False), expected)
    assert "rank" in capsys.readouterr().out


def test_examples_of_features_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for block in re.findall(r"```python\n(.*?)```", (DOCS / "features.md").read_text(), re.DOTALL):
        exec(block, {})
    assert "'representation': (1, 2080)" in capsys.readouterr().out
    assert np.load("features.npz")["features"].shape == (10, 2080)


def test_reference_lists_every_public_name() -> None:
    listed = set(re.findall(r"^::: (\S+)$", (DOCS / "api.md").read_text(), re.MULTILINE))
    packages = [f"mpncov_zoo{name}" for name in PUBLIC] + ["conversion"]
    public = [(package, name) for package in packages for name in import_module(package).__all__]
    objects = [(getattr(import_module(package), name), name) for package, name in public]
    homes = {f"{found.__module__}.{name}" for found, name in objects if name not in NOT_IN_THE_REFERENCE}
    assert homes - listed == set()


class Loaded(HTMLParser):
    """What a page makes a browser load; plain links do not count."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "srcset") or (name, tag) == ("href", "link")
        ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("mkdocs") is None or find_spec("mkdocstrings") is None:
        pytest.skip("needs the extra docs")
    directory = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(directory)]
    built = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return directory


def test_site_has_every_page(site: Path) -> None:
    pages = re.findall(r": (\S+)\.md$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    pages += ["models/index", *(f"models/{entry.name}" for entry in load_manifest().entries)]
    assert [page for page in pages if not (site / f"{page.replace('README', 'index')}.html").is_file()] == []
    assert "\\(" not in (site / "representations.html").read_text()


def test_site_loads_nothing_from_another_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = Loaded()
        loaded.feed(page.read_text())
        assert loaded.addresses and not [address for address in loaded.addresses if re.match("([a-z]+:)?//", address)]
    for sheet in site.rglob("*.css"):
        assert not re.search(r"@import|url\([\"']?(https?:)?//", sheet.read_text())
