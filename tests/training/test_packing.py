"""Packing: the files' own bytes in the records, the same each time, after any interruption."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mpncov_zoo.errors import InputError, IntegrityError
from mpncov_zoo.preprocessing import preprocess
from mpncov_zoo.training import packing
from mpncov_zoo.training.datasets import Files, Images, checking, dataset_splits, read_dataset
from mpncov_zoo.training.datasets.pipelines import evaluation_batches
from mpncov_zoo.training.packing import pack, verify
from mpncov_zoo.training.shard_files import shrink
from tests.image_folders import specification, write_folders
from tests.photos import encode, photo, photo_image

ROOT = Path(__file__).parents[2]


def read(root: Path, split: str = "train") -> Files:
    found = read_dataset("folders", root, split)
    assert isinstance(found, Files)
    return found


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """11 images to train on, 4 to test."""
    splits = {"train": {"ant": 6, "bee": 5}, "val": {"ant": 1, "bee": 3}}
    return write_folders(tmp_path_factory.mktemp("photos"), splits)


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != ".lock"}


@pytest.fixture(scope="module")
def packed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("packed")
    for split in ("train", "val"):
        pack(read(photos, split), directory, split, dataset="folders", shards=3)
    return directory


def records(path: Path) -> list[tuple[bytes, int, str, str]]:
    """(image, label, class, name) of each record, by TensorFlow's protocol alone."""
    found = []
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        feature = tf.train.Example.FromString(record).features.feature
        image, text, name = (
            feature[f"image/{key}"].bytes_list.value[0] for key in ("encoded", "class/text", "filename")
        )
        found.append((image, feature["image/class/label"].int64_list.value[0], text.decode(), name.decode()))
    return found


def test_records_hold_the_files_own_bytes(photos: Path, packed: Path) -> None:
    files = [f"{split}-{number:05d}-of-00003.tfrecord" for split in ("train", "val") for number in range(3)]
    assert sorted(content(packed)) == sorted([*files, "train.json", "val.json"])
    val = [record for name in files[3:] for record in records(packed / name)]
    assert [name for *_, name in val] == ["ant/000.jpg", "bee/000.jpg", "bee/001.jpg", "bee/002.png"]
    assert [(label, text) for _, label, text, _ in val] == [(0, "ant"), (1, "bee"), (1, "bee"), (1, "bee")]
    train = [record for name in files[:3] for record in records(packed / name)]
    assert sorted(name for *_, name in train) == sorted(read(photos).paths) != [name for *_, name in train]
    for split, found in (("train", train), ("val", val)):
        assert all(image == (photos / split / name).read_bytes() for image, _, _, name in found)


def test_the_index_says_what_there_is(packed: Path) -> None:
    assert dataset_splits("tfrecord", packed) == ("train", "val")
    index = json.loads((packed / "train.json").read_text())
    assert index["class_names"] == ["ant", "bee"] and index["short_side"] is None
    for shard in index["shards"]:
        data = (packed / shard["file"]).read_bytes()
        assert (shard["size"], shard["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert shard["labels"] == [label for _, label, _, _ in records(packed / shard["file"])]
    assert [len(shard["labels"]) for shard in index["shards"]] == [4, 4, 3]


def test_the_same_images_give_the_same_bytes_wherever_they_lie(photos: Path, packed: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").symlink_to(photos)
    for split in ("train", "val"):
        pack(read(tmp_path / "elsewhere", split), tmp_path / "again", split, dataset="folders", shards=3)
    assert content(tmp_path / "again") == content(packed)


def test_a_finished_split_is_left_alone(photos: Path, packed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in packed.iterdir() if path.name != ".lock"}
    assert pack(read(photos), packed, "train", dataset="folders", shards=3).images == 11
    assert before == {path: path.stat().st_mtime_ns for path in packed.iterdir() if path.name != ".lock"}
    with pytest.raises(InputError, match=r"train\.json is of other images or settings \(short_side\)"):
        pack(read(photos), packed, "train", dataset="folders", shards=3, short_side=32)
    with pytest.raises(InputError, match=r"\(source_sha256, the number of shards\)\. Give another directory"):
        pack(read(photos).take(np.arange(9)), packed, "train", dataset="folders", shards=2)


KILLED = """
import sys
from mpncov_zoo.training import packing, shard_files
from mpncov_zoo.training.datasets import read_dataset

written, record = [], shard_files._record

def stop_in_the_third_shard(*arguments):
    written.append(arguments)
    if len(written) == 10:  # of 4 + 4 + 3
        print("here", flush=True)
        sys.stdin.read()
    return record(*arguments)

shard_files._record = stop_in_the_third_shard
packing.THREADS = 1
packing.pack(read_dataset("folders", sys.argv[1], "train"), sys.argv[2], "train", dataset="folders", shards=3)
"""


def test_a_killed_call_is_continued(photos: Path, packed: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(photos), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None and process.stdout.readline() == b"here\n"
        os.kill(process.pid, signal.SIGKILL)
    finished = sorted(tmp_path.glob("train-*"))
    assert [path.name[6:11] for path in finished] == ["00000", "00001"]
    assert len(list(tmp_path.glob(".train-00002*"))) == 1 and not (tmp_path / "train.json").exists()
    with pytest.raises(InputError, match="holds no packed data set"):
        read_dataset("tfrecord", tmp_path, "train")
    times = [path.stat().st_mtime_ns for path in finished]
    with pytest.raises(InputError, match=r"was begun with other images or settings \(short_side\)"):
        pack(read(photos), tmp_path, "train", dataset="folders", shards=3, short_side=32)
    pack(read(photos), tmp_path, "train", dataset="folders", shards=3)
    assert [path.stat().st_mtime_ns for path in finished] == times
    assert content(tmp_path) == {name: data for name, data in content(packed).items() if not name.startswith("val")}


def test_corrupt_images_are_left_out_and_listed(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = read(write_folders(tmp_path / "photos", {"train": {"ant": 4, "bee": 3}}))
    for name in ("ant/001.jpg", "bee/002.png"):
        (split.root / name).write_bytes(b"broken")
    index = pack(split, tmp_path / "packed", "train", dataset="folders", shards=2)
    assert sorted(index.corrupt) == ["ant/001.jpg", "bee/002.png"] and index.images == 5
    assert "not an image" in index.corrupt["ant/001.jpg"]
    assert verify(tmp_path / "packed", "train") == index
    assert len(read_dataset("tfrecord", tmp_path / "packed", "train")) == 5
    monkeypatch.setattr(checking, "TOLERATED", 1)
    with pytest.raises(InputError, match=r"More than 1 of 7 images cannot be decoded, among them .*not an image"):
        pack(split, tmp_path / "refused", "train", dataset="folders", shards=2)
    assert not (tmp_path / "refused" / "train.json").exists()


def copy(directory: Path, to: Path) -> Path:
    to.mkdir()
    for name, data in content(directory).items():
        (to / name).write_bytes(data)
    return to


def test_every_byte_is_verified_and_what_is_lost_is_written_again(photos: Path, packed: Path, tmp_path: Path) -> None:
    damaged = copy(packed, tmp_path / "damaged")
    assert verify(damaged, "train").images == 11
    path = damaged / "train-00001-of-00003.tfrecord"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"train-00001-of-00003\.tfrecord is not the shard that was packed"):
        verify(damaged, "train")
    path.write_bytes(data[:-1])
    with pytest.raises(InputError, match=rf"00001-of-00003\.tfrecord has not its {len(data)} bytes"):
        read_dataset("tfrecord", damaged, "train")
    path.unlink()
    with pytest.raises(InputError, match=r"is missing\. Copy it again, or pack again"):
        read_dataset("tfrecord", damaged, "train")
    kept = (damaged / "train-00000-of-00003.tfrecord").stat().st_mtime_ns
    pack(read(photos), damaged, "train", dataset="folders", shards=3)
    assert content(damaged) == content(packed)
    assert (damaged / "train-00000-of-00003.tfrecord").stat().st_mtime_ns == kept


def test_a_disk_that_fills_up_is_said(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: object) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tf.io.TFRecordWriter, "write", write)
        with pytest.raises(InputError, match=r"train-0000.*\.tfrecord cannot be written: No space left on device"):
            pack(read(photos), tmp_path, "train", dataset="folders", shards=3)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == [".train.plan.json"]
    assert pack(read(photos), tmp_path, "train", dataset="folders", shards=3).images == 11


def test_a_damaged_index_is_refused(packed: Path, tmp_path: Path) -> None:
    damaged = copy(packed, tmp_path / "damaged")
    index = json.loads((damaged / "val.json").read_text())
    for changes, message in (
        ({"class_names": ["ant"]}, "a label of 1, but 1 class_names"),
        ({"format_version": 2}, "format_version: received 2, allowed: 1"),
        ({"shards": [{**index["shards"][0], "file": "../val.tfrecord"}]}, r"shards\[0\]\.file"),
    ):
        (damaged / "val.json").write_text(json.dumps({**index, **changes}))
        with pytest.raises(InputError, match=message):
            read_dataset("tfrecord", damaged, "val")
    with pytest.raises(InputError, match=r"has the splits train, val\. Received: 'test'"):
        read_dataset("tfrecord", damaged, "test")


def test_images_in_memory_are_packed_without_loss(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for channels, order in ((1, "L"), (3, "RGB")):
        pixels = rng.integers(0, 256, (7, 24, 24, channels), np.uint8)
        images = Images(pixels, (np.arange(7) % 2).astype(np.int32), ("a", "b"))
        pack(images, tmp_path / order, "test", dataset="cifar100", shards=2)
        constant = (0.5,) * channels
        spec = specification(crop_fraction=1.0, channel_order=order, mean=constant, std=constant)
        (actual, labels), *_ = evaluation_batches(read_dataset("tfrecord", tmp_path / order, "test"), spec)
        np.testing.assert_array_equal(actual, preprocess(pixels, spec))
        assert labels.numpy().tolist() == images.labels.tolist()


def test_what_cannot_be_packed(photos: Path, packed: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="12 shards are too many for 11 images"):
        pack(read(photos), tmp_path, "train", dataset="folders", shards=12)
    strange = Images(np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2, np.int32), ("a", os.fsdecode(b"\xff")))
    with pytest.raises(InputError, match="A class name is one line of Unicode text"):
        pack(strange, tmp_path, "train", dataset="folders")
    with pytest.raises(InputError, match="these are packed already"):
        pack(read_dataset("tfrecord", packed, "train"), tmp_path, "train", dataset="tfrecord")
    with pytest.raises(InputError, match="is among the images themselves"):
        pack(read(photos), photos / "train" / "packed", "train", dataset="folders")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file cannot be written"):
        pack(read(photos), tmp_path / "file", "train", dataset="folders")
    with packing._alone(tmp_path), pytest.raises(InputError, match="Another process is packing into"):
        pack(read(photos), tmp_path, "train", dataset="folders")


# --- shrinking --------------------------------------------------------------------------------------------------------


def test_large_images_are_shrunk_by_pillow() -> None:
    encoded = encode(photo_image(60, 91), "JPEG", quality=90)
    with Image.open(io.BytesIO(encoded)) as opened:
        expected = opened.resize((48, 32), Image.Resampling.BILINEAR)
    with Image.open(io.BytesIO(shrink(encoded, 32))) as shrunk:
        assert shrunk.format == "JPEG" and shrunk.size == (48, 32)
        difference = np.abs(np.asarray(shrunk, int) - np.asarray(expected, int))
    assert difference.mean() < 2.5  # of JPEG at quality 95; it is 9 if one is a pixel off
    portrait = encode(photo_image(91, 60, "L"), "PNG")
    with Image.open(io.BytesIO(shrink(portrait, 32))) as shrunk:
        assert (shrunk.format, shrunk.mode, shrunk.size) == ("PNG", "L", (32, 48))
        whole = Image.fromarray(photo(91, 60, 4)).convert("L")
        np.testing.assert_array_equal(shrunk, whole.resize((32, 48), Image.Resampling.BILINEAR))


def test_small_images_keep_their_bytes() -> None:
    encoded = encode(photo_image(32, 91), "JPEG")
    assert shrink(encoded, 32) is encoded


def test_shrunk_images_stand_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    with Image.open(io.BytesIO(shrink(encode(photo_image(60, 91), "JPEG", exif=exif), 32))) as shrunk:
        assert shrunk.size == (32, 48) and not shrunk.getexif()
