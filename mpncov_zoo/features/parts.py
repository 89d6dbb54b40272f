"""The output of a run over many images: Parquet files, each complete or absent, that say what they are of.

Every chunk of images becomes one file, named by the images in it. So a chunk that is computed twice, as after a worker
was lost, is written to the same file, and what is left to do is what no file has.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from mpncov_zoo.errors import InputError
from mpncov_zoo.features.places import URL_MARK, WILDCARDS, Place, reason
from mpncov_zoo.features.tables import COMPRESSION, SUFFIX, feature_table, import_parquet, to_bytes

DESCRIPTION = "_dataset.json"
COMPONENTS = "_components.npz"
ERRORS = "_errors.parquet"  # readers of a directory of Parquet files pass over what begins with _
BESIDE = ".errors.parquet"  # of a single file, instead of its own ending
PART = "part-"
KEY = b"mpncov_zoo"  # of a single file's metadata: the description
JOINED = b"parts"  # of a single file's metadata: the names of the parts that it was made of
UNREADABLE = b"unreadable"  # of a file's metadata: [[path, reason], ...]
FREE = ("versions",)  # what may differ between runs into one output
READERS = 8  # threads
logger = logging.getLogger(__name__)

Errors = dict[str, str]  # path -> reason


class Parts:
    """A directory of Parquet files; or one file, which is made of them in the end.

    Args:
        output: the directory, or a path that ends with .parquet. Beside that file, until it is complete, the parts are
            in `<output>.partial`.

    Raises:
        InputError: the output is something else already, or a URL with wildcards.
        ZooError: pyarrow is missing.
    """

    def __init__(self, output: str):
        import_parquet()
        if not output.strip():
            raise InputError("output is empty: give a directory or FILE.parquet.")
        if URL_MARK in output and WILDCARDS & set(output):
            raise InputError(f"{output!r}: an output has no wildcards.")
        self.output = output.rstrip("/") or output
        self.single = Place(self.output) if self.output.endswith(SUFFIX) else None
        self.directory = Place(f"{self.output}.partial" if self.single else self.output)
        if self.single is not None and self.single.is_directory():
            raise InputError(f"{output!r} is a directory; give the path of a file, or a name without {SUFFIX}.")
        if self.directory.is_file():
            raise InputError(f"{output!r} is a file. A directory is written, or one file that ends with {SUFFIX}.")

    @property
    def location(self) -> str:
        """The output as another process finds it."""
        return (self.single or self.directory).location

    def description(self) -> dict[str, Any] | None:
        """What the output is of, as an earlier run said it; None if there is none.

        Raises:
            InputError: there is something else in its place.
        """
        names = self.directory.names()
        foreign = [name for name in names if not _is_ours(name) and not name.startswith(".")]
        if foreign:
            raise InputError(f"{self.directory.name} holds something else, {foreign[0]!r}: give another output.")
        if self.single is not None and self.single.is_file():
            text = _metadata(self.single).get(KEY)
            if text is None:
                raise InputError(f"{self.output} is a file of something else: give another output.")
            return json.loads(text)
        if DESCRIPTION in names:
            return _json(self.directory / DESCRIPTION)
        if self._parts():
            raise InputError(f"{self.directory.name} holds features without {DESCRIPTION}: give another output.")
        return None

    def begin(self, description: Mapping[str, Any]) -> None:
        """Begin, or go on with what an earlier run began.

        Raises:
            InputError: the output is of another model or other settings, or cannot be written.
        """
        plain = json.loads(json.dumps(description))
        before = self.description()
        if before is not None:
            changed = [key for key in plain if key not in FREE and before.get(key) != plain[key]]
            if changed:
                pairs = "; ".join(
                    f"{key}: {_short(before.get(key))} there, {_short(plain[key])} now" for key in changed
                )
                raise InputError(f"{self.output} holds other features ({pairs}). Give another output.")
            if before.get("versions") != plain.get("versions"):
                logger.info("%s was begun with other versions: %s", self.output, before.get("versions"))
        if self.single is not None and self.single.is_file():
            for name in json.loads(_metadata(self.single).get(JOINED, b"[]")):  # of a run that ended before it did so
                (self.directory / name).remove()
        if DESCRIPTION not in self.directory.names():
            (self.directory / DESCRIPTION).write(json.dumps(plain, indent=1).encode() + b"\n")

    def done(self) -> tuple[set[str], Errors]:
        """The images that have a row, and those that could not be read.

        Where a run was ended and begun again with other chunks, what was late of the first may have written images that
        the second has, too: their rows are removed from one of the files.

        Raises:
            InputError: a file is damaged.
        """
        names: set[str] = set()
        errors: Errors = {}
        places = self._files()
        with ThreadPoolExecutor(READERS) as pool:
            for place, (paths, unreadable) in zip(places, pool.map(_contents, places), strict=True):
                if not names.isdisjoint(paths):
                    logger.warning("%s: images that another file has, too, are removed from it", place.name)
                    _keep(place, [path not in names for path in paths])
                names.update(paths)
                errors.update(unreadable)
        return names, {path: why for path, why in errors.items() if path not in names}

    def write(
        self,
        key: str,
        names: Sequence[str],
        labels: Sequence[Any],
        rows: np.ndarray,
        errors: Errors,
        label_type: str | None,
    ) -> None:
        """Write the images of a chunk.

        Args:
            key: of the chunk.
            names: of the images that could be read.
            labels: of each, or None.
            rows: (images, ...), float32 or float16.
            errors: the images that could not.
            label_type: "int64" or "string", or None for no such column.

        Raises:
            InputError: the disk, the file system or the store refuses.
        """
        metadata = {UNREADABLE: json.dumps([*errors.items()])} if errors else None
        table = feature_table(names, rows, labels, label_type).replace_schema_metadata(metadata)
        (self.directory / f"{PART}{key}{SUFFIX}").write(to_bytes(table))

    def finish(self) -> tuple[int, Errors, str | None]:
        """Write the list of what could not be read, and the single file.

        Returns:
            The number of rows, the images that could not be read, and where they are listed if there are any.

        Raises:
            InputError: there is no row at all, or something cannot be written.
        """
        import pyarrow

        names, errors = self.done()
        if not names:
            first = f" The first: {min(errors.items())[1]}" if errors else ""
            raise InputError(f"None of the images could be read.{first}")
        listed = Place(f"{self.output.removesuffix(SUFFIX)}{BESIDE}") if self.single else self.directory / ERRORS
        if errors:
            paths = sorted(errors)
            listed.write(to_bytes(pyarrow.table({"path": paths, "reason": [errors[path] for path in paths]})))
        elif listed.is_file() and _columns(listed) == ["path", "reason"]:
            listed.remove()
        there = self.directory.names()
        for name in there:  # `.<name>-<letters>`, where a killed process had begun to write what has been written since
            if name.startswith(".") and name[1:].rpartition("-")[0] in there:
                (self.directory / name).remove()
        if self.single is not None:
            self._join(self.single, errors)
        return len(names), errors, listed.name if errors else None

    def _parts(self) -> list[str]:
        return [name for name in self.directory.names() if name.startswith(PART) and name.endswith(SUFFIX)]

    def _files(self) -> list[Place]:
        before = [self.single] if self.single is not None and self.single.is_file() else []
        return [*before, *(self.directory / name for name in self._parts())]

    def _join(self, target: Place, errors: Errors) -> None:
        """Make the single file of all parts, and remove them."""
        parts = self._parts()
        if not target.is_file() or any(_contents(self.directory / name)[0] for name in parts):
            metadata = {
                KEY: (self.directory / DESCRIPTION).read(),
                JOINED: json.dumps(parts),
                UNREADABLE: json.dumps([*errors.items()]),
            }
            beside = self.directory.path if self.directory.is_local else None  # what a store takes is made in /tmp
            with tempfile.TemporaryDirectory(prefix=".joining-", dir=beside) as scratch:
                joined = Path(scratch) / "joined.parquet"
                _write_joined(joined, self._files(), metadata)
                target.take(joined)
        for name in filter(_is_ours, self.directory.names()):
            (self.directory / name).remove()
        if not self.directory.names():
            self.directory.remove()


def _is_ours(name: str) -> bool:
    """Whether a run writes such a file; `.<name>-<letters>` is one that is being written."""
    whole = name[1:].rpartition("-")[0] if name.startswith(".") else name
    return whole in (DESCRIPTION, COMPONENTS, ERRORS, "joining") or (whole.startswith(PART) and whole.endswith(SUFFIX))


def _columns(place: Place) -> list[str]:
    with place.open() as opened:
        return import_parquet().read_schema(opened).names


def _write_joined(path: Path, places: Sequence[Place], metadata: Mapping[bytes, Any]) -> None:
    parquet = import_parquet()
    writer = None
    try:
        for table in (table for place in places for table in _tables(place)):
            if writer is None:
                schema = table.schema.with_metadata(metadata)
                writer = parquet.ParquetWriter(path, schema, compression=COMPRESSION)
            writer.write_table(table.replace_schema_metadata(metadata))
        assert writer is not None  # there are rows
        writer.close()
    except OSError as error:
        raise InputError(f"{os.path.dirname(path)} cannot be written: {reason(error)}.") from error


def _keep(place: Place, chosen: Sequence[bool]) -> None:
    """Leave only some rows in a file."""
    with place.open() as opened:
        table = import_parquet().read_table(opened)
    place.write(to_bytes(table.filter(list(chosen))))


def _contents(place: Place) -> tuple[list[str], Errors]:
    import pyarrow

    with place.open() as opened:
        try:
            table = import_parquet().read_table(opened, columns=["path"])
        except pyarrow.ArrowInvalid as error:
            raise InputError(f"{place.name} is damaged ({reason(error)}): remove it, and run again.") from error
    unreadable = (table.schema.metadata or {}).get(UNREADABLE, b"[]")
    return table.column("path").to_pylist(), dict(json.loads(unreadable))


def _metadata(place: Place) -> Mapping[bytes, bytes]:
    import pyarrow

    with place.open() as opened:
        try:
            return import_parquet().read_schema(opened).metadata or {}
        except pyarrow.ArrowInvalid as error:
            raise InputError(f"{place.name} is no Parquet file ({reason(error)}): give another output.") from error


def _tables(place: Place) -> Iterator[Any]:
    with place.open() as opened:
        file = import_parquet().ParquetFile(opened)
        for group in range(file.num_row_groups):
            if file.metadata.row_group(group).num_rows:
                yield file.read_row_group(group)


def _json(place: Place) -> dict[str, Any]:
    try:
        found = json.loads(place.read())
    except ValueError as error:
        raise InputError(f"{place.name} is damaged ({error}): give another output.") from error
    if not isinstance(found, dict):
        raise InputError(f"{place.name} is no description of features: give another output.")
    return found


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
