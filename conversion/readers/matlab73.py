"""The variables of a file of MATLAB's format 7.3, which is HDF5, as values; read by h5py.

A struct is a group; cells and the fields of struct arrays are references to what lies in the group `#refs#`. Axes are
stored in the reverse order. Links, numbers in other files, and filters that MATLAB does not use are refused.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conversion.readers.mat import MAX_EXPANSION
from conversion.readers.matlab_values import DEEPEST, Cells, Records, Room, Unread, Value
from conversion.readers.reading import Refused, optional, short

FILTERS = frozenset({1, 2})  # gzip, and the shuffling before it
OWN = ("#refs#", "#subsystem#")


def values(path: Path) -> dict[str, Value]:
    """Every variable of a file.

    Raises:
        Refused: it holds what MATLAB does not write, or more than there is room for.
        ConversionError: h5py is not installed.
    """
    h5py = optional("h5py", "Reading .mat files of the format 7.3")
    with h5py.File(path, "r") as file:
        reader = _Reader(h5py, file, Room(MAX_EXPANSION * path.stat().st_size))
        return {name: reader.child(file, name, 0) for name in file if name not in OWN}


@dataclass
class _Reader:
    h5py: Any
    file: Any
    room: Room

    def child(self, group: Any, name: str, depth: int) -> Value:
        """A member of a group."""
        if not isinstance(group.get(name, getlink=True), self.h5py.HardLink):
            raise Refused(f"{short(name)} is a link, which MATLAB does not write")
        return self.value(group[name], short(name), depth)

    def value(self, item: Any, name: str, depth: int) -> Value:
        """A group or a data set."""
        self.room.enter(name)  # references may lead to one value any number of times
        if depth > DEEPEST:
            raise Refused(f"{name} lies within more than {DEEPEST} structs and cells")
        kind = _attribute(item, "MATLAB_class")
        if "MATLAB_object_decode" in item.attrs or kind not in KINDS:
            return Unread(f"an object of the class {kind}" if kind else "without a class")
        if "MATLAB_sparse" in item.attrs:
            return Unread("a sparse matrix")
        if isinstance(item, self.h5py.Group):
            return self._struct(item, name, depth)
        if not isinstance(item, self.h5py.Dataset):
            raise Refused(f"{name} is neither a group nor a data set")
        if item.attrs.get("MATLAB_empty"):
            return _empty(kind)
        if kind == "cell":
            return Cells(tuple(self._referred(item, name, depth)))
        return self._plain(item, kind, name)

    def _struct(self, group: Any, name: str, depth: int) -> Records:
        """One struct, whose members are values; or an array of them, whose members are lists of references."""
        members = list(group)
        lists = [self._is_list(group, member) for member in members]
        if not members or not all(lists):
            if any(lists):
                raise Refused(f"{name} is a struct and an array of structs at once")
            return Records(({member: self.child(group, member, depth + 1) for member in members},))
        columns = {member: list(self._referred(group[member], name, depth)) for member in members}
        if len({len(column) for column in columns.values()}) > 1:
            raise Refused(f"{name} has fields of different lengths")
        rows = zip(*columns.values(), strict=True)
        return Records(tuple(dict(zip(columns, row, strict=True)) for row in rows))

    def _is_list(self, group: Any, name: str) -> bool:
        if not isinstance(group.get(name, getlink=True), self.h5py.HardLink):
            raise Refused(f"{short(name)} is a link, which MATLAB does not write")
        item = group[name]
        references = isinstance(item, self.h5py.Dataset) and self.h5py.check_ref_dtype(item.dtype) is not None
        return references and "MATLAB_class" not in item.attrs

    def _referred(self, item: Any, name: str, depth: int) -> Iterator[Value]:
        if self.h5py.check_ref_dtype(item.dtype) is not self.h5py.Reference:
            raise Refused(f"{name} holds no references")
        for reference in self._stored(item, name).ravel():
            if not reference:
                raise Refused(f"{name} has a reference to nothing")
            yield self.value(self.file[reference], name, depth + 1)

    def _plain(self, item: Any, kind: str, name: str) -> Value:
        if item.dtype.kind not in "fiu":
            return Unread("complex" if item.dtype.names else f"of the type {item.dtype}")
        array = self._stored(item, name).T
        if kind == "char":
            if array.ndim != 2 or array.shape[0] != 1:
                return Unread(f"text of shape {array.shape}")
            return array.astype("<u2").tobytes("F").decode("utf-16-le", "replace")
        array.flags.writeable = False
        return array

    def _stored(self, item: Any, name: str) -> np.ndarray:
        """The numbers or references of a data set, after a look at how many and how they are stored."""
        settings = item.id.get_create_plist()
        filters = {settings.get_filter(index)[0] for index in range(settings.get_nfilters())}
        layout = settings.get_layout()
        if item.shape is None or item.external or layout == self.h5py.h5d.VIRTUAL or not filters <= FILTERS:
            raise Refused(f"{name} is stored in a way that MATLAB does not use")
        self.room.take(math.prod(item.shape) * item.dtype.itemsize, name)
        return np.asarray(item[()])


KINDS = frozenset(
    {"struct", "cell", "char", "logical", "single", "double"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)


def _attribute(item: Any, name: str) -> str:
    value = item.attrs.get(name, b"")
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _empty(kind: str) -> Value:
    """Of an empty value the file holds the shape."""
    if kind in ("cell", "struct"):
        return Cells(()) if kind == "cell" else Records(())
    return "" if kind == "char" else np.zeros((0, 0))
