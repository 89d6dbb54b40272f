"""The exact set of files, their sizes, their digests: every way to differ is refused and named."""

import os
import re
from pathlib import Path

import pytest

from mpncov_zoo.description import FileEntry
from mpncov_zoo.errors import IntegrityError
from mpncov_zoo.hub.verification import describe_files, sha256, verify_files
from tests.hub.artifacts import CONTENT, make_artifact

SHA256_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-4, example B.1


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return make_artifact(tmp_path / "tiny.toy")


@pytest.fixture
def files(artifact: Path) -> list[FileEntry]:
    return describe_files(artifact)


def refusal(artifact: Path, files: list[FileEntry]) -> str:
    """The message of the IntegrityError, which must name the directory and fit one line."""
    with pytest.raises(IntegrityError, match=f"^{re.escape(str(artifact))}") as caught:
        verify_files(artifact, files, ignore=("model.json",))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_sha256_of_the_standards_example(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == SHA256_ABC


def test_describe_files_lists_sorted_posix_paths_sizes_and_digests(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.txt").write_bytes(b"abc")
    (tmp_path / "c").write_bytes(b"")
    (tmp_path / "model.json").write_bytes(b"{}")
    described = describe_files(tmp_path)
    assert [(file.path, file.size) for file in described] == [("b/x.txt", 3), ("c", 0)]
    assert described[0].sha256 == SHA256_ABC


def test_describe_files_for_the_manifest_includes_model_json(artifact: Path) -> None:
    assert [file.path for file in describe_files(artifact, exclude=())] == sorted([*CONTENT, "model.json"])


def test_describe_files_refuses_names_that_no_artifact_may_hold(tmp_path: Path) -> None:
    (tmp_path / "a b").write_bytes(b"")
    with pytest.raises(IntegrityError, match=r"'a b': expected a portable name; .*Rename or remove it"):
        describe_files(tmp_path)


def test_untouched_artifact_passes(artifact: Path, files: list[FileEntry]) -> None:
    verify_files(artifact, files, ignore=("model.json",))
    verify_files(artifact, describe_files(artifact, exclude=()))


def test_ignored_file_may_be_absent(artifact: Path, files: list[FileEntry]) -> None:
    (artifact / "model.json").unlink()
    verify_files(artifact, files, ignore=("model.json",))


def test_edited_file_of_equal_size(artifact: Path, files: list[FileEntry]) -> None:
    path = "variables/variables.data-00000-of-00001"
    (artifact / path).write_bytes(b"0123456780")
    expected, got = next(file.sha256 for file in files if file.path == path), sha256(artifact / path)
    assert f"{path!r}: expected sha256 {expected}, got {got}. Obtain the artifact again" in refusal(artifact, files)


def test_truncated_file(artifact: Path, files: list[FileEntry]) -> None:
    (artifact / "saved_model.pb").write_bytes(b"gra")
    assert "'saved_model.pb': expected 5 bytes, got 3. Obtain the artifact again" in refusal(artifact, files)


def test_sizes_are_compared_before_any_digest(artifact: Path, files: list[FileEntry]) -> None:
    (artifact / "assets/labels.txt").write_bytes(b"shirt\nboat\n")
    (artifact / "variables/variables.index").write_bytes(b"indexes")
    assert "'variables/variables.index': expected 5 bytes, got 7" in refusal(artifact, files)


def test_missing_file(artifact: Path, files: list[FileEntry]) -> None:
    (artifact / "variables/variables.index").unlink()
    assert "'variables/variables.index': expected 5 bytes, got no such file" in refusal(artifact, files)


def test_extra_file_in_a_new_directory(artifact: Path, files: list[FileEntry]) -> None:
    (artifact / "assets.extra").mkdir()
    (artifact / "assets.extra/hook.py").write_bytes(b"1234")
    message = refusal(artifact, files)
    assert "'assets.extra/hook.py': expected no such file, got 4 bytes. If the file is yours, move it" in message


def test_unlisted_model_json_is_extra_unless_ignored(artifact: Path, files: list[FileEntry]) -> None:
    with pytest.raises(IntegrityError, match=r"'model\.json': expected no such file"):
        verify_files(artifact, files)


def test_symlink_to_the_right_content(artifact: Path, files: list[FileEntry], tmp_path: Path) -> None:
    outside = tmp_path / "outside.pb"
    (artifact / "saved_model.pb").rename(outside)
    (artifact / "saved_model.pb").symlink_to(outside)
    assert "'saved_model.pb': expected a regular file, got a link or device" in refusal(artifact, files)


def test_symlinked_directory(artifact: Path, files: list[FileEntry], tmp_path: Path) -> None:
    (artifact / "variables").rename(tmp_path / "outside")
    (artifact / "variables").symlink_to(tmp_path / "outside", target_is_directory=True)
    assert "'variables': expected a regular file, got a link or device" in refusal(artifact, files)


def test_ignored_path_must_be_a_regular_file_too(artifact: Path, files: list[FileEntry], tmp_path: Path) -> None:
    (artifact / "model.json").rename(tmp_path / "model.json")
    (artifact / "model.json").symlink_to(tmp_path / "model.json")
    assert "'model.json': expected a regular file" in refusal(artifact, files)


def test_named_pipe_is_refused_and_never_opened(artifact: Path, files: list[FileEntry]) -> None:
    (artifact / "saved_model.pb").unlink()
    os.mkfifo(artifact / "saved_model.pb")
    assert "'saved_model.pb': expected a regular file, got a link or device" in refusal(artifact, files)


def test_missing_directory(tmp_path: Path) -> None:
    assert "expected an artifact directory, got none" in refusal(tmp_path / "absent", [])
