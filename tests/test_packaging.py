"""Wheel, sdist and editable installs of this tree: each finds the manifest, and holds what it must and no more.

What a release states in several files agrees.
"""

import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mpncov_zoo.version import __version__

ROOT = Path(__file__).parent.parent
TOP_LEVEL = ("setup.py", "setup.cfg", "pyproject.toml", "MANIFEST.in", "weights_manifest.json")
DIST_INFO = f"mpncov_zoo-{__version__}.dist-info"
BUNDLED_FILE = "mpncov_zoo/bundled/tiny.toy/variables/variables.index"
# The environment that runs the tests may itself hold an editable install, whose finder has the same module name.
FORGET_OTHER_EDITABLE_INSTALL = (
    f"; sys.modules.pop('__editable___mpncov_zoo_{__version__.replace('.', '_')}_finder', None)"
    "; sys.meta_path[:] = [f for f in sys.meta_path if getattr(f, '__name__', '') != '_EditableFinder']"
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, with one more bundled file three levels down, so that builds leave this tree alone."""
    copy = tmp_path_factory.mktemp("checkout")
    for package in ("mpncov_zoo", "conversion"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (*TOP_LEVEL, "README.md", "LICENSE"):
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, copy)
    (copy / BUNDLED_FILE).parent.mkdir(parents=True)
    (copy / BUNDLED_FILE).write_bytes(b"index")
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("build_wheel", checkout, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("build_sdist", checkout, tmp_path_factory.mktemp("sdist"))


def build(hook: str, source: Path, output: Path, settings: dict[str, str] | None = None) -> Path:
    """Call setuptools' PEP 517 hook as pip would, with this environment's setuptools: no network, no isolation."""
    code = f"from setuptools import build_meta; build_meta.{hook}({str(output)!r}, {settings!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True, text=True)
    (built,) = output.iterdir()
    return built


def manifest_seen_from(import_path: Path, code: str = "") -> str:
    """Where a fresh interpreter finds the package, and how many entries its default manifest has."""
    code += "; import mpncov_zoo.manifest as m; print(m.__file__, len(m.load_manifest().entries))"
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(import_path)!r}){code}"]
    return subprocess.run(command, cwd=import_path, check=True, capture_output=True, text=True).stdout


def number_of_entries() -> int:
    from mpncov_zoo.manifest import load_manifest

    return len(load_manifest(ROOT / "weights_manifest.json").entries)


def test_wheel_holds_the_manifest_inside_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("mpncov_zoo/weights_manifest.json") == (ROOT / "weights_manifest.json").read_bytes()
        names = set(archive.namelist())
        record = archive.read(f"{DIST_INFO}/RECORD").decode()
    assert {"mpncov_zoo/py.typed", "mpncov_zoo/manifest.py", "mpncov_zoo/hub/resolve.py", BUNDLED_FILE} <= names
    assert "mpncov_zoo/weights_manifest.json,sha256=" in record
    assert {name.split("/")[0] for name in names} == {"mpncov_zoo", "conversion", DIST_INFO}
    assert {"mpncov_zoo/labels/imagenet_1k.txt", "mpncov_zoo/labels/LICENSE.wordnet"} <= names
    assert {
        f"mpncov_zoo/demo/{name}" for name in ("page.css", "page.js", "examples/bag.png", "examples/LICENSE")
    } <= names


def test_wheel_states_the_command_and_the_dependencies(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"{DIST_INFO}/METADATA").decode()
        scripts = archive.read(f"{DIST_INFO}/entry_points.txt").decode()
    assert scripts.split() == ["[console_scripts]", "mpncov-zoo", "=", "mpncov_zoo.cli:main"]
    required = {line.removeprefix("Requires-Dist: ") for line in metadata.splitlines() if "Requires-Dist" in line}
    assert {"tensorflow>=2.20", "keras>=3.15", "pydantic>=2", 'setuptools<82; extra == "hub"'} <= required
    assert not {name for name in required if "torch" in name and "extra" not in name}
    assert "License-Expression: Apache-2.0" in metadata and "Requires-Python: >=3.11" in metadata


def test_unpacked_wheel_finds_its_manifest(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    expected = f"{tmp_path / 'mpncov_zoo' / 'manifest.py'} {number_of_entries()}\n"
    assert manifest_seen_from(tmp_path) == expected


def test_sdist_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(sdist, tmp_path / "unpacked")
    source = tmp_path / "unpacked" / f"mpncov_zoo-{__version__}"
    assert not [name for name in (*TOP_LEVEL, BUNDLED_FILE) if not (source / name).is_file()]
    (tmp_path / "wheel").mkdir()
    rebuilt = build("build_wheel", source, tmp_path / "wheel")
    assert sorted(zipfile.ZipFile(rebuilt).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())


@pytest.mark.parametrize("mode", ["lenient", "strict"])
def test_editable_install_finds_the_manifest(checkout: Path, tmp_path: Path, mode: str) -> None:
    (tmp_path / "wheel").mkdir()
    wheel = build("build_editable", checkout, tmp_path / "wheel", {"editable_mode": mode})
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    activate = f"{FORGET_OTHER_EDITABLE_INSTALL}; import site; site.addsitedir({str(tmp_path / 'site')!r})"
    where, entries = manifest_seen_from(tmp_path / "site", activate).split()
    assert Path(where).is_relative_to(checkout) and int(entries) == number_of_entries()


def test_the_pythons_that_are_stated_are_the_tested_ones() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    stated = re.findall(r"Python :: (3\.\d+)", setup["metadata"]["classifiers"])
    (matrix,) = re.findall(r"python-version: \[(.*)\]", (ROOT / ".github/workflows/test.yml").read_text())
    assert re.findall(r"3\.\d+", matrix) == stated
    assert setup["options"]["python_requires"] == f">={stated[0]}"


def test_changelog_and_citation_state_the_version() -> None:
    (date,) = re.findall(
        rf"^## \[{re.escape(__version__)}\] - (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert f"\nversion: {__version__}\ndate-released: {date}\n" in (ROOT / "CITATION.cff").read_text()
