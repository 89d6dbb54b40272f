"""Where the bytes of many images are: in files of their own, in a column of a Parquet file, in TFRecords."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from mpncov_zoo.errors import InputError
from mpncov_zoo.features.places import URL_MARK, Place
from mpncov_zoo.features.tables import import_parquet

ROWS_AT_ONCE = 32  # of a Parquet file, while its images are read

Label = int | str | None
Encoded = str | bytes | Callable[[], bytes]  # a local path, the bytes of a file, or what gets them


class Source(Protocol):
    """Images that are read one after the other."""

    def read(self) -> Iterator[tuple[Encoded, Label]]:
        """Each image, and its label if it is known."""
        ...

    def only(self, positions: Sequence[int]) -> Source:
        """The images at these positions, ascending."""
        ...


@dataclass(frozen=True)
class Files:
    """Images in files of their own.

    Attributes:
        locations: paths and URLs.
        labels: of each, if they are known.
    """

    locations: tuple[str, ...]
    labels: tuple[Label, ...] | None = None

    def read(self) -> Iterator[tuple[Encoded, Label]]:
        for location, label in zip(self.locations, self.labels or [None] * len(self.locations), strict=True):
            yield (partial(_fetched, location) if URL_MARK in location else location), label

    def only(self, positions: Sequence[int]) -> Files:
        labels = None if self.labels is None else tuple(self.labels[at] for at in positions)
        return Files(tuple(self.locations[at] for at in positions), labels)


@dataclass(frozen=True)
class TableRows:
    """Images in a column of a Parquet file.

    Attributes:
        location: of the file.
        column: of the images.
        rows: which, ascending.
        labelled: whether there is a column `label`.
    """

    location: str
    column: str
    rows: tuple[int, ...]
    labelled: bool

    def read(self) -> Iterator[tuple[Encoded, Label]]:
        columns = [self.column, "label"] if self.labelled else [self.column]
        with Place(self.location).open() as opened:
            file = import_parquet().ParquetFile(opened)
            for batch in self._batches(file, columns):
                for values in batch.to_pylist():
                    yield _content(values[self.column]), values.get("label")

    def _batches(self, file: Any, columns: list[str]) -> Iterator[Any]:
        """The rows that are meant, some at a time; row groups without any are not read."""
        wanted, row = set(self.rows), 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if wanted.isdisjoint(range(row, row + count)):
                row += count
                continue
            for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=columns):
                chosen = [at for at in range(len(batch)) if row + at in wanted]
                row += len(batch)
                if chosen:
                    yield batch.take(chosen)
                if row > self.rows[-1]:
                    return

    def only(self, positions: Sequence[int]) -> TableRows:
        return replace(self, rows=tuple(self.rows[at] for at in positions))


@dataclass(frozen=True)
class Records:
    """Images in a TFRecord file: tf.train.Example with image/encoded and perhaps image/class/label.

    Attributes:
        location: of the file.
        spans: of each record the first byte and the one behind its last.
    """

    location: str
    spans: tuple[tuple[int, int], ...]

    def read(self) -> Iterator[tuple[Encoded, Label]]:
        import tensorflow as tf

        with tempfile.NamedTemporaryFile() as copy:  # TensorFlow reads files, on this machine, and checks their sums
            with Place(self.location).open() as file:
                for start, end in self.spans:
                    file.seek(start)
                    copy.write(file.read(end - start))
            copy.flush()
            try:
                for record in tf.data.TFRecordDataset(copy.name):
                    yield _example(record.numpy())
            except tf.errors.OpError as error:
                raise InputError(f"{self.location} cannot be read: a record is damaged.") from error

    def only(self, positions: Sequence[int]) -> Records:
        return replace(self, spans=tuple(self.spans[at] for at in positions))


def _fetched(location: str) -> bytes:
    try:
        return Place(location).read()
    except FileNotFoundError:
        raise InputError(f"{location!r}: there is no such file.") from None


def _content(value: Any) -> bytes:
    """The bytes of an image in a Parquet column; a value without bytes is reported as an unreadable image."""
    found = value.get("bytes") if isinstance(value, dict) else value
    return found if isinstance(found, bytes) else b""


def _example(record: Any) -> tuple[bytes, Label]:
    """The bytes of an image and its label; a record without an image is reported as an unreadable image."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        features: Any = tf.train.Example.FromString(record).features.feature
    except DecodeError:
        return b"", None
    encoded, labels = features["image/encoded"].bytes_list.value, features["image/class/label"].int64_list.value
    return (encoded[0] if encoded else b""), (int(labels[0]) if labels else None)
