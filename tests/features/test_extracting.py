"""Features of many images into Parquet: resumed, exactly once, in a directory, a file or a store; what is refused."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import mpncov_zoo
from mpncov_zoo.errors import InputError, ZooError
from mpncov_zoo.features import ExtractReport, extract, parts, places, work
from tests.command_line import Capture, assert_refused, run
from tests.networks import tiny
from tests.parquet import rows_of
from tests.photos import photo

NAME = "mpncov_cifar_resnet20"
COUNT = 23


@pytest.fixture(scope="module")
def model() -> mpncov_zoo.ImageClassifier:
    return tiny()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All different, in two folders."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(COUNT):
        place = root / "ab"[number % 2] / f"{number:02}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(np.roll(photo(20, 20), number, axis=1)).save(place)
    return root


def expected(model: mpncov_zoo.ImageClassifier, paths: list[str], stage: str = "representation") -> np.ndarray:
    return np.asarray(mpncov_zoo.feature_extractor(model, [stage])(model.preprocess(paths))[stage])


@pytest.mark.parametrize("suffix", ["", ".parquet"])
@pytest.mark.parametrize("stage", ["representation", "covariance"])
def test_rows_are_the_features_of_each_image(
    model: mpncov_zoo.ImageClassifier, photos: Path, tmp_path: Path, suffix: str, stage: str
) -> None:
    output = tmp_path / f"out{suffix}"
    report = extract(model, [photos], output, stages=[stage], rows_per_file=5, batch_size=4)
    assert isinstance(report, ExtractReport) and (report.images, report.added, report.unreadable) == (COUNT, COUNT, 0)
    rows = rows_of(output)
    paths = sorted(str(path) for path in photos.rglob("*.png"))
    assert sorted(rows) == paths and report.shape == rows[paths[0]].shape and rows[paths[0]].dtype == np.float32
    values = np.stack([rows[path] for path in paths])
    np.testing.assert_allclose(values, expected(model, paths, stage), rtol=1e-4, atol=1e-5)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == [output.name]
    if suffix:
        description = json.loads(pq.read_schema(output).metadata[b"mpncov_zoo"])
    else:
        assert sum(name.startswith("part-") for name in os.listdir(output)) == 5
        description = json.loads((output / "_dataset.json").read_text())
    assert (
        description["model"] == NAME
        and description["stages"] == [stage]
        and len(description["weights"]["sha256"]) == 64
    )
    assert description["input_shape"] == [12, 12, 3] and description["shape"] == [*report.shape]
    assert (
        description["versions"]["tensorflow"]
        and pq.read_metadata(next(tmp_path.rglob("*.parquet"))).row_group(0).column(0).compression == "ZSTD"
    )


def test_pooled_stages_in_float16_with_labels(photos: Path, tmp_path: Path) -> None:
    """From a table, through the command line; against float32."""
    paths = sorted(str(path) for path in photos.rglob("*.png"))
    table = tmp_path / "table.parquet"
    encoded = [Path(path).read_bytes() for path in paths]
    pq.write_table(pa.table({"bytes": encoded, "path": paths, "label": [*range(COUNT)]}), table)
    how: dict[str, Any] = {"stages": ["stage2", "stage3"], "pool": "mpncov"}
    extract(NAME, [photos], tmp_path / "full", **how)
    extract(NAME, [table], tmp_path / "half", dtype="float16", **how)
    full, half = rows_of(tmp_path / "full"), rows_of(tmp_path / "half")
    assert half[paths[0]].dtype == np.float16 and half[paths[0]].shape == (32 * 33 // 2 + 64 * 65 // 2,)
    for path in paths:
        np.testing.assert_allclose(half[path], full[path], rtol=1e-3, atol=1e-3)
    (part,) = (tmp_path / "half").glob("part-*")
    found = pq.read_table(part)
    labels = dict(zip(found["path"].to_pylist(), found["label"].to_pylist(), strict=True))
    assert labels == {path: index for index, path in enumerate(paths)}


@pytest.mark.parametrize("suffix", ["", ".parquet"])
def test_an_interrupted_run_is_completed(
    model: mpncov_zoo.ImageClassifier, photos: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, write, written = tmp_path / f"out{suffix}", parts.Parts.write, []

    def fails(self: parts.Parts, *args: Any) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(args)
        write(self, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(parts.Parts, "write", fails)
        extract(model, [photos], output, rows_per_file=5)
    assert not (tmp_path / "out.parquet").exists()
    report = extract(model, [photos], output, rows_per_file=5)
    assert (report.images, report.added) == (COUNT, COUNT - 10) and len(rows_of(output)) == COUNT
    assert os.listdir(tmp_path) == [output.name]
    again = extract(model, [photos], output, rows_per_file=7)
    assert (again.images, again.added) == (COUNT, 0) and len(rows_of(output)) == COUNT


def test_a_single_file_that_was_joined_and_then_interrupted(
    model: mpncov_zoo.ImageClassifier, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parts are still there, and so are their rows in the file: they count once."""

    def fails(self: places.Place) -> None:
        if "/part-" in self.name:
            raise KeyboardInterrupt

    output = tmp_path / "out.parquet"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(places.Place, "remove", fails)
        extract(model, [photos / "a"], output, rows_per_file=5)
    assert output.exists() and (tmp_path / "out.parquet.partial").exists()
    report = extract(model, [photos], output, rows_per_file=5)
    assert (report.images, report.added) == (COUNT, COUNT // 2) and len(rows_of(output)) == COUNT
    assert os.listdir(tmp_path) == ["out.parquet"]


def test_the_end_of_a_joining_that_was_interrupted(
    model: mpncov_zoo.ImageClassifier, photos: Path, tmp_path: Path
) -> None:
    """The description of the parts is gone, one part is left, and a late worker has written another."""
    output, partial = tmp_path / "out.parquet", tmp_path / "out.parquet.partial"
    extract(model, [photos / "a"], output, rows_per_file=5)
    extract(model, [photos / "a"], tmp_path / "parts", rows_per_file=5)
    extract(model, [photos / "a"], tmp_path / "late", rows_per_file=4)
    partial.mkdir()
    for folder in ("parts", "late"):
        part = next((tmp_path / folder).glob("part-*"))
        part.rename(partial / part.name)
    report = extract(model, [photos], output, rows_per_file=5)
    assert (report.images, report.added) == (COUNT, COUNT // 2) and len(rows_of(output)) == COUNT
    assert not partial.exists()


def test_files_that_overlap_are_mended(
    model: mpncov_zoo.ImageClassifier, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As a late worker of a run leaves them that was begun again with other chunks."""
    extract(model, [photos], tmp_path / "out", rows_per_file=5)
    extract(model, [photos], tmp_path / "late", rows_per_file=4)
    whole = {path.name for path in (tmp_path / "out").iterdir()}  # the last 3 of 23 images are a chunk in both
    late = next(path for path in (tmp_path / "late").glob("part-*") if path.name not in whole)
    late.rename(tmp_path / "out" / late.name)
    assert extract(model, [photos], tmp_path / "out").images == COUNT
    assert len(rows_of(tmp_path / "out")) == COUNT and "are removed from it" in caplog.text


def test_rows_that_another_machine_kept_to_itself(
    model: mpncov_zoo.ImageClassifier, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = parts.Parts.write, []

    def elsewhere(self: parts.Parts, *args: Any) -> None:
        written.append(args)
        if len(written) % 2:
            write(self, *args)

    monkeypatch.setattr(parts.Parts, "write", elsewhere)
    with pytest.raises(InputError, match=r"10 computed rows are not in .*: all machines must see it"):
        extract(model, [photos], tmp_path / "out", rows_per_file=5)


def test_errors_of_a_single_file_stay(model: mpncov_zoo.ImageClassifier, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"<html>")
    output = tmp_path / "out.parquet"
    extract(model, [photos / "a", tmp_path / "broken.png"], output)
    report = extract(model, str(photos / "b"), output)
    assert (report.images, report.unreadable) == (COUNT, 1) and (tmp_path / "out.errors.parquet").exists()


def test_what_others_made_stays(model: mpncov_zoo.ImageClassifier, photos: Path, tmp_path: Path) -> None:
    output, beside = tmp_path / "out.parquet", tmp_path / "out.errors.parquet"
    pq.write_table(pa.table({"mine": [1]}), beside)
    extract(model, [photos / "a"], output)
    assert pq.read_table(beside).column_names == ["mine"]
    partial = tmp_path / "out.parquet.partial"
    partial.mkdir()
    (partial / ".mine").touch()
    extract(model, [photos], output)
    assert os.listdir(partial) == [".mine"]
    (partial / "notes.txt").touch()
    with pytest.raises(InputError, match=r"holds something else, 'notes\.txt'"):
        extract(model, [photos], output)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "_dataset.json").write_text("[]")
    with pytest.raises(InputError, match="is no description of features"):
        extract(model, [photos], tmp_path / "out")


def test_one_file_is_written_once(model: mpncov_zoo.ImageClassifier, photos: Path, tmp_path: Path) -> None:
    """A second run that finds nothing more leaves it as it is."""
    (tmp_path / "broken.png").write_bytes(b"<html>")
    output = tmp_path / "out.parquet"
    for _ in range(3):
        report = extract(model, [photos, tmp_path / "broken.png"], output, rows_per_file=COUNT)
        assert (report.images, report.unreadable) == (COUNT, 1)
        assert pq.ParquetFile(output).num_row_groups == 1


def test_removing_from_a_store_takes_no_wildcards() -> None:
    for name in ("run[1]", "run1"):
        places.Place(f"memory://{name}/a").write(b"content")
    places.Place("memory://run[1]").remove()
    assert places.Place("memory://run1/a").read() == b"content"
    with pytest.raises(FileNotFoundError):
        places.Place("memory://run[1]/a").read()


def test_unreadable_images_are_listed_and_tried_again(
    model: mpncov_zoo.ImageClassifier, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(6):
        (tmp_path / "in" / f"{number}.png").write_bytes((photos / "a" / f"{2 * number:02}.png").read_bytes())
    broken = [tmp_path / "in" / name for name in ("0.png", "3.png", "4.png")]
    whole = broken[0].read_bytes()
    for path in broken:
        path.write_bytes(b"<html>")
    for suffix in ("", ".parquet"):
        output = tmp_path / f"out{suffix}"
        errors = output / "_errors.parquet" if not suffix else tmp_path / "out.errors.parquet"
        with pytest.raises(InputError, match=r"3 images cannot be read, 2 may be left out .*0\.png"):
            extract(model, [tmp_path / "in"], output, skip_unreadable=2)
        with pytest.raises(InputError, match=r"An image cannot be read .*0\.png"):
            extract(model, [tmp_path / "in"], output, skip_unreadable=0)
        with pytest.raises(InputError, match=r"3 images cannot be read"):  # counted over all files
            extract(model, [tmp_path / "in"], output, skip_unreadable=2, rows_per_file=1)
        report = extract(model, [tmp_path / "in"], output, rows_per_file=2)
        assert (report.images, report.unreadable, report.errors) == (3, 3, str(errors))
        listed = pq.read_table(errors).to_pylist()
        assert [row["path"] for row in listed] == [*map(str, broken)] and "not an image" in listed[0]["reason"]
        broken[0].write_bytes(whole)
        report = extract(model, [tmp_path / "in"], output, rows_per_file=2)
        assert (report.images, report.added, report.unreadable) == (4, 1, 2)
        assert pq.read_table(errors)["path"].to_pylist() == [*map(str, broken[1:])] and len(rows_of(output)) == 4
        broken[0].write_bytes(b"<html>")


def test_nothing_readable(model: mpncov_zoo.ImageClassifier, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"None of the images could be read\. The first: '.*test_extracting"):
        extract(model, [__file__], tmp_path / "out.parquet")


@pytest.mark.parametrize("how", [{"project": 9}, {"pca": 9}])
def test_shorter_vectors(model: mpncov_zoo.ImageClassifier, photos: Path, tmp_path: Path, how: dict) -> None:
    paths = sorted(str(path) for path in photos.rglob("*.png"))
    report = extract(model, [photos], tmp_path / "out", rows_per_file=5, seed=2, **how)
    rows = rows_of(tmp_path / "out")
    description = json.loads((tmp_path / "out" / "_dataset.json").read_text())["compact"]
    assert report.shape == (9,) and (description["from"], description["to"], description["seed"]) == (36, 9, 2)
    whole = expected(model, paths)
    if "pca" in how:
        with np.load(tmp_path / "out" / "_components.npz") as file:
            truth = (whole - file["mean"]) @ file["components"].T
        assert description["sample"] == COUNT and report.distances_within is None
    else:
        from sklearn.random_projection import SparseRandomProjection

        truth = SparseRandomProjection(9, random_state=2).fit(whole).transform(whole)
        assert report.distances_within == 1  # nine values promise nothing
    np.testing.assert_allclose(np.stack([rows[path] for path in paths]), truth, rtol=1e-3, atol=1e-4)
    again = extract(model, [photos], tmp_path / "out", rows_per_file=5, seed=2, **how)
    assert (again.images, again.added) == (COUNT, 0)
    with pytest.raises(InputError, match="holds other features"):
        extract(model, [photos], tmp_path / "out", seed=3, **how)
    with pytest.raises(InputError, match="Only vectors can be made shorter"):
        extract(model, [photos], tmp_path / "maps", stages=["covariance"], **how)


def test_an_output_of_something_else(model: mpncov_zoo.ImageClassifier, photos: Path, tmp_path: Path) -> None:
    def content(root: Path) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    for output in (tmp_path / "out", tmp_path / "out.parquet"):
        extract(model, [photos], output)
        before = content(tmp_path)
        for changes, message in (
            ({"dtype": "float16"}, 'dtype: "float32" there, "float16" now'),
            ({"stages": ["stage3"]}, r'stages: \["representation"\] there, \["stage3"\] now'),
            ({"model": NAME}, "weights: .* there, .* now"),
        ):
            with pytest.raises(InputError, match=f"holds other features .*{message}.*Give another output"):
                extract(**{"model": model, "inputs": [photos], "output": output, **changes})
        assert content(tmp_path) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").touch()
    with pytest.raises(InputError, match=r"mine holds something else, 'diary\.txt'"):
        extract(model, [photos], tmp_path / "mine")
    (tmp_path / "a.parquet").write_text("no table")
    with pytest.raises(InputError, match="is no Parquet file"):
        extract(model, [photos], tmp_path / "a.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet is a file of something else"):
        extract(model, [photos], tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"is a file\. A directory is written"):
        extract(model, [photos], tmp_path / "mine" / "diary.txt")
    (tmp_path / "b.parquet").mkdir()
    with pytest.raises(InputError, match="is a directory; give the path of a file"):
        extract(model, [photos], tmp_path / "b.parquet")
    part = next((tmp_path / "out").glob("part-*"))
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(InputError, match=r"part-.*\.parquet is damaged .*: remove it, and run again"):
        extract(model, [photos], tmp_path / "out")


def test_a_disk_that_fills_up_keeps_what_is_there(
    model: mpncov_zoo.ImageClassifier, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes, count = Path.write_bytes, 0

    def full(self: Path, content: bytes) -> int:
        nonlocal count
        count += self.name.startswith("part-")
        if count == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_bytes(self, content)

    with monkeypatch.context() as patch, pytest.raises(InputError, match="cannot be written: No space left on device"):
        patch.setattr(Path, "write_bytes", full)
        extract(model, [photos], tmp_path / "out", rows_per_file=5)
    assert len(rows_of(tmp_path / "out")) == 10
    assert not [name for name in os.listdir(tmp_path / "out") if name.startswith(".")]
    assert extract(model, [photos], tmp_path / "out", rows_per_file=5).added == COUNT - 10


def test_values_that_16_bits_do_not_hold(
    model: mpncov_zoo.ImageClassifier, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = work.Worker._values
    monkeypatch.setattr(work.Worker, "_values", lambda self, names, rows: values(self, names, rows * np.float32(1e9)))
    with pytest.raises(InputError, match=r"00\.png': its features are not numbers, or beyond what float16 holds"):
        extract(model, [photos], tmp_path / "out", dtype="float16")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"engine": "spark"}, "engine must be local or ray"),
        ({"dtype": "float64"}, "dtype must be float32 or float16"),
        ({"batch_size": 0}, "batch_size must be a whole number, at least 1"),
        ({"seed": -1}, "seed must be a whole number, at least 0"),
        ({"workers": 2}, "are for engine ray"),
        ({"project": True}, "project must be a whole number"),
        ({"output": "features.npz"}, "is a directory, or one file that ends with"),
        ({"output": ""}, "output is empty"),
        ({"engine": "ray", "model": NAME, "gpus_per_worker": 1.5}, "is a share of one GPU, or a whole number"),
        ({"pca": 36}, "pca must be between 1 and 35"),
        ({"output": "memory://a*b"}, "an output has no wildcards"),
        ({"skip_unreadable": -1}, "skip_unreadable must be a whole number, at least 0"),
        ({"project": 4, "pca": 4}, "give one of them"),
        ({"pca": 4, "output": "a.parquet"}, "pca needs a directory"),
        ({"engine": "ray"}, "load the network themselves"),
        ({"pool": "gap"}, "is a network already|needs a stage"),
        ({"stages": ["stage2", "stage3"]}, "need a pooling that joins them"),
        ({"stages": ["stage9"]}, "has the stages"),
    ],
)
def test_arguments_that_cannot_be(
    model: mpncov_zoo.ImageClassifier,
    photos: Path,
    tmp_path: Path,
    how: dict,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        extract(**{"model": model, "inputs": [photos], "output": "out", **how})
    assert not os.listdir(tmp_path)


def test_libraries_that_are_missing(
    model: mpncov_zoo.ImageClassifier, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, how, message in (
        ("sklearn", {"project": 4}, r"Shorter vectors need scikit-learn: pip install 'mpncov-zoo\[features\]'"),
        ("ray", {"engine": "ray", "model": NAME}, r"engine ray needs Ray: pip install 'mpncov-zoo\[ray\]'"),
        ("pyarrow", {}, r"Parquet needs pyarrow: pip install 'mpncov-zoo\[features\]'"),
    ):
        with monkeypatch.context() as patch, pytest.raises(ZooError, match=message):
            patch.setitem(sys.modules, module, None)
            extract(**{"model": model, "inputs": [photos], "output": tmp_path / "out", **how})
    assert not os.listdir(tmp_path)


def test_a_process_that_is_killed_and_run_again(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    command = [sys.executable, "-m", "mpncov_zoo", "features", NAME, str(photos), "--output", str(output)]
    command += ["--rows-per-file", "1", "--batch-size", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len([*output.glob("part-*")]) < 2 and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = len([*output.glob("part-*")])
    assert 2 <= before < COUNT
    report = extract(NAME, [photos], output, rows_per_file=1)
    assert (report.images, report.added) == (COUNT, COUNT - before) and len(rows_of(output)) == COUNT
    assert not [name for name in os.listdir(output) if name.startswith(".")]


@pytest.fixture(scope="module")
def store() -> Iterator[Any]:
    """A bucket, `photos`, of an S3 server on 127.0.0.1, with the variables that clients read."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3")
        client.create_bucket(Bucket="photos")
        yield client
    server.stop()


def test_a_store(store: Any, model: mpncov_zoo.ImageClassifier, photos: Path, tmp_path: Path, capsys: Capture) -> None:
    paths = sorted(photos.rglob("*.png"))
    for path in paths:
        store.upload_file(str(path), "photos", f"in/{path.relative_to(photos)}")
    store.put_object(Bucket="photos", Key="in/broken.png", Body=b"<html>")
    report = extract(model, ["s3://photos/in"], "s3://photos/out", rows_per_file=10)
    assert (report.images, report.unreadable) == (COUNT, 1)
    assert extract(model, ["s3://photos/in/a/*.png"], "s3://photos/a.parquet").images == COUNT // 2 + 1
    keys = [each["Key"] for each in store.list_objects_v2(Bucket="photos")["Contents"]]
    assert not [key for key in keys if "partial" in key] and "out/_dataset.json" in keys and "a.parquet" in keys
    for key in (each for each in keys if each.startswith("out/")):
        (tmp_path / "out").mkdir(exist_ok=True)
        store.download_file("photos", key, str(tmp_path / key))
    rows = rows_of(tmp_path / "out")
    values = np.stack([rows[f"s3://photos/in/{path.relative_to(photos)}"] for path in paths])
    np.testing.assert_allclose(values, expected(model, [*map(str, paths)]), rtol=1e-4, atol=1e-5)
    joined = pq.read_table(io.BytesIO(store.get_object(Bucket="photos", Key="a.parquet")["Body"].read()))
    assert len(joined) == COUNT // 2 + 1
    assert extract(model, ["s3://photos/in"], "s3://photos/out").added == 0
    assert_refused(
        run(capsys, "features", NAME, "s3://nowhere/in", "--output", "s3://photos/b"), "there is no such directory"
    )


def test_a_store_without_credentials(store: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    result = run(capsys, "features", NAME, "s3://photos/in", "--output", "s3://photos/out3")
    assert_refused(result, "s3://photos/out3 cannot be read: NoCredentialsError: Unable to locate credentials")
    s3fs.S3FileSystem.clear_instance_cache()
