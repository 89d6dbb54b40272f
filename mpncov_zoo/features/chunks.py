"""Many images, in chunks: what the inputs name, and what is worked on at once."""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mpncov_zoo.errors import InputError
from mpncov_zoo.features.places import URL_MARK, WILDCARDS, Place, hidden
from mpncov_zoo.features.reading import images_in
from mpncov_zoo.features.sources import Files, Label, Records, Source, TableRows
from mpncov_zoo.features.tables import SUFFIX, import_parquet, require_text
from mpncov_zoo.images import IMAGE_SUFFIXES, has_image_suffix

RECORDS = re.compile(r"\.tfrecords?(-\d+-of-\d+)?$")


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


@dataclass(frozen=True)
class _Found:
    """The images of one input, or of all files."""

    names: Sequence[str]
    source: Source
    label_type: str | None


def list_chunks(inputs: Sequence[str], size: int) -> Listing:
    """What the inputs name, so many images at a time.

    Args:
        inputs: image files, folders, patterns with wildcards, Parquet files with a column `bytes`, `image` or `path`,
            and TFRecord files; paths, or URLs that fsspec knows. Folders are searched for images alone.
        size: images of a chunk, at most.

    Raises:
        InputError: an input holds no images or cannot be read, images of two tables have one name, labels are of two
            types.
        ZooError: pyarrow is missing.
    """
    named = dict.fromkeys(_normal(name) for given in inputs for name in _expanded(given))
    tables = [name for name in named if _is_table(name) or _is_records(name)]
    files = [name for name in named if not _is_table(name) and not _is_records(name)]
    found = [_Found(files, Files(tuple(map(_location, files))), None)] if files else []
    found += [_table(name) if _is_table(name) else _records(name) for name in tables]
    found.sort(key=lambda each: each.label_type is None)  # an image that is named twice keeps its label
    types = {each.label_type for each in found if each.label_type}
    if len(types) > 1:
        raise InputError(f"The labels of the inputs are of {' and '.join(sorted(types))}: give inputs with one type.")
    chunks = _cut(found, size)
    if not chunks:
        raise InputError("The inputs hold no images.")
    return Listing(tuple(chunks), types.pop() if types else None)


def _cut(found: Sequence[_Found], size: int) -> list[Chunk]:
    seen: set[str] = set()
    chunks: list[Chunk] = []
    for each in found:
        require_text(each.names)
        fresh = [at for at, name in enumerate(each.names) if name not in seen]
        if len(fresh) < len(each.names) and not isinstance(each.source, Files):
            twice = next(name for name in each.names if name in seen)
            raise InputError(f"Two images of the inputs are called {twice!r}: leave out the column `path`.")
        seen.update(each.names)
        for start in range(0, len(fresh), size):
            positions = fresh[start : start + size]
            chunks.append(Chunk(tuple(each.names[at] for at in positions), each.source.only(positions)))
    return chunks


def _expanded(given: str) -> list[str]:
    """The files that an input names."""
    is_url = URL_MARK in given
    if not is_url and os.path.isdir(given):
        return images_in(given)
    if WILDCARDS & set(given) and (is_url or not os.path.exists(given)):
        matches = Place(given).matches()
        if not matches:
            raise InputError(f"No file fits {given!r}.")
        return matches
    if _is_table(given) or _is_records(given) or has_image_suffix(given):
        return [given]
    if not is_url and not os.path.exists(given):
        raise InputError(f"{given!r}: there is no such file or folder.")
    if is_url and not (place := Place(given)).is_file():
        prefix = len(given.rstrip("/"))
        images = [name for name in place.below() if has_image_suffix(name)]
        images = [name for name in images if not hidden(name[prefix:])]
        if not images:
            raise InputError(f"No image in {given!r}. Looked for {', '.join(IMAGE_SUFFIXES)}.")
        return images
    return [given]


def _normal(name: str) -> str:
    """One spelling of a path; an image is known by it. What `..` leads to, links decide."""
    return name if URL_MARK in name or ".." in name.split("/") else os.path.normpath(name)


def _is_table(name: str) -> bool:
    return name.endswith(SUFFIX)


def _is_records(name: str) -> bool:
    return RECORDS.search(name) is not None


def _location(name: str) -> str:
    return name if URL_MARK in name else os.path.join(os.getcwd(), name)


def _table(name: str) -> _Found:
    """The images of a Parquet file."""
    try:
        with Place(name).open() as opened:
            file = import_parquet().ParquetFile(opened)
            column, label_type = _image_column(name, file.schema_arrow), _label_type(name, file.schema_arrow)
            wanted = {
                "path": _has_text(file.schema_arrow, "path"),
                "label": column == "path" and label_type is not None,
            }
            values = file.read(columns=[each for each, there in wanted.items() if there]).to_pydict()
            count = file.metadata.num_rows
    except FileNotFoundError:
        raise InputError(f"{name!r}: there is no such file.") from None
    paths = values.get("path", [None] * count)
    if column == "path":
        if None in paths:
            raise InputError(f"{name}: row {paths.index(None)} of its column `path` is empty.")
        return _of_paths(paths, values.get("label"), label_type)
    names = [f"{name}#{row}" if path is None else path for row, path in enumerate(paths)]
    if len(set(names)) < len(names):
        raise InputError(f"{name}: two rows have one `path`. Leave that column out, and rows are numbered.")
    return _Found(names, TableRows(_location(name), column, tuple(range(count)), label_type is not None), label_type)


def _of_paths(paths: list[str], labels: list[Label] | None, label_type: str | None) -> _Found:
    """The images that a table names, each once."""
    first = {path: at for at, path in reversed([*enumerate(map(_normal, paths))])}
    at = sorted(first.values())
    kept = None if labels is None else tuple(labels[each] for each in at)
    names = [_normal(paths[each]) for each in at]
    return _Found(names, Files(tuple(map(_location, names)), kept), label_type)


def _image_column(name: str, schema: Any) -> str:
    """The column of the images: their bytes, alone or in a struct as data sets on the Hub have them, or their paths."""
    from pyarrow import types

    for column in ("bytes", "image"):
        kind = schema.field(column).type if column in schema.names else None
        if kind is not None and types.is_struct(kind):
            kind = next((field.type for field in kind if field.name == "bytes"), None)
        if kind is not None and (types.is_binary(kind) or types.is_large_binary(kind)):
            return column
    if _has_text(schema, "path"):
        return "path"
    fields = ", ".join(f"{field.name} ({field.type})" for field in schema)
    raise InputError(f"{name} has no column `bytes` or `image` of bytes and none of `path`; it has {fields}.")


def _has_text(schema: Any, column: str) -> bool:
    from pyarrow import types

    kind = schema.field(column).type if column in schema.names else None
    return kind is not None and (types.is_string(kind) or types.is_large_string(kind))


def _label_type(name: str, schema: Any) -> str | None:
    from pyarrow import types

    if "label" not in schema.names:
        return None
    kind = schema.field("label").type
    if types.is_integer(kind) and not types.is_uint64(kind):
        return "int64"
    if _has_text(schema, "label"):
        return "string"
    raise InputError(f"{name}: its column `label` is of {kind}; whole numbers and texts can be labels.")


def _records(name: str) -> _Found:
    """The images of a TFRecord file, which are found by the lengths of the records."""
    spans: list[tuple[int, int]] = []
    end = 0
    try:
        with Place(name).open() as file:
            size = file.seek(0, os.SEEK_END)
            while end < size:
                file.seek(end)
                header = file.read(12)  # the length, and a checksum of it
                length = struct.unpack("<Q", header[:8].ljust(8, b"\xff"))[0]
                spans.append((end, end + 16 + length))
                end += 16 + length
    except FileNotFoundError:
        raise InputError(f"{name!r}: there is no such file.") from None
    if end > size:
        raise InputError(f"{name} is no TFRecord file, or is cut off after {len(spans) - 1} records.")
    if not spans:
        raise InputError(f"{name} holds no records.")
    return _Found([f"{name}#{row}" for row in range(len(spans))], Records(_location(name), tuple(spans)), "int64")
