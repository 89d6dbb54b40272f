"""Writes a state_dict as a `.pth` file in the zip format that `torch.load(weights_only=True)` reads, without torch."""

import pickle
import struct
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from conversion.readers.names import STORAGES
from mpncov_zoo.complete import complete
from mpncov_zoo.errors import ConversionError

STORAGE_NAMES = {np.dtype(dtype): name for name, dtype in STORAGES.items()}
ROOT = "archive"


def write_pth(tensors: Mapping[str, np.ndarray], path: Path) -> None:
    """Write tensors under their names, in their order.

    Args:
        tensors: what the file is to hold, in types that PyTorch has.
        path: the file, which appears complete or not at all.

    Raises:
        ConversionError: PyTorch has no type for an array.
    """
    arrays = {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in tensors.items()}
    with complete(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{ROOT}/data.pkl", state_dict_pickle(arrays))
        archive.writestr(f"{ROOT}/byteorder", "little")
        for key, array in enumerate(arrays.values()):
            archive.writestr(f"{ROOT}/data/{key}", array.tobytes())
        archive.writestr(f"{ROOT}/version", "3\n")


def state_dict_pickle(arrays: Mapping[str, np.ndarray], legacy: bool = False) -> bytes:
    """The pickle of an OrderedDict of contiguous tensors, whose storages have the keys "0", "1" ..."""
    items = (_text(name) + _tensor(str(key), array, legacy) for key, (name, array) in enumerate(arrays.items()))
    content = _ordered_dict() + pickle.MARK + b"".join(items) + pickle.SETITEMS
    return pickle.PROTO + b"\x02" + content + pickle.STOP


def _tensor(key: str, array: np.ndarray, legacy: bool) -> bytes:
    if array.dtype not in STORAGE_NAMES:
        raise ConversionError(f"PyTorch's files have no type for an array of {array.dtype}.")
    strides = tuple(step // array.itemsize for step in array.strides)
    views = [pickle.NONE] if legacy else []
    storage = [
        _text("storage"),
        _named("torch", STORAGE_NAMES[array.dtype]),
        _text(key),
        _text("cpu"),
        _int(array.size),
    ]
    reference = _tuple([*storage, *views]) + pickle.BINPERSID
    shape = (_tuple(map(_int, values)) for values in (array.shape, strides))
    arguments = _tuple([reference, _int(0), *shape, pickle.NEWFALSE, _ordered_dict()])
    return _named("torch._utils", "_rebuild_tensor_v2") + arguments + pickle.REDUCE


def _ordered_dict() -> bytes:
    return _named("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE


def _named(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _text(value: str) -> bytes:
    encoded = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def _int(value: int) -> bytes:
    encoded = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return pickle.LONG1 + bytes([len(encoded)]) + encoded


def _tuple(items: Iterable[bytes]) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE
