"""TFRecord shards, as `mpncov-zoo data pack` writes them: read one after the other, shuffled as they come.

`<split>.json` lists the shards of a split, their digests and labels, and the class names. A record is a
tf.train.Example with the usual names: image/encoded, image/class/label (from 0), image/class/text, image/filename.

TensorFlow is imported when images are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from mpncov_zoo.documents import FORMAT_VERSION, StrictModel, load_document
from mpncov_zoo.errors import InputError, ZooError
from mpncov_zoo.specification import InputSpecification
from mpncov_zoo.training.datasets.decoding import decode_by_pillow
from mpncov_zoo.training.datasets.listings import require_split
from mpncov_zoo.training.datasets.splits import Split, held

if TYPE_CHECKING:
    import tensorflow as tf

WINDOW = 2048  # records among which the order is random, on top of that of shards: about 0.2 GB of usual photos
AT_ONCE = 16  # shards read in turn, record by record
SUFFIX = ".json"


class Shard(StrictModel):
    """A file of records.

    Attributes:
        file: its name.
        size: in bytes.
        sha256: of its content.
        labels: of its images, in order.
        corrupt: images that were left out, as they cannot be decoded: name -> reason.
    """

    file: Annotated[str, Field(pattern=r"^[\w-]+\.tfrecord$")]
    size: int
    sha256: str
    labels: tuple[Annotated[int, Field(ge=0)], ...]
    corrupt: dict[str, str]

    def is_in(self, directory: Path) -> bool:
        """Is there a file of that name and size? `verify` looks at its content."""
        path = directory / self.file
        return path.is_file() and path.stat().st_size == self.size


class ShardIndex(StrictModel):
    """What a packed split holds.

    Attributes:
        format_version: of this document.
        dataset: the reader that it was packed from.
        source_sha256: of the names, sizes and labels of what was packed.
        short_side: pixels that larger images were shrunk to; None: the files' own bytes.
        class_names: in the order of the labels' numbers.
        shards: in order.
    """

    refusal: ClassVar[type[ZooError]] = InputError
    format_version: Literal[1] = FORMAT_VERSION
    dataset: str
    source_sha256: str
    short_side: int | None
    class_names: tuple[str, ...]
    shards: tuple[Shard, ...]

    @property
    def images(self) -> int:
        """How many images all shards hold."""
        return sum(len(shard.labels) for shard in self.shards)

    @property
    def corrupt(self) -> dict[str, str]:
        """The images that were left out, by name, each with the reason."""
        return {name: reason for shard in self.shards for name, reason in shard.corrupt.items()}

    @model_validator(mode="after")
    def _labels_have_names(self) -> Self:
        highest = max((max(shard.labels, default=0) for shard in self.shards), default=0)
        if highest >= len(self.class_names):
            raise ValueError(f"a label of {highest}, but {len(self.class_names)} class_names")
        return self


@dataclass(frozen=True)
class Shards(Split):
    """Images in TFRecord shards.

    Attributes:
        directory: of the shards.
        index: all that it holds.
        records: int64 (count,), ascending: which of all the records are meant. The others are read and passed over.
    """

    directory: Path
    index: ShardIndex
    records: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def take(self, indices: np.ndarray) -> Shards:
        if (np.diff(indices) <= 0).any():
            raise InputError("Shards are read from beginning to end: take their images in ascending order.")
        return replace(self, records=self.records[indices], labels=self.labels[indices])

    def examples(self, shuffle: tf.Tensor | None = None) -> tf.data.Dataset:
        import tensorflow as tf

        numbered = self._in_order() if shuffle is None else self._interleaved(shuffle)
        position = np.full(self.index.images, -1, np.int64)
        position[self.records] = np.arange(len(self.records))
        labels, positions = held(self.labels), held(position)
        if len(self) < len(position):
            numbered = numbered.filter(lambda number, _: tf.gather(positions, number) >= 0)  # pyright: ignore[reportArgumentType]
        chosen = numbered.map(lambda number, record: (record, tf.gather(positions, number)))
        if shuffle is not None:
            chosen = _shuffled_in_windows(chosen, shuffle)
        examples = chosen.map(lambda record, index: (record, tf.gather(labels, index), index))
        return examples.apply(tf.data.experimental.assert_cardinality(len(self)))  # a shard may have been cut since

    def decode(self, item: tf.Tensor, spec: InputSpecification) -> tf.Tensor:
        import tensorflow as tf

        features = {"image/encoded": tf.io.FixedLenFeature((), tf.string)}
        return decode_by_pillow(tf.io.parse_single_example(item, features)["image/encoded"], spec)

    def name(self, index: int) -> str:
        return f"record {self.records[index]}"

    def _identity(self) -> Iterator[bytes]:
        yield self.index.model_dump_json().encode()  # with the digest of every shard
        yield self.records.tobytes()

    def _in_order(self) -> tf.data.Dataset:
        """Pairs of a record's number among all records and the record."""
        import tensorflow as tf

        return tf.data.TFRecordDataset([str(self.directory / shard.file) for shard in self.index.shards]).enumerate()

    def _interleaved(self, seed: tf.Tensor) -> tf.data.Dataset:
        """The same pairs, with the shards in random order and read in turn, some at a time."""
        import tensorflow as tf

        from mpncov_zoo.training.augmentation import stateless

        paths = held([str(self.directory / shard.file) for shard in self.index.shards])
        counts = [len(shard.labels) for shard in self.index.shards]
        starts = held(np.cumsum([0, *counts[:-1]], dtype=np.int64))
        order = stateless.stateless_shuffle(tf.range(len(counts)), seed=seed)
        return tf.data.Dataset.from_tensor_slices(order).interleave(
            lambda shard: tf.data.TFRecordDataset(paths[shard]).enumerate(starts[shard]),
            cycle_length=min(AT_ONCE, len(counts)),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )


def _shuffled_in_windows(examples: tf.data.Dataset, seed: tf.Tensor) -> tf.data.Dataset:
    import tensorflow as tf

    from mpncov_zoo.training.augmentation import stateless

    def shuffled(number: tf.Tensor, window: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        window_seed = seed + tf.stack([tf.constant(0, tf.int64), (number + 1) * 2**32])
        order = stateless.stateless_shuffle(tf.range(tf.size(window[1])), seed=window_seed)
        return tuple(tf.gather(part, order) for part in window)

    return examples.batch(WINDOW).enumerate().map(shuffled).unbatch()


def read_shards(directory: Path, split: str) -> Shards:
    """A split that `mpncov-zoo data pack` wrote.

    Args:
        directory: holds `<split>.json` and the shards.
        split: one of `packed_splits`.

    Raises:
        InputError: there is no such split, or it is damaged: a shard is missing or of another size.
    """
    require_split(str(directory), split, packed_splits(directory))
    index = read_index(directory / f"{split}{SUFFIX}")
    for shard in index.shards:
        if not shard.is_in(directory):
            path = directory / shard.file
            found = f"has not its {shard.size} bytes" if path.exists() else "is missing"
            raise InputError(f"{path} {found}. Copy it again, or pack again: only what is not there will be written.")
    labels = np.concatenate([np.array(shard.labels, np.int32) for shard in index.shards])
    return Shards(directory, index, np.arange(len(labels)), labels, index.class_names)


def read_index(path: Path) -> ShardIndex:
    """The list of a split's shards.

    Raises:
        InputError: it is damaged, or no such list.
    """
    return load_document(path, ShardIndex)


def packed_splits(directory: Path) -> tuple[str, ...]:
    """The splits of a packed data set, "train" first.

    Raises:
        InputError: there are none.
    """
    names = sorted((path.stem for path in directory.glob(f"[!.]*{SUFFIX}")), key=lambda name: (name != "train", name))
    if not names:
        raise InputError(f"{directory} holds no packed data set (<split>{SUFFIX} and shards): mpncov-zoo data pack.")
    return tuple(names)
