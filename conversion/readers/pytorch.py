"""Reads PyTorch's `.pth` files with NumPy, in the legacy format (before 1.6) and in the zip format, without torch.

Both are pickles, which `pickles.py` reads without running them; the numbers stay in the mapped file, and every tensor
must lie inside its storage.
"""

import io
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from conversion.readers.names import OtherTensor, Storage, Tensor
from conversion.readers.pickles import MAX_PICKLE, unpickle
from conversion.readers.reading import KERAS_SAVE, Refused, StoredTensors, mapped, reading, short
from conversion.readers.state_dicts import find_state_dict

ZIP_MAGIC = b"PK\x03\x04"
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001

Elements = Callable[[Storage], np.ndarray]


def read_pth(path: Path, key: str | None = None) -> StoredTensors:
    """Read the tensors of a `.pth`, `.pt` or `.pth.tar` file, by name, in the file's order.

    Args:
        path: the file; nothing in it is trusted.
        key: where in the file the state_dict is, with dots, such as `model_ema` or `model.state_dict`; None where the
            file has only one.

    Returns:
        Read-only arrays in the types and layouts of the file; their numbers stay in the mapped file.

    Raises:
        ConversionError: the file has another format, is damaged, holds what only running it would read, or has no
            state_dict; or several, and no key says which.
    """
    with reading(path, "PyTorch"), open(path, "rb") as file:
        data = mapped(path)
        content, elements = (_open_zip if data[:4] == ZIP_MAGIC else _open_legacy)(file, data)
        found, passed_over = find_state_dict(content, key)
        arrays = {name: _array(name, tensor, elements) for name, tensor in found.tensors.items()}
        named = found.key if found.path or key else None
        return StoredTensors(arrays, named, found.others, tuple(map(str, passed_over)))


def _open_zip(file: BinaryIO, data: memoryview) -> tuple[Any, Elements]:
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        if len(entries) != len(archive.infolist()):
            raise Refused("two of its entries have one name")
    _require_state_dict(entries)
    roots = [name.removesuffix("data.pkl") for name in entries if name.rpartition("/")[2] == "data.pkl"]
    if len(roots) != 1:
        raise Refused(f"it is a zip file with {len(roots)} entries named data.pkl; PyTorch writes one")
    order = entries.get(f"{roots[0]}byteorder")
    if order is not None and bytes(_stored(data, order)) != b"little":
        raise Refused("its numbers are big-endian")
    content, _ = unpickle(io.BytesIO(_stored(data, entries[f"{roots[0]}data.pkl"])[: MAX_PICKLE + 1]))

    def elements(storage: Storage) -> np.ndarray:
        entry = entries.get(f"{roots[0]}data/{storage.key}")
        if entry is None:
            raise Refused(f"storage {short(storage.key)} is missing")
        return _numbers(storage, _stored(data, entry))

    return content, elements


def _array(name: str, tensor: Tensor | OtherTensor, elements: Elements) -> np.ndarray:
    if isinstance(tensor, OtherTensor):
        raise Refused(f"{short(name)} {tensor.reason}")
    return tensor.on(elements(tensor.storage))


def _require_state_dict(entries: Collection[str]) -> None:
    """Refuse the zip files of others with what to do instead.

    Raises:
        Refused: it is a program of TorchScript, or a network of Keras.
    """
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in entries):
        raise Refused(
            "it is a TorchScript archive, which holds a program. In PyTorch, save its weights alone: "
            "torch.save(torch.jit.load(FILE).state_dict(), 'w.pth')"
        )
    if "model.weights.h5" in entries:
        raise Refused(
            "it is a .keras file of Keras 3, in which nobody publishes networks of the zoo. If you saved it, load it "
            "and save an artifact: import keras, mpncov_zoo.artifact; "
            f"model = keras.saving.load_model(FILE); {KERAS_SAVE}"
        )


def _stored(data: memoryview, entry: zipfile.ZipInfo) -> memoryview:
    """An entry's bytes in the mapped file; PyTorch does not compress."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size or entry.flag_bits & 1:
        raise Refused(f"{short(entry.filename)} is compressed or encrypted, which PyTorch does not do")
    header = bytes(data[entry.header_offset : entry.header_offset + 30])
    if len(header) < 30 or header[:4] != ZIP_MAGIC:
        raise Refused(f"{short(entry.filename)} is not where the zip file's directory says")
    names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    start = entry.header_offset + 30 + names
    if start + entry.file_size > len(data):
        raise Refused(f"{short(entry.filename)} is cut off")
    return data[start : start + entry.file_size]


def _open_legacy(file: BinaryIO, data: memoryview) -> tuple[Any, Elements]:
    if unpickle(file)[0] != LEGACY_MAGIC:
        raise Refused(
            "it is a pickle that torch.save has not written. In PyTorch, save the weights once more: "
            "torch.save(state_dict, 'w.pth'), where all values are tensors"
        )
    (protocol, _), (system, _) = (unpickle(file) for _ in range(2))
    if protocol != LEGACY_PROTOCOL or not isinstance(system, dict):
        raise Refused("it does not begin as PyTorch's files do")
    if not system.get("little_endian", True):
        raise Refused("its numbers are big-endian")
    content, storages = unpickle(file)
    keys, _ = unpickle(file)
    named = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not named or sorted(keys) != sorted(storages):
        raise Refused("the storages that follow are not those that its tensors lie in")
    found, position = {}, file.tell()
    for key in keys:
        storage = storages[key]
        start, position = position + 8, position + 8 + storage.numel * storage.dtype.itemsize
        if int.from_bytes(data[start - 8 : start], "little", signed=True) != storage.numel:
            raise Refused(f"storage {short(key)} does not have {storage.numel} elements")
        found[key] = _numbers(storage, data[start:position])
    return content, lambda storage: found[storage.key]


def _numbers(storage: Storage, stored: memoryview) -> np.ndarray:
    if len(stored) != storage.numel * storage.dtype.itemsize:
        expected = f"{storage.numel} numbers of {storage.dtype}"
        raise Refused(f"storage {short(storage.key)} has {len(stored)} bytes, which are not {expected}")
    return np.frombuffer(stored, storage.dtype)
