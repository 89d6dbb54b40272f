"""What of the cache is needed, damaged, abandoned; and that removals are neither more nor less."""

import os
from pathlib import Path

import pytest

from mpncov_zoo.errors import FetchError
from mpncov_zoo.hub.cache import Cache
from mpncov_zoo.hub.housekeeping import STALE, YOUNG, damaged, held, remove, total, unneeded
from mpncov_zoo.hub.verification import describe_files, sha256
from mpncov_zoo.manifest import Manifest
from tests.hub.artifacts import make_artifact, manifest, published, upstream

NAME = "tiny.toy"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Holds tiny.toy."""
    cache = Cache(tmp_path / "cache")
    cache.adopt(make_artifact(tmp_path / "artifact"), NAME)
    age(cache, 2 * YOUNG)
    return cache


@pytest.fixture
def known(tmp_path: Path, cache: Cache) -> Manifest:
    """A manifest that publishes what the cache holds."""
    return manifest(published(cache_tree(cache), kind="https"))


def cache_tree(cache: Cache) -> Path:
    return held(cache)[0].directory


def age(cache: Cache, seconds: float) -> None:
    for path in cache.root.rglob("*"):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - seconds), follow_symlinks=False)


def everything(cache: Cache) -> set[Path]:
    return {path for path in cache.root.rglob("*") if path.is_file()}


def test_what_is_held(cache: Cache) -> None:
    (item,) = held(cache)
    files = [path for path in item.directory.rglob("*") if path.is_file()]
    assert (item.name, item.directory.parent) == (NAME, cache.artifacts)
    assert item.size == sum(path.stat().st_size for path in files)
    assert held(Cache(cache.root / "absent")) == []


def test_a_blob_and_its_directory_are_one_content(cache: Cache) -> None:
    file = cache_tree(cache) / "saved_model.pb"
    assert file.samefile(cache.blob(sha256(file))) and not file.stat().st_mode & 0o222


def test_what_the_manifest_has_is_needed(cache: Cache, known: Manifest) -> None:
    assert unneeded(cache, known) == [] and list(damaged(cache)) == []


def test_what_a_conversion_or_a_hub_gave_is_needed(cache: Cache) -> None:
    digest = sha256(cache_tree(cache) / "model.json")
    for kind, name in (("converted", NAME), ("hubs", f"{NAME}@0123456789abcdef")):
        assert unneeded(cache, manifest()) != []
        cache.remember(kind, name, digest)
        assert unneeded(cache, manifest()) == []
        (cache.refs / kind / name).unlink()


def test_what_nothing_needs_is_removed(cache: Cache) -> None:
    removals = unneeded(cache, manifest())
    files = {path.stat().st_ino: path.stat().st_size for path in everything(cache) if path.name != "CACHEDIR.TAG"}
    assert total(removals) == sum(files.values())
    remove(cache, removals)
    assert {path.name for path in everything(cache)} == {"CACHEDIR.TAG"} and held(cache) == []


def test_an_older_version_of_weights_goes_and_shared_files_stay(tmp_path: Path, cache: Cache, known: Manifest) -> None:
    newer = make_artifact(tmp_path / "newer")
    (newer / "saved_model.pb").write_bytes(b"another graph")
    tree = cache.adopt(newer, NAME)
    age(cache, 2 * YOUNG)
    assert {removal.path for removal in unneeded(cache, known)} == {tree, cache.blob(sha256(tree / "saved_model.pb"))}


def test_a_young_blob_may_be_of_a_fetch_under_way(cache: Cache) -> None:
    (cache.blobs / ("0" * 64)).write_bytes(b"just fetched")
    trees = {item.directory for item in held(cache)}
    young = cache.blobs / ("0" * 64)
    assert young not in {removal.path for removal in unneeded(cache, manifest())} | trees
    assert young in {removal.path for removal in unneeded(cache, manifest(), everything=True)}


def test_what_broke_off_goes_after_a_day(cache: Cache, known: Manifest) -> None:
    cache.partial.mkdir()
    (cache.partial / "x.partial").write_bytes(b"half")
    (cache.artifacts / ".tiny.toy-abc").mkdir()
    (cache.artifacts / ".tiny.toy-abc" / "file").write_bytes(b"half")
    assert unneeded(cache, known) == []
    age(cache, 2 * STALE)
    found = [removal.path.name for removal in unneeded(cache, known)]
    assert found == ["x.partial", ".tiny.toy-abc"]


def test_a_checkpoint_is_needed_until_it_is_converted(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "tiny.pth").write_bytes(b"weights")
    digest = sha256(tmp_path / "tiny.pth")
    cache.store(tmp_path / "tiny.pth", digest)
    cache.remember("checkpoints", "tiny.pth", digest)
    age(cache, 2 * YOUNG)
    known, blob = manifest(upstream()), cache.blob(digest)
    assert blob not in {removal.path for removal in unneeded(cache, known)}
    cache.remember("converted", NAME, sha256(cache_tree(cache) / "model.json"))
    assert {removal.path for removal in unneeded(cache, known)} == {blob}
    remove(cache, unneeded(cache, known, everything=True))
    assert cache.recall("checkpoints", "tiny.pth") == digest  # of its first use, for good


@pytest.mark.parametrize("same_file", [True, False])
def test_damage_is_found_and_what_is_sound_stays(cache: Cache, same_file: bool) -> None:
    tree = cache_tree(cache)
    path, blob = tree / "saved_model.pb", cache.blob(sha256(tree / "saved_model.pb"))
    if not same_file:
        path.unlink()
    path.touch()
    path.chmod(0o644)
    path.write_bytes(b"GRAPH")
    sound = everything(cache) - {blob, *tree.rglob("*")}
    removals = list(damaged(cache))
    assert {removal.path for removal in removals} == ({blob, tree} if same_file else {tree})
    remove(cache, removals)
    assert everything(cache) >= sound and list(damaged(cache)) == []


@pytest.mark.parametrize("name", ["extra", "assets/extra"])
def test_an_extra_file_is_damage(cache: Cache, name: str) -> None:
    (cache_tree(cache) / name).write_bytes(b"")
    assert [removal.path for removal in damaged(cache)] == [cache_tree(cache)]


def test_links_and_pipes_are_damage_and_are_not_followed(tmp_path: Path, cache: Cache) -> None:
    os.mkfifo(cache_tree(cache) / "pipe")
    (tmp_path / "precious").write_bytes(b"of the user")
    (cache.blobs / ("1" * 64)).symlink_to(tmp_path / "precious")
    (cache.artifacts / "linked.toy@0123456789abcdef").symlink_to(tmp_path)
    removals = list(damaged(cache))
    assert len(removals) == 3
    remove(cache, removals)
    assert (tmp_path / "precious").exists() and list(damaged(cache)) == []


def test_a_damaged_directory_is_made_anew_from_sound_blobs(cache: Cache) -> None:
    tree = cache_tree(cache)
    files = describe_files(tree, exclude=())
    (tree / "extra").write_bytes(b"")
    remove(cache, list(damaged(cache)))
    assert not tree.exists()
    assert cache.materialise(NAME, files) == tree and describe_files(tree, exclude=()) == files


def test_what_was_remembered_and_is_no_digest_is_forgotten(cache: Cache) -> None:
    cache.remember("converted", NAME, "0" * 64)
    assert cache.recall("converted", NAME) == "0" * 64
    (cache.refs / "converted" / NAME).write_text("../../elsewhere")
    assert cache.recall("converted", NAME) is None


def test_where_hard_links_do_not_work_there_are_copies(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refused)
    second = Cache(tmp_path / "second")
    tree = second.adopt(make_artifact(tmp_path / "again"), NAME)
    assert describe_files(tree, exclude=()) == describe_files(cache_tree(cache), exclude=())
    assert list(damaged(second)) == []


def test_a_cache_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FetchError, match=r"cannot be written: Not a directory.*MPNCOV_ZOO_CACHE"):
        Cache(tmp_path / "file").remember("converted", NAME, "0" * 64)
