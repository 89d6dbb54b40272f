"""A module or folder of the user's that is called `conversion`, too, is named, and not run."""

import subprocess
import sys
from pathlib import Path

import pytest

from mpncov_zoo.conversion_package import OURS, require_conversion

ROOT = Path(__file__).parent.parent
RUNS = "raise SystemExit('it ran')"


def test_our_own_package_is_found() -> None:
    require_conversion()
    assert OURS == ROOT / "conversion"


@pytest.mark.parametrize("name", ["conversion.py", "conversion/__init__.py"])
def test_the_command_names_what_hides_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(RUNS)
    (tmp_path / "net.pth").write_bytes(b"")
    command = "import sys; sys.path[:0] = ['', sys.argv.pop()]; from mpncov_zoo import cli; sys.exit(cli.main())"
    arguments = ["convert", "net.pth", "--model", "mpncov_resnet50", "--dry-run", str(ROOT)]
    done = subprocess.run([sys.executable, "-c", command, *arguments], cwd=tmp_path, capture_output=True, text=True)
    said = f"{tmp_path / name} hides the package 'conversion' of mpncov-zoo, which converts checkpoints: rename it, or"
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1) and said in done.stderr


@pytest.mark.parametrize("hidden", [True, False])
def test_a_folder_without_init_hides_only_what_is_not_on_the_path(tmp_path: Path, hidden: bool) -> None:
    """Python prefers a package further down its path to such a folder, but not one of an editable install."""
    (tmp_path / "conversion").mkdir()
    path = [str(tmp_path)] if hidden else [str(tmp_path), str(ROOT)]
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from mpncov_zoo.conversion_package import require_conversion\n"
        f"sys.path[:] = {path} + [folder for folder in sys.path if folder.endswith('lib-dynload')]\n"
        "require_conversion()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert bool(done.returncode) == hidden
    assert not hidden or f"ConversionError: {tmp_path / 'conversion'} hides the package" in done.stderr
