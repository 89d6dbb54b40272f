"""`mpncov-zoo features` into single files: the rows, and outputs that cannot be."""

import errno
import json
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from mpncov_zoo.cli import features as features_command
from mpncov_zoo.features import files as feature_files
from tests.command_line import Capture, assert_refused, run

NAME = "mpncov_cifar_resnet20"


def read_features(path: Path) -> tuple[list[str], np.ndarray]:
    """Paths and rows, by the readers that users have."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            assert sorted(arrays.files) == ["features", "paths"]
            return arrays["paths"].tolist(), arrays["features"]
    if path.suffix == ".npy":
        return path.with_suffix(".paths.txt").read_text().splitlines(), np.load(path, allow_pickle=False)
    table = pyarrow.parquet.read_table(path)
    assert table.column_names == ["path", "features"]
    shape = [int(size) for size in table.schema.field("features").metadata[b"shape"].split()]
    return table["path"].to_pylist(), np.array(table["features"].to_pylist(), np.float32).reshape(-1, *shape)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet"])
def test_features_are_the_representation_of_each_image(
    capsys: Capture,
    artifact_hub: Path,
    stages: dict[str, np.ndarray],
    photos: Path,
    found: list[str],
    tmp_path: Path,
    suffix: str,
) -> None:
    output = tmp_path / f"out{suffix}"
    code, out, err = run(capsys, "features", NAME, photos, "--hub", artifact_hub, "--output", output, "--batch-size", 2)
    assert (code, out) == (0, f"{output}: 3 images, representation of 2080 values\n")
    assert "3/3" in err
    paths, rows = read_features(output)
    assert paths == found and rows.dtype == np.float32
    np.testing.assert_allclose(rows, stages["representation"], rtol=1e-4, atol=1e-5)
    beside = ["out.paths.txt"] if suffix == ".npy" else []
    assert sorted(path.name for path in tmp_path.iterdir()) == [output.name, *beside]
    assert oct(output.stat().st_mode) == oct((photos / "notes.txt").stat().st_mode)


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_features_of_another_stage_keep_their_shape(
    capsys: Capture, artifact_hub: Path, stages: dict[str, np.ndarray], found: list[str], tmp_path: Path, suffix: str
) -> None:
    output = tmp_path / f"out{suffix}"
    arguments = [*found[:2], "--hub", artifact_hub, "--output", output, "--stage", "covariance", "--json"]
    summary = json.loads(run(capsys, "features", NAME, *arguments)[1])
    expected = {"output": str(output), "images": 2, "stage": "covariance", "shape": [64, 64]}
    assert summary.items() >= expected.items()
    np.testing.assert_allclose(read_features(output)[1], stages["covariance"][:2], rtol=1e-4, atol=1e-5)


def test_features_replace_an_older_file_only_when_complete(
    capsys: Capture, artifact_hub: Path, found: list[str], tmp_path: Path
) -> None:
    (tmp_path / "page.png").write_text("not an image")
    output = tmp_path / "out.npz"
    output.write_text("older")
    arguments = ["features", NAME, found[0], tmp_path / "page.png", found[1], "--hub", artifact_hub]
    arguments += ["--output", output, "--batch-size", 1]
    assert_refused(run(capsys, *arguments), "page.png", "--skip-unreadable")
    assert output.read_text() == "older" and sorted(p.name for p in tmp_path.iterdir()) == ["out.npz", "page.png"]
    code, out, err = run(capsys, *arguments, "--skip-unreadable")
    assert code == 0 and "2 images" in out and "left out: " in err and "page.png" in err
    assert read_features(output)[0] == found[:2]


def test_features_of_nothing_readable(capsys: Capture, artifact_hub: Path, tmp_path: Path) -> None:
    arguments = [__file__, "--hub", artifact_hub, "--output", tmp_path / "out.npy", "--skip-unreadable"]
    code, out, err = run(capsys, "features", NAME, *arguments)
    assert (code, out) == (2, "") and "None of the images could be read" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("out.csv", "--output must end with .npy, .npz, .parquet, or be a directory (one"),
        ("folder.parquet", "is a directory; give the path of a file"),
        ("missing/out.npz", "cannot be written: No such file or directory"),
        ("file.txt/out.npz", "cannot be written: Not a directory"),
        ("folder.npz", "is a directory; give the path of a file"),
    ],
)
def test_outputs_that_cannot_be_are_refused_before_the_work(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, output: str, message: str
) -> None:
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "file.txt").touch()
    monkeypatch.setattr(features_command, "extractor", lambda *_, **__: pytest.fail("the work has begun"))
    assert_refused(run(capsys, "features", NAME, __file__, "--output", tmp_path / output), message)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.txt", "folder.npz", "folder.parquet"]


@pytest.mark.parametrize(
    ("path", "suffix", "message"),
    [("a\nb.png", ".npy", "has a line break"), ("a\udcff.png", ".parquet", "not UTF-8")],
)
def test_paths_that_a_format_cannot_hold(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str, suffix: str, message: str
) -> None:
    monkeypatch.setattr(features_command, "extractor", lambda *_, **__: pytest.fail("the work has begun"))
    assert_refused(run(capsys, "features", NAME, path, "--output", tmp_path / f"out{suffix}"), message, ".npz instead")
    assert list(tmp_path.iterdir()) == []


def test_features_of_stages_are_pooled(capsys: Capture, artifact_hub: Path, found: list[str], tmp_path: Path) -> None:
    """The stage's own maps, pooled by NumPy, are the truth; nothing in between is trained or random."""
    maps, pooled = tmp_path / "maps.npz", tmp_path / "pooled.npz"
    arguments = [NAME, *found[:2], "--hub", artifact_hub]
    for stage, output in (("stage2", maps), ("stage3", tmp_path / "maps3.npz")):
        assert run(capsys, "features", *arguments, "--output", output, "--stage", stage)[0] == 0
    two, three = read_features(maps)[1], read_features(tmp_path / "maps3.npz")[1]
    code, out, _ = run(
        capsys, "features", *arguments, "--output", pooled, "--stage", "stage2", "stage3", "--pool", "gap"
    )
    assert code == 0 and "gap of stage2, stage3, of 96 values" in out
    expected = np.concatenate([two.mean((1, 2)), three.mean((1, 2))], axis=1)
    np.testing.assert_allclose(read_features(pooled)[1], expected, rtol=1e-4, atol=1e-5)
    arguments += ["--output", pooled, "--json"]
    code, out, _ = run(capsys, "features", *arguments, "--stage", "stage2", "--pool", "bcnn")
    summary = json.loads(out)
    assert (summary["stages"], summary["pool"], summary["shape"]) == (["stage2"], "bcnn", [32 * 32])
    behind = ["--stage", "stage3", *found[:2]]  # the inputs may come last
    code, out, _ = run(capsys, "features", NAME, *arguments[3:], *behind)
    assert (code, json.loads(out)["images"], json.loads(out)["stage"]) == (0, 2, "stage3")
    assert_refused(run(capsys, "features", NAME, *arguments[3:]), "No INPUT: give image files or folders")
    assert_refused(run(capsys, "features", *arguments, "--pool", "cbp"), "The pooling cbp needs a stage of the trunk")
    refused = run(capsys, "features", *arguments, "--stage", "stage2", "stage3")
    assert_refused(refused, "several stages need a pooling that joins them")


def test_parquet_without_pyarrow(capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = run(capsys, "features", NAME, __file__, "--output", tmp_path / "out.parquet")
    assert_refused(result, "pip install 'mpncov-zoo[features]'")
    assert list(tmp_path.iterdir()) == []


def test_unknown_stages_leave_nothing(capsys: Capture, artifact_hub: Path, found: list[str], tmp_path: Path) -> None:
    arguments = [found[0], "--hub", artifact_hub, "--output", tmp_path / "out.npy", "--stage", "stage9"]
    assert_refused(run(capsys, "features", NAME, *arguments), "covariance, representation, logits", "'stage9'")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing(
    capsys: Capture, artifact_hub: Path, found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def append(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(feature_files.NpyFile, "append", append)
    result = run(capsys, "features", NAME, found[0], "--hub", artifact_hub, "--output", tmp_path / "out.npy")
    assert_refused(result, "out.npy' cannot be written: No space left on device")
    assert list(tmp_path.iterdir()) == []
