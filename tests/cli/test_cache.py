"""`mpncov-zoo cache`, on the bundled weights and a hub on 127.0.0.1."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpncov_zoo.hub.cache import CACHE_VARIABLE
from mpncov_zoo.hub.locations import HUB_VARIABLE
from mpncov_zoo.hub.resolve import BUNDLED
from mpncov_zoo.hub.verification import describe_files
from tests.command_line import Capture, assert_refused, run
from tests.hub.fault_server import FaultServer, serving

MODEL, NAME = "mpncov_cifar_resnet20", "mpncov_cifar_resnet20.fashion_mnist"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of one's own."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(HUB_VARIABLE, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultServer]:
    """A mirror of the bundled weights."""
    shutil.copytree(BUNDLED, tmp_path / "served")
    with serving(tmp_path / "served") as running:
        yield running


def test_where(capsys: Capture, cache: Path) -> None:
    assert run(capsys, "cache", "where") == (0, f"{cache}\n", "")
    assert run(capsys, "cache", "where", MODEL) == (0, f"{BUNDLED / NAME}\n", "")
    assert_refused(
        run(capsys, "cache", "where", "mpncov_resnet50"), "which was not converted here yet: mpncov-zoo cache prefetch"
    )
    assert_refused(run(capsys, "cache", "where", "mpncov_resnet5O"), "mpncov_resnet50")
    assert not cache.exists()


def test_prefetch_list_gc(capsys: Capture, cache: Path, server: FaultServer) -> None:
    assert run(capsys, "cache", "list")[:2] == (1, "")
    code, out, _ = run(capsys, "cache", "prefetch", MODEL, "--hub", server.url)
    directory = Path(out.strip())
    assert code == 0 and directory.parent == cache / "artifacts"
    assert describe_files(directory, exclude=()) == describe_files(BUNDLED / NAME, exclude=())
    code, out, _ = run(capsys, "cache", "list", "--json")
    size = sum(file.size for file in describe_files(BUNDLED / NAME, exclude=()))
    assert (code, json.loads(out)) == (0, {"name": NAME, "directory": str(directory), "bytes": size})
    assert NAME in run(capsys, "cache", "list")[1]
    assert run(capsys, "cache", "gc") == (0, "      0.0 MB freed\n", "")
    code, out, _ = run(capsys, "cache", "gc", "--all", "--dry-run")
    assert code == 0 and str(directory) in out and out.endswith("2.9 MB would be freed\n") and directory.is_dir()
    code, out, _ = run(capsys, "cache", "gc", "--all")
    assert code == 0 and out.endswith("2.9 MB freed\n") and not directory.exists()
    assert run(capsys, "cache", "list")[:2] == (1, "")


def test_repair(capsys: Capture, server: FaultServer) -> None:
    directory = Path(run(capsys, "cache", "prefetch", MODEL, "--hub", server.url)[1].strip())
    labels = directory / "assets" / "labels.txt"
    labels.chmod(0o644)
    labels.write_text("nothing")
    result = run(capsys, "cache", "prefetch", MODEL, "--hub", server.url)
    assert_refused(result, "'assets/labels.txt': expected 76 bytes, got 7", "mpncov-zoo cache repair", exit_code=1)
    code, out, _ = run(capsys, "cache", "repair")
    assert code == 0 and str(directory) in out and "expected sha256" in out and not directory.exists()
    asked = len(server.requests)
    assert run(capsys, "cache", "prefetch", MODEL, "--hub", server.url)[0] == 0
    assert [path.rpartition("/")[2] for path in server.paths[asked:] if NAME in path] == ["labels.txt"]  # no more


def test_pack_makes_a_hub(capsys: Capture, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = tmp_path / "disk" / "hub"
    code, out, _ = run(capsys, "cache", "pack", MODEL, "cifar_resnet20", "--output", hub)
    assert (code, out) == (0, f"{hub / NAME}\n{hub / 'cifar_resnet20.fashion_mnist'}\n")
    assert describe_files(hub / NAME, exclude=()) == describe_files(BUNDLED / NAME, exclude=())
    monkeypatch.setenv(HUB_VARIABLE, str(hub))
    assert run(capsys, "cache", "where", MODEL) == (0, f"{hub / NAME}\n", "")
    with serving(hub) as server:
        monkeypatch.setenv(HUB_VARIABLE, server.url)
        out = run(capsys, "cache", "prefetch", MODEL)[1]
        assert Path(out.strip()).parent == cache / "artifacts" and len(server.requests) == 7
        monkeypatch.setenv("MPNCOV_ZOO_OFFLINE", "1")
        assert run(capsys, "cache", "where", MODEL) == (0, out, "")


def test_nothing_is_fetched_where_a_name_is_wrong(capsys: Capture, server: FaultServer, tmp_path: Path) -> None:
    for command in (("prefetch",), ("pack", "--output", str(tmp_path / "hub"))):
        assert_refused(run(capsys, "cache", *command, MODEL, "no_such_model", "--hub", server.url), "no_such_model")
    assert server.requests == [] and not (tmp_path / "hub").exists()


@pytest.mark.parametrize("action", ["list", "where", "prefetch", "gc", "repair", "pack"])
def test_help_shows_an_example(capsys: Capture, action: str) -> None:
    code, out, _ = run(capsys, "cache", action, "--help")
    assert code == 0 and f"example:\n  mpncov-zoo cache {action}" in out
