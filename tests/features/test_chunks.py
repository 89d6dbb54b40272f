"""What the inputs of a run over many images name: chunks whose images and labels can be read anywhere."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from mpncov_zoo.errors import InputError
from mpncov_zoo.features.chunks import Chunk, list_chunks
from mpncov_zoo.features.reading import read_batches
from mpncov_zoo.training.datasets import read_dataset
from mpncov_zoo.training.packing import pack
from tests.image_folders import write_folders

CONTENTS = [b"zero", b"one", b"two", b"three", b"four"]


def read(chunks: tuple[Chunk, ...]) -> dict[str, tuple[bytes, Any]]:
    """What all images hold, by name."""
    found = {}
    for chunk in chunks:
        for name, (image, label) in zip(chunk.names, chunk.source.read(), strict=True):
            content = image() if callable(image) else Path(image).read_bytes() if isinstance(image, str) else image
            found[name] = (content, label)
    return found


def table(path: Path, /, **columns: Any) -> str:
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return str(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, content in enumerate(CONTENTS):
        place = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    (tmp_path / "photos" / ".hidden.png").touch()
    (tmp_path / "photos" / "notes.txt").touch()
    return tmp_path / "photos"


def test_a_folder_in_chunks(folder: Path) -> None:
    listing = list_chunks([str(folder)], 2)
    assert listing.label_type is None and [len(chunk.names) for chunk in listing.chunks] == [2, 2, 1]
    assert {Path(name).name: value for name, value in read(listing.chunks).items()} == {
        f"{number}.png": (content, None) for number, content in enumerate(CONTENTS)
    }
    keys = [chunk.key for chunk in listing.chunks]
    assert len(set(keys)) == 3 and keys == [chunk.key for chunk in list_chunks([str(folder)], 2).chunks]


def test_an_image_that_is_named_twice_is_one(folder: Path) -> None:
    listing = list_chunks([str(folder), str(folder / "a" / "0.png"), str(folder / "a")], 99)
    assert len(listing.chunks[0].names) == len(CONTENTS)


def test_patterns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    (folder / "c.png").mkdir()
    (folder / "c.png" / ".hidden.png").touch()
    assert [*read(list_chunks(["photos/*/[02].png"], 9).chunks)] == ["photos/a/0.png", "photos/a/2.png"]
    assert len(read(list_chunks(["photos/**/*.png"], 9).chunks)) == 5
    (folder / "a[1].png").write_bytes(b"bracket")
    assert read(list_chunks(["photos/a[1].png"], 9).chunks) == {"photos/a[1].png": (b"bracket", None)}
    with pytest.raises(InputError, match=r"No file fits 'photos/\*\.gif'"):
        list_chunks(["photos/*.gif"], 9)


def test_a_path_has_one_spelling(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    (chunk,) = list_chunks(["photos", "./photos", "photos//a/0.png", "photos/"], 99).chunks
    assert len(chunk.names) == 5 and "photos/a/0.png" in chunk.names
    (folder.parent / "elsewhere").mkdir()
    (folder.parent / "0.png").write_bytes(b"of the parent")
    (folder / "link").symlink_to(folder.parent / "elsewhere")
    assert read(list_chunks(["photos/link/../0.png"], 9).chunks) == {"photos/link/../0.png": (b"of the parent", None)}


def test_a_label_stays_where_a_folder_names_the_image_too(folder: Path, tmp_path: Path) -> None:
    name = str(folder / "a" / "0.png")
    listing = list_chunks([str(folder), table(tmp_path / "a.parquet", path=[name], label=["x"])], 9)
    assert listing.label_type == "string" and read(listing.chunks)[name] == (b"zero", "x")


def test_an_image_that_is_called_like_a_record(tmp_path: Path) -> None:
    (tmp_path / "x.tfrecord.png").write_bytes(b"image")
    assert [*read(list_chunks([str(tmp_path)], 9).chunks).values()] == [(b"image", None)]


def test_hidden_folders_of_the_pattern_itself(folder: Path, tmp_path: Path) -> None:
    (tmp_path / ".cache").symlink_to(folder)
    assert len(read(list_chunks([f"{tmp_path}/.cache/a/*.png"], 9).chunks)) == 3
    assert len(read(list_chunks([f"file://{tmp_path}/.cache/a/*.png"], 9).chunks)) == 3


def test_locations_hold_in_another_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    chunks = list_chunks(["a"], 9).chunks
    monkeypatch.chdir("/")
    assert read(chunks)["a/0.png"] == (b"zero", None)


def test_urls(folder: Path) -> None:
    found = read(list_chunks([f"file://{folder}"], 9).chunks)
    assert found[f"file://{folder}/a/0.png"] == (b"zero", None) and len(found) == 5
    assert len(read(list_chunks([f"file://{folder}/**/*.png"], 9).chunks)) == 5
    with pytest.raises(InputError, match=r"No image in 'file://.*'\. Looked for \.bmp"):
        list_chunks([f"file://{folder}/nothing"], 9)


def test_what_is_left(folder: Path) -> None:
    (chunk,) = list_chunks([str(folder)], 99).chunks
    left = chunk.without({chunk.names[0], chunk.names[3], "else"})
    assert left is not None and left.names == (chunk.names[1], chunk.names[2], chunk.names[4])
    assert len(read((left,))) == 3 and chunk.without({*chunk.names}) is None and chunk.without(set()) is chunk


@pytest.mark.parametrize(
    "column", [CONTENTS, [{"bytes": content, "path": None} for content in CONTENTS]], ids=["binary", "struct"]
)
def test_tables_of_bytes(tmp_path: Path, column: list) -> None:
    path = table(tmp_path / "a.parquet", image=column, label=[4, 3, 2, 1, 0])
    listing = list_chunks([path], 3)
    assert listing.label_type == "int64"
    assert read(listing.chunks) == {f"{path}#{row}": (CONTENTS[row], 4 - row) for row in range(5)}
    left = listing.chunks[0].without({f"{path}#1"})
    assert left is not None and [*read((left,))] == [f"{path}#0", f"{path}#2"]


def test_a_column_of_images_has_bytes(folder: Path, tmp_path: Path) -> None:
    paths = [str(folder / "a" / "0.png"), str(folder / "a" / "0.png"), str(folder / "b" / "1.png")]
    named = table(tmp_path / "a.parquet", image=["x", "y", "z"], path=paths)
    assert read(list_chunks([named], 9).chunks) == {paths[0]: (b"zero", None), paths[2]: (b"one", None)}
    empty = table(tmp_path / "b.parquet", bytes=pa.array([b"a", None], pa.binary()))
    assert read(list_chunks([empty], 9).chunks)[f"{empty}#1"] == (b"", None)


def test_a_table_that_became_shorter(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", bytes=CONTENTS)
    (chunk,) = list_chunks([path], 9).chunks
    table(tmp_path / "a.parquet", bytes=CONTENTS[:3])
    images = (image for image, _ in chunk.source.read())
    with pytest.raises(InputError, match=r"#3' is no longer there: the input has changed"):
        list(read_batches([*chunk.names], lambda image: np.zeros((1, 1)), 9, images))


def test_tables_with_names_and_of_paths(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    named = table(tmp_path / "a.parquet", bytes=CONTENTS, path=[*"abcde"], label=[*"uvwxy"])
    listing = list_chunks([named], 9)
    assert (listing.label_type, read(listing.chunks)["c"]) == ("string", (b"two", "w"))
    unnamed = table(tmp_path / "c.parquet", bytes=CONTENTS[:2], path=["a", None])
    assert [*read(list_chunks([unnamed], 9).chunks)] == ["a", f"{unnamed}#1"]
    paths = table(tmp_path / "b.parquet", path=["photos/a/0.png", "photos/b/1.png"], label=["x", None])
    assert read(list_chunks([paths], 9).chunks) == {
        "photos/a/0.png": (b"zero", "x"),
        "photos/b/1.png": (b"one", None),
    }


@pytest.mark.parametrize("cut", [False, True])
def test_records(tmp_path: Path, cut: bool) -> None:
    """Those that `mpncov-zoo data pack` writes."""
    images = read_dataset("folders", write_folders(tmp_path / "data", {"train": {"a": 3, "b": 2}}), "train")
    pack(images, tmp_path / "packed", "train", dataset="folders", shards=1)
    (shard,) = (tmp_path / "packed").glob("*.tfrecord")
    if cut:
        shard.write_bytes(shard.read_bytes()[:-5])
        with pytest.raises(InputError, match="cut off after 4 records"):
            list_chunks([str(shard)], 9)
        return
    listing = list_chunks([str(shard)], 2)
    assert listing.label_type == "int64" and [len(chunk.names) for chunk in listing.chunks] == [2, 2, 1]
    expected = {images.encoded(index): int(images.labels[index]) for index in range(5)}
    found = read(listing.chunks)
    assert [*found] == [f"{shard}#{row}" for row in range(5)] and dict(found.values()) == expected
    shard.write_bytes(shard.read_bytes()[:40] + b"?" + shard.read_bytes()[41:])
    with pytest.raises(InputError, match="cannot be read: a record is damaged"):
        read(listing.chunks)


def broken(tmp_path: Path, kind: str) -> tuple[list[str], str]:
    if kind == "no column":
        return [table(tmp_path / "a.parquet", url=["a"])], r"has no column `bytes` .*; it has url \(string\)"
    if kind == "label":
        return [table(tmp_path / "a.parquet", path=["a"], label=[1.5])], "its column `label` is of double"
    if kind == "labels":
        first = table(tmp_path / "a.parquet", path=["a"], label=[1])
        return [first, table(tmp_path / "b.parquet", path=["b"], label=["1"])], "labels of the inputs are of int64 and"
    if kind == "names":
        return [table(tmp_path / "a.parquet", path=["a", "a"], bytes=[b"", b""])], "two rows have one `path`"
    if kind == "names of two":
        first = table(tmp_path / "a.parquet", path=["a"], bytes=[b""])
        second = table(tmp_path / "b.parquet", path=["a"], bytes=[b"?"])
        return [first, second], "Two images of the inputs are called 'a'"
    if kind == "no rows":
        return [table(tmp_path / "a.parquet", path=pa.array([], pa.string()))], "The inputs hold no images"
    if kind == "folder":
        return [str(tmp_path / "nothing")], "there is no such file or folder"
    if kind == "no parquet":
        (tmp_path / "a.parquet").write_text("nothing")
        return [str(tmp_path / "a.parquet")], r"a\.parquet cannot be read: ArrowInvalid"
    if kind == "missing":
        return [str(tmp_path / "a.parquet")], r"a\.parquet': there is no such file"
    if kind == "missing records":
        return [str(tmp_path / "a.tfrecord")], r"a\.tfrecord': there is no such file"
    if kind == "empty records":
        (tmp_path / "a.tfrecord").touch()
        return [str(tmp_path / "a.tfrecord")], "holds no records"
    if kind == "no records":
        (tmp_path / "a.tfrecord").write_text("this is a text and no file of records")
        return [str(tmp_path / "a.tfrecord")], "is no TFRecord file"
    if kind == "text":
        return [os.fsdecode(b"a\xff.png")], "A path is not UTF-8"
    if kind == "scheme":
        return ["nosuch://a"], "Protocol not known"
    return ["gs://bucket/a"], "install gcsfs"


TABLES = ("no column", "label", "labels", "names", "names of two", "no rows", "no parquet", "missing")
RECORDS = ("missing records", "empty records", "no records")


@pytest.mark.parametrize("kind", [*TABLES, *RECORDS, "folder", "text", "scheme", "package"])
def test_inputs_that_cannot_be(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "package":
        monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)
    inputs, message = broken(tmp_path, kind)
    with pytest.raises(InputError, match=message):
        list_chunks(inputs, 9)


def test_a_record_without_an_image(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    features: Callable[..., Any] = tf.train.Features
    with tf.io.TFRecordWriter(str(path)) as writer:
        example: Any = tf.train.Example(features=features(feature={"other": tf.train.Feature()}))
        writer.write(example.SerializeToString())
        writer.write(b"no example")
    assert [*read(list_chunks([str(path)], 9).chunks).values()] == [(b"", None), (b"", None)]
