"""A hub in a directory: what is copied, what is listed, and what is refused without a trace."""

import json
import multiprocessing
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mpncov_zoo.description import parse_index
from mpncov_zoo.errors import InputError, IntegrityError, ManifestError
from mpncov_zoo.hub import directories
from mpncov_zoo.hub.directories import add_artifact
from mpncov_zoo.hub.resolve import resolve
from mpncov_zoo.manifest import load_manifest
from tests.hub.artifacts import CONTENT, make_artifact

LOCK = ".index.json.lock"


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return make_artifact(tmp_path / "run" / "anything")


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != LOCK
    }


def names(hub: Path) -> list[str]:
    return sorted(path.name for path in hub.iterdir() if path.name != LOCK)


def test_the_copy_holds_the_same_bytes_and_is_listed(artifact: Path, tmp_path: Path) -> None:
    hub = tmp_path / "new" / "hub"
    before = contents(artifact)
    assert add_artifact(artifact, "tiny.toy", hub) == hub / "tiny.toy"
    assert contents(hub / "tiny.toy") == contents(artifact) == before
    assert set(before) == {*CONTENT, "model.json"}
    assert json.loads((hub / "index.json").read_text()) == {"format_version": 1, "artifacts": ["tiny.toy"]}
    assert names(hub) == ["index.json", "tiny.toy"]
    assert (hub / "tiny.toy").stat().st_mode & 0o777 == 0o755
    assert resolve("tiny", "toy", hub=hub, manifest=load_manifest()).directory == hub / "tiny.toy"


def test_the_index_is_sorted_and_keeps_what_it_lists(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    for name in ("tiny.toy", "other.toy", "tiny.another", "tiny.toy"):
        model, _, tag = name.partition(".")
        path = tmp_path / name
        add_artifact(path if path.exists() else make_artifact(path, model=model, tag=tag), name, hub)
    assert parse_index(hub / "index.json").artifacts == ["other.toy", "tiny.another", "tiny.toy"]


def test_the_same_files_are_left_as_they_are(artifact: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    copy = add_artifact(artifact, "tiny.toy", hub)
    times = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    (hub / "index.json").unlink()
    assert add_artifact(artifact, "tiny.toy", hub) == add_artifact(copy, "tiny.toy", hub) == copy
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == times
    assert parse_index(hub / "index.json").artifacts == ["tiny.toy"]


def test_other_files_under_the_name_are_refused_and_stay(artifact: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    add_artifact(artifact, "tiny.toy", hub)
    before = contents(hub)
    (artifact / "saved_model.pb").write_bytes(b"GRAPH")
    with pytest.raises(InputError, match=r"tiny\.toy exists already with other files.*another tag"):
        add_artifact(artifact, "tiny.toy", hub)
    assert contents(hub) == before


@pytest.mark.parametrize("name", ["..", "../other", "tiny", "tiny.toy/x", "Tiny.toy", "tiny.toy.more", "", "/etc/a.b"])
def test_names_that_are_none(artifact: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"expected <model>\.<tag>"):
        add_artifact(artifact, name, tmp_path / "hub")
    assert not (tmp_path / "hub").exists()


def test_places_that_are_none(artifact: Path, tmp_path: Path) -> None:
    before = contents(tmp_path)
    for place in (artifact, artifact / "hub", make_artifact(tmp_path / "second")):
        with pytest.raises(InputError, match="holds its own files alone"):
            add_artifact(artifact, "tiny.toy", place)
    with pytest.raises(InputError, match="got a file"):
        add_artifact(artifact, "tiny.toy", artifact.parent.parent / "second" / "model.json")
    (tmp_path / "link").symlink_to(artifact)
    with pytest.raises(InputError, match="holds its own files alone"):
        add_artifact(artifact, "tiny.toy", tmp_path / "link" / "hub")
    assert {name for name in contents(tmp_path) if "second" not in name and "link" not in name} == set(before)


def test_a_malformed_index_is_refused_before_anything_is_copied(artifact: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    (hub / "index.json").write_text('{"format_version": 1, "artifacts": "tiny.toy"}')
    with pytest.raises(ManifestError, match=r"index\.json: artifacts"):
        add_artifact(artifact, "tiny.toy", hub)
    assert names(hub) == ["index.json"]


def test_a_copy_that_differs_is_refused_and_removed(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:-1])

    monkeypatch.setattr(directories.shutil, "copyfile", copy)
    with pytest.raises(IntegrityError, match="changed while it was copied"):
        add_artifact(artifact, "tiny.toy", tmp_path / "hub")
    assert names(tmp_path / "hub") == []


def test_a_full_disk_leaves_the_hub_as_it_was(artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = tmp_path / "hub"
    add_artifact(artifact, "tiny.toy", hub)
    before = contents(hub)

    def copy(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(directories.shutil, "copyfile", copy)
    with pytest.raises(InputError, match="cannot be written: No space left on device"):
        add_artifact(make_artifact(tmp_path / "b", tag="own"), "tiny.own", hub)
    assert contents(hub) == before and names(hub) == ["index.json", "tiny.toy"]


def test_a_text_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "card.md").mkdir()
    with pytest.raises(InputError, match=r"card\.md cannot be written: Is a directory"):
        directories.replace_text(tmp_path / "card.md", "text")
    assert names(tmp_path) == ["card.md"]


def test_links_are_refused(artifact: Path, tmp_path: Path) -> None:
    (artifact / "secret").symlink_to("/etc/passwd")
    with pytest.raises(IntegrityError, match="'secret': expected a regular file"):
        add_artifact(artifact, "tiny.toy", tmp_path / "hub")
    assert not (tmp_path / "hub").exists()


def together(work: list[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=step) for step in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_two_at_once_do_not_lose_an_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the lock both would read the index before either writes it: the barrier waits for just that."""
    hub, meeting, read = tmp_path / "hub", threading.Barrier(2), parse_index
    add_artifact(make_artifact(tmp_path / "first", tag="first"), "tiny.first", hub)

    def parse(path: Path) -> object:
        index = read(path)
        try:
            meeting.wait(timeout=0.3)
        except threading.BrokenBarrierError:
            meeting.reset()
        return index

    monkeypatch.setattr(directories, "parse_index", parse)
    artifacts = {f"tiny.{tag}": make_artifact(tmp_path / tag, tag=tag) for tag in ("second", "third")}
    together([lambda name=name, path=path: add_artifact(path, name, hub) for name, path in artifacts.items()])
    assert read(hub / "index.json").artifacts == ["tiny.first", "tiny.second", "tiny.third"]


def test_processes_share_a_hub(tmp_path: Path) -> None:
    tags = [f"t{number}" for number in range(4)]
    work = [(make_artifact(tmp_path / tag, tag=tag), f"tiny.{tag}", tmp_path / "hub") for tag in tags]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(add_artifact, work)
    assert parse_index(tmp_path / "hub" / "index.json").artifacts == [f"tiny.{tag}" for tag in tags]
    assert names(tmp_path / "hub") == ["index.json", *(f"tiny.{tag}" for tag in tags)]
