"""Reads the `.h5` weights of Keras 1 and 2 with h5py: groups of layers, whose attributes list the tensors.

Keras stores every tensor in one piece. Whatever else HDF5 can do is refused before a number is read: numbers that lie
in other files, links, and compressed pieces, whose size only unpacking tells.
"""

import math
import re
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from conversion.readers.reading import KERAS_SAVE, Refused, mapped, optional, reading, short

TOP_LEVEL = "top_level_model_weights"  # of variables that belong to no layer; not among the layers' names
MAX_TEXTS = 2**28  # bytes of texts of variable length, each taken to be as long as the longest
HEAP = re.compile(rb"GCOL\x01")  # how the pieces of a file begin in which such texts lie


def read_h5(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors as `<layer>/<weight name>`, in the order in which Keras would load them.

    Args:
        path: the file, of `save_weights` or of a whole model; nothing in it is trusted.

    Returns:
        Read-only arrays of the file's own types.

    Raises:
        ConversionError: the file is of another layout, damaged, or its tensors are not those that it lists; the package
            is not installed.
    """
    h5py = optional("h5py", "Reading .h5 files")
    with reading(path, "HDF5"), h5py.File(path, "r") as file:
        objects = dict(_walk(h5py, file))
        prefix, root = _root(objects, file)
        limit = path.stat().st_size
        listed = list(_listed(h5py, objects, root, prefix, _Room(h5py, file, mapped(path))))
        found = {name for name, item in objects.items() if name.startswith(prefix) and isinstance(item, h5py.Dataset)}
        _require_same(listed, found)
        _check(h5py, {name: objects[name] for name in listed}, limit)
        return {name.removeprefix(prefix): _numbers(objects[name]) for name in listed}


def _walk(h5py: Any, file: Any) -> Iterator[tuple[str, Any]]:
    """Every group and dataset by its path, each once; links are not followed."""
    seen, pending = {h5py.h5o.get_info(file.id).addr}, [("", file)]
    while pending:
        path, group = pending.pop()
        for name in group:
            inner = f"{path}{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise Refused(f"{short(inner)} is a link, which Keras does not write")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen or not isinstance(item, h5py.Dataset | h5py.Group):
                raise Refused(f"{short(inner)} is in it twice, or neither a group nor a tensor")
            seen.add(address)
            if isinstance(item, h5py.Group):
                pending.append((f"{inner}/", item))
            yield inner, item


def _root(objects: dict[str, Any], file: Any) -> tuple[str, Any]:
    """The path and group of the layers: of the weights alone, or of those within a whole model."""
    for prefix, group in (("", file), ("model_weights/", objects.get("model_weights"))):
        if group is not None and ("layer_names" in group.attrs or "layer_names0" in group.attrs):
            return prefix, group
    if objects.keys() & {"layers", "_layer_checkpoint_dependencies"}:
        raise Refused(
            "it is a .weights.h5 of Keras 3, in which nobody publishes networks of the zoo. If you saved it, load it "
            "and save an artifact: import mpncov_zoo.artifact; model = mpncov_zoo.build(NAME, num_classes=N); "
            f"model.load_weights(FILE); {KERAS_SAVE}"
        )
    raise Refused("it has no layer_names, which the weights of Keras 1 and 2 have")


@dataclass
class _Room:
    """What the lists of names take of a file, all together.

    Keras by h5py 3 writes texts of variable length: references of 16 bytes, of which any number may be to one long
    text. How long it is HDF5 tells by reading it; no text is longer than the heap that it lies in.
    """

    h5py: Any
    file: Any
    data: memoryview
    listed: int = 0  # bytes
    texts: int = 0  # of variable length

    def take(self, name: str, attribute: Any) -> None:
        count, dtype = math.prod(attribute.shape), attribute.dtype
        self.listed += count * dtype.itemsize
        if self.listed > len(self.data):
            raise Refused(f"{short(name)} is larger than the file")
        if dtype.hasobject:
            self.texts += count
            if not self.h5py.check_string_dtype(dtype):
                raise Refused(f"{short(name)} are not names")
            if self.texts * self.longest > MAX_TEXTS:
                raise Refused(
                    f"{short(name)} has too many texts, if each is of {self.longest} bytes; save the weights alone"
                )

    @cached_property
    def longest(self) -> int:
        """The bytes of the largest heap that lies within the file; HDF5 reads no others."""
        if self.file.id.get_create_plist().get_sizes() != (8, 8):
            raise Refused("its sizes are not of 8 bytes")
        starts = (found.start() for found in HEAP.finditer(self.data, 0, max(0, len(self.data) - 16)))
        sizes = ((start, *struct.unpack_from("<Q", self.data, start + 8)) for start in starts)
        return max((size for start, size in sizes if start + size <= len(self.data)), default=0)


def _listed(h5py: Any, objects: dict[str, Any], root: Any, prefix: str, room: _Room) -> Iterator[str]:
    """The paths of the tensors, as the attributes list them."""
    layers = _names(root, "layer_names", room)
    if f"{prefix}{TOP_LEVEL}" in objects and TOP_LEVEL not in layers:
        layers.append(TOP_LEVEL)
    for layer in layers:
        group = objects.get(f"{prefix}{layer}")
        if not isinstance(group, h5py.Group):
            raise Refused(f"layer {short(layer)} is listed, but not there")
        for weight in _names(group, "weight_names", room):
            yield f"{prefix}{layer}/{weight}"


def _names(group: Any, attribute: str, room: _Room) -> list[str]:
    """An attribute's texts; Keras spreads long lists over `<attribute>0`, `<attribute>1` ..."""
    attributes = [attribute] if attribute in group.attrs else []
    while attribute not in attributes and f"{attribute}{len(attributes)}" in group.attrs:
        attributes.append(f"{attribute}{len(attributes)}")
    names: list[str] = []
    for name in attributes:
        room.take(name, group.attrs.get_id(name))
        values = np.asarray(group.attrs[name]).ravel().tolist()
        names += [value.decode() if isinstance(value, bytes) else value for value in values]
    if not all(isinstance(name, str) for name in names):
        raise Refused(f"{attribute} of {short(group.name)} are not names")
    return names


def _require_same(listed: list[str], found: set[str]) -> None:
    twice = sorted(name for name, times in Counter(listed).items() if times > 1)
    for names, problem in (
        (sorted(set(listed) - found), "listed, but not there"),
        (sorted(found - set(listed)), "there, but not listed"),
        (twice, "listed twice"),
    ):
        if names:
            raise Refused(f"{short(names[0])} and {len(names) - 1} more are {problem}")


def _check(h5py: Any, tensors: dict[str, Any], limit: int) -> None:
    """Plain numbers, in one piece, in this file, as many as are declared."""
    whole = {h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT}
    total = 0
    for name, tensor in tensors.items():
        dtype = tensor.dtype
        if dtype.kind not in "fiu" or dtype.metadata or dtype.byteorder == ">":
            raise Refused(f"{short(name)} is of type {dtype}; only little-endian numbers are weights")
        if tensor.id.get_create_plist().get_layout() not in whole or tensor.external or tensor.shape is None:
            raise Refused(f"{short(name)} is compressed, in pieces or in another file, which Keras does not do")
        size = math.prod(tensor.shape) * dtype.itemsize
        total += size
        if tensor.id.get_storage_size() != size or total > limit:
            raise Refused(f"{short(name)} has {tensor.id.get_storage_size()} bytes, not {size}")


def _numbers(tensor: Any) -> np.ndarray:
    array = np.asarray(tensor[()])
    array.flags.writeable = False
    return array
