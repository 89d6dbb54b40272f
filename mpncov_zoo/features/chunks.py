"""Many images, in chunks: what the inputs name, and what is worked on at once."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpncov_zoo.errors import InputError, ZooError
from mpncov_zoo.features.places import URL_MARK, Place, reason
from mpncov_zoo.features.reading import IMAGE_SUFFIXES, images_in
from mpncov_zoo.features.sources import Files, Records, Source, TableRows
from mpncov_zoo.features.tables import import_parquet, require_text

PARQUET = ".parquet"
RECORDS = (".tfrecord", ".tfrecords")  # also inside a name, as in a.tfrecord-00000-of-00008
WILDCARDS = frozenset("*?[")
IMAGE_COLUMNS = ("bytes", "image")  # of Parquet: binary, or a struct with a field `bytes`, as data sets on the Hub have


@dataclass(frozen=True)
class Chunk:
    """Images that are computed and written together.

    Attributes:
        names: of the images, as the table of features has them; no two are equal.
        source: the images.
    """

    names: tuple[str, ...]
    source: Source

    @property
    def key(self) -> str:
        """Says which images these are: a second chunk of the same images has the same key."""
        return hashlib.sha256("\0".join(self.names).encode()).hexdigest()[:16]

    def without(self, done: set[str]) -> Chunk | None:
        """The images that are not done; None if all are."""
        left = [at for at, name in enumerate(self.names) if name not in done]
        if len(left) == len(self.names):
            return self
        return Chunk(tuple(self.names[at] for at in left), self.source.only(left)) if left else None


@dataclass(frozen=True)
class Listing:
    """All images of the inputs.

    Attributes:
        chunks: in the order of the inputs.
        label_type: "int64" or "string", Arrow's names; None where no input has labels.
    """

    chunks: tuple[Chunk, ...]
    label_type: str | None


def list_chunks(inputs: Sequence[str], size: int) -> Listing:
    """What the inputs name, so many images at a time.

    Args:
        inputs: image files, folders, patterns with wildcards, Parquet files with a column `bytes`, `image` or `path`,
            and TFRecord files; paths, or URLs that fsspec knows. Folders are searched for images alone.
        size: images of a chunk, at most.

    Raises:
        InputError: an input holds no images or cannot be read, two images have one name, labels are of two types.
        ZooError: pyarrow is missing.
    """
    named = [name for given in inputs for name in _expanded(given)]
    files = [name for name in named if not _is_table(name) and not _is_records(name)]
    found: list[tuple[list[str], Source, str | None]] = []
    if files:
        found.append((files, Files(tuple(map(_location, files))), None))
    found += [_table(name) for name in named if _is_table(name)]
    found += [_records(name) for name in named if _is_records(name)]
    types = {kind for _, _, kind in found if kind}
    if len(types) > 1:
        raise InputError(f"The labels of the inputs are of {' and '.join(sorted(types))}: give inputs with one type.")
    seen: set[str] = set()
    chunks: list[Chunk] = []
    for names, source, _ in found:
        fresh = _first_of_each(names, seen)
        require_text(names)
        for start in range(0, len(fresh), size):
            positions = fresh[start : start + size]
            chunks.append(Chunk(tuple(names[at] for at in positions), source.only(positions)))
    return Listing(tuple(chunks), types.pop() if types else None)


def _expanded(given: str) -> list[str]:
    """The files that an input names."""
    is_url = URL_MARK in given
    if not is_url and os.path.isdir(given):
        return images_in(given)
    if WILDCARDS & set(given) and (is_url or not os.path.exists(given)):
        matches = [name for name in Place(given).matches() if not _is_hidden(name)]
        if not matches:
            raise InputError(f"No file fits {given!r}.")
        return matches
    is_one = _is_table(given) or _is_records(given) or Path(given).suffix.lower() in IMAGE_SUFFIXES
    if is_url and not is_one and not (place := Place(given)).is_file():
        images = [name for name in place.below() if Path(name).suffix.lower() in IMAGE_SUFFIXES]
        images = [name for name in images if not _is_hidden(name[len(given) :])]
        if not images:
            raise InputError(f"No image in {given!r}. Looked for {', '.join(IMAGE_SUFFIXES)}.")
        return images
    return [given]


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") and part.strip(".") for part in name.split("/"))


def _is_table(name: str) -> bool:
    return name.endswith(PARQUET)


def _is_records(name: str) -> bool:
    return any(ending in os.path.basename(name) for ending in RECORDS)


def _location(name: str) -> str:
    return name if URL_MARK in name else os.path.abspath(name)


def _table(name: str) -> tuple[list[str], Source, str | None]:
    """The images of a Parquet file: their names, themselves, the type of their labels."""
    place = Place(name)
    try:
        with place.open() as opened:
            file = import_parquet().ParquetFile(opened)
            schema, count = file.schema_arrow, file.metadata.num_rows
            column = next((column for column in (*IMAGE_COLUMNS, "path") if column in schema.names), None)
            if column is None:
                columns = ", ".join(schema.names)
                raise InputError(f"{name} has no column `bytes`, `image` or `path`; it has {columns}.")
            kind = _label_type(name, schema)
            wanted = [each for each in ("path", "label" if column == "path" and kind else None) if each in schema.names]
            values = file.read(columns=wanted).to_pydict()
    except FileNotFoundError:
        raise InputError(f"{name!r}: there is no such file.") from None
    except (OSError, ValueError) as error:  # what pyarrow raises, and InputError, which stays as it is
        raise (
            error if isinstance(error, ZooError) else InputError(f"{name} cannot be read: {reason(error)}.")
        ) from error
    paths = values.get("path")
    if column == "path":
        labels = tuple(values["label"]) if kind else None
        return list(map(str, paths)), Files(tuple(map(_location, map(str, paths))), labels), kind
    names = [f"{name}#{row}" for row in range(count)] if paths is None else list(map(str, paths))
    if len(set(names)) < len(names):
        raise InputError(f"{name}: two rows have one `path`. Leave that column out, and rows are numbered.")
    return names, TableRows(_location(name), column, tuple(range(count)), kind is not None), kind


def _label_type(name: str, schema: Any) -> str | None:
    import pyarrow.types

    if "label" not in schema.names:
        return None
    kind = schema.field("label").type
    if pyarrow.types.is_integer(kind):
        return "int64"
    if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind):
        return "string"
    raise InputError(f"{name}: its column `label` is of {kind}; whole numbers and texts can be labels.")


def _records(name: str) -> tuple[list[str], Source, str | None]:
    """The images of a TFRecord file; its records are counted by their lengths, and read where they are worked on."""
    place, count, end = Place(name), 0, 0
    try:
        with place.open() as file:
            while header := file.read(12):  # the length, and a checksum of it
                end += 16 + struct.unpack("<Q", header[:8].ljust(8, b"\xff"))[0]
                if len(header) < 12 or end > file.seek(0, os.SEEK_END):
                    raise InputError(f"{name} is no TFRecord file, or is cut off after {count} records.")
                file.seek(end)
                count += 1
    except FileNotFoundError:
        raise InputError(f"{name!r}: there is no such file.") from None
    except OSError as error:
        raise InputError(f"{name} cannot be read: {reason(error)}.") from error
    if not count:
        raise InputError(f"{name} holds no records.")
    return [f"{name}#{row}" for row in range(count)], Records(_location(name), tuple(range(count))), "int64"


def _first_of_each(names: Sequence[str], seen: set[str]) -> list[int]:
    """The positions of the names that were not seen before, which are then."""
    positions = []
    for at, name in enumerate(names):
        if name not in seen:
            seen.add(name)
            positions.append(at)
    return positions
