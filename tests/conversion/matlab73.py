"""Writes `.mat` files of MATLAB's format 7.3 with h5py, laid out as MATLAB does; Octave writes none.

Values are what SciPy reads with struct_as_record=False: arrays, texts, object arrays for cells, and mat_struct objects.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.io.matlab import mat_struct

HEADER = 512  # bytes before HDF5


def write(path: Path, variables: dict[str, Any]) -> None:
    """Write variables; a compressed, chunked copy of large arrays, as MATLAB's default is."""
    with h5py.File(path, "w", userblock_size=HEADER) as file:
        writer = _Writer(file)
        for name, value in variables.items():
            writer.put(file, name, value)
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


class _Writer:
    def __init__(self, file: h5py.File):
        self.file, self.count = file, 0

    def put(self, group: Any, name: str, value: Any) -> Any:
        if isinstance(value, mat_struct):
            item = group.create_group(name)
            for field in value._fieldnames:
                self.put(item, field, getattr(value, field))
            return _named(item, "struct")
        if isinstance(value, str):
            value = np.array([[*value.encode("utf-16-le")]], np.uint8).view(np.uint16)
            return self._array(group, name, value, "char")
        value = np.atleast_2d(value)
        if value.dtype.kind == "U":
            return self.put(group, name, str(value.ravel()[0]) if value.size else "")
        if value.dtype.kind != "O":
            return self._array(group, name, value, KINDS[value.dtype.str[1:]])
        if value.size and isinstance(value.flat[0], mat_struct):
            return self._structs(group, name, value)
        if not value.size:
            return self._array(group, name, value.astype(np.float64), "cell")
        return _named(group.create_dataset(name, data=self._references(value)), "cell")

    def _structs(self, group: Any, name: str, value: np.ndarray) -> Any:
        if value.size == 1:
            return self.put(group, name, value.flat[0])
        item = _named(group.create_group(name), "struct")
        for field in value.flat[0]._fieldnames:
            column = np.empty(value.shape, object)
            for index in np.ndindex(value.shape):
                column[index] = getattr(value[index], field)
            item.create_dataset(field, data=self._references(column))  # without a class
        return item

    def _references(self, value: np.ndarray) -> np.ndarray:
        references = np.empty(value.T.shape, h5py.ref_dtype)
        for index, inner in np.ndenumerate(value.T):
            self.count += 1
            store = self.file.require_group("#refs#")
            references[index] = self.put(store, f"v{self.count}", inner).ref
        return references

    def _array(self, group: Any, name: str, value: np.ndarray, kind: str) -> Any:
        if not value.size:
            item = group.create_dataset(name, data=np.array(value.shape, np.uint64))
            item.attrs["MATLAB_empty"] = np.uint8(1)
            return _named(item, kind)
        packed = {"compression": "gzip", "shuffle": True} if value.size > 1000 else {}
        item = _named(group.create_dataset(name, data=value.T, **packed), kind)
        if kind == "char":
            item.attrs["MATLAB_int_decode"] = np.int32(2)
        return item


KINDS = {"f4": "single", "f8": "double", "u1": "uint8", "i4": "int32", "u2": "uint16", "i2": "int16", "b1": "logical"}


def _named(item: Any, kind: str) -> Any:
    item.attrs["MATLAB_class"] = np.bytes_(kind)
    return item
