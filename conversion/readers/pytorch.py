"""PyTorch's `.pth` files read with NumPy: the legacy format (before 1.6) and the zip format; torch is not needed.

Both are pickles, and a pickle is a program. It is run by Python's unpickler with nothing to call but what tensors are
made of, after a look at its instructions; the numbers stay in the mapped file, and every tensor must lie inside its
storage.
"""

import io
import mmap
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from mpncov_zoo.errors import ConversionError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
MAX_PICKLE = 64 * 2**20  # bytes of instructions; a network of a thousand layers needs a hundredth
STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
FORBIDDEN_OPCODES = {"INST", "OBJ", "EXT1", "EXT2", "EXT4", "PERSID", "NEXT_BUFFER", "READONLY_BUFFER"}


def read_pth(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a `.pth`, `.pt` or `.pth.tar` file, by name, in the file's order.

    A training checkpoint's are those under its `state_dict`.

    Args:
        path: the file; nothing in it is trusted.

    Returns:
        Read-only arrays in the file's own types and layouts, over the mapped file.

    Raises:
        ConversionError: the file is of another format, damaged, calls for anything but tensors, or holds no state_dict.
    """
    with open(path, "rb") as file:
        try:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except ValueError:
            raise ConversionError(f"{path} is empty.") from None
        try:
            content, elements = (_open_zip if zipfile.is_zipfile(file) else _open_legacy)(file, data)
            return {name: tensor.on(elements(tensor.storage)) for name, tensor in _state_dict(content).items()}
        except _Refused as refusal:
            raise ConversionError(f"{path}: {refusal}.") from None
        except _NONSENSE as error:
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            raise ConversionError(f"{path} is damaged, or no file of PyTorch's: {reason}.") from error


class _Refused(Exception):
    """Something in the file that is not part of a tensor's description."""


# what Python's unpickler and zipfile raise for a file that makes no sense
_NONSENSE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    NotImplementedError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    MemoryError,
    ArithmeticError,
    RecursionError,
)


@dataclass(frozen=True)
class _StorageType:
    dtype: np.dtype


@dataclass(frozen=True)
class _Storage:
    """A storage as the pickle describes it; in the legacy format its bytes follow after the pickle."""

    key: str
    dtype: np.dtype
    numel: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage, in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def on(self, elements: np.ndarray) -> np.ndarray:
        """The array, if it lies within the storage and is not larger than that."""
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        count = int(np.prod(self.shape, dtype=object)) if self.shape else 1
        if count == 0:
            return np.zeros(self.shape, elements.dtype)
        if last >= elements.size or count > elements.size:
            raise _Refused(
                f"a tensor of shape {self.shape}, strides {self.strides} and offset {self.offset} does not fit into "
                f"its storage of {elements.size} elements"
            )
        strides = tuple(stride * elements.itemsize for stride in self.strides)
        return np.lib.stride_tricks.as_strided(elements[self.offset :], self.shape, strides, writeable=False)


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    """torch._utils._rebuild_tensor and _v2; their further arguments (requires_grad, hooks) say nothing of numbers."""
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or len(shape) != len(strides) or len(shape) > 16:
        raise _Refused("a tensor is described in a way that PyTorch does not write")
    if any(type(number) is not int or number < 0 for number in numbers):
        raise _Refused(f"a tensor has shape {shape}, strides {strides} and offset {offset}")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    """torch._utils._rebuild_parameter: the tensor."""
    return tensor


def _size(values: Any = ()) -> tuple[Any, ...]:
    """torch.Size."""
    return tuple(values)


_Elements = Callable[[_Storage], np.ndarray]

CALLABLE: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): _size,
}


class _Unpickler(pickle.Unpickler):
    """Python's, with the names of `CALLABLE` and the storage types as all there is; it notes the storages."""

    def __init__(self, stream: BinaryIO):
        super().__init__(stream, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in CALLABLE:
            return CALLABLE[module, name]
        if module == "torch" and name in STORAGES:
            return _StorageType(np.dtype(STORAGES[name]))
        raise _Refused(f"it asks for {module}.{name}, which no tensor needs; nothing of it was run")

    def persistent_load(self, pid: Any) -> _Storage:
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[1], _StorageType)):
            raise _Refused(f"it refers to {_short(pid)}, which is no storage")
        _, kind, key, _, numel, *view = pid
        if not isinstance(key, str) or type(numel) is not int or numel < 0:
            raise _Refused(f"a storage is called {_short(key)} and has {_short(numel)} elements")
        if view and view[0] is not None:
            raise _Refused("it holds views of storages, which PyTorch has not written since 0.4")
        storage = _Storage(key, kind.dtype, numel)
        if self.storages.setdefault(key, storage) != storage:
            raise _Refused(f"storage {_short(key)} is described in two ways")
        return storage


def _unpickle(stream: BinaryIO) -> tuple[Any, dict[str, _Storage]]:
    """The next pickle of a stream, and the storages that it names.

    Its instructions are looked at first: PyTorch's only, and no place in the unpickler's memory beyond the number of
    the pickle's bytes, which would make it take any amount.
    """
    start = stream.tell()
    for opcode, argument, position in pickletools.genops(stream):
        read = (position or 0) - start
        if opcode.name in FORBIDDEN_OPCODES:
            raise _Refused(f"its pickle has the instruction {opcode.name}, which PyTorch does not write")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > read:
            raise _Refused("its pickle numbers more objects than it has")
        if read > MAX_PICKLE:
            raise _Refused(f"its pickle has more than {MAX_PICKLE} bytes")
    stream.seek(start)
    unpickler = _Unpickler(stream)
    return unpickler.load(), unpickler.storages


def _open_zip(file: BinaryIO, data: memoryview) -> tuple[Any, _Elements]:
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        if len(entries) != len(archive.infolist()):
            raise _Refused("two of its entries have one name")
    roots = [name.removesuffix("data.pkl") for name in entries if name.rpartition("/")[2] == "data.pkl"]
    if len(roots) != 1:
        raise _Refused(f"it is a zip file with {len(roots)} entries named data.pkl; PyTorch writes one")
    order = entries.get(f"{roots[0]}byteorder")
    if order is not None and bytes(_stored(data, order)) != b"little":
        raise _Refused("its numbers are big-endian")
    content, _ = _unpickle(io.BytesIO(_stored(data, entries[f"{roots[0]}data.pkl"])))

    def elements(storage: _Storage) -> np.ndarray:
        entry = entries.get(f"{roots[0]}data/{storage.key}")
        if entry is None:
            raise _Refused(f"storage {storage.key!r} is missing")
        return _numbers(storage, _stored(data, entry))

    return content, elements


def _stored(data: memoryview, entry: zipfile.ZipInfo) -> memoryview:
    """An entry's bytes in the mapped file; PyTorch does not compress."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size or entry.flag_bits & 1:
        raise _Refused(f"{entry.filename} is compressed or encrypted, which PyTorch does not do")
    header = bytes(data[entry.header_offset : entry.header_offset + 30])
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise _Refused(f"{entry.filename} is not where the zip file's directory says")
    names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    start = entry.header_offset + 30 + names
    if start + entry.file_size > len(data):
        raise _Refused(f"{entry.filename} is cut off")
    return data[start : start + entry.file_size]


def _open_legacy(file: BinaryIO, data: memoryview) -> tuple[Any, _Elements]:
    file.seek(0)
    (magic, _), (protocol, _), (system, _) = (_unpickle(file) for _ in range(3))
    if (magic, protocol) != (LEGACY_MAGIC, LEGACY_PROTOCOL) or not isinstance(system, dict):
        raise _Refused("it does not begin as PyTorch's files do")
    if not system.get("little_endian", True):
        raise _Refused("its numbers are big-endian")
    content, storages = _unpickle(file)
    keys, _ = _unpickle(file)
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
        raise _Refused("the storages that follow are not those that its tensors lie in")
    found, position = {}, file.tell()
    for key in keys:
        storage = storages[key]
        start, position = position + 8, position + 8 + storage.numel * storage.dtype.itemsize
        if int.from_bytes(data[start - 8 : start], "little", signed=True) != storage.numel:
            raise _Refused(f"storage {key!r} does not have {storage.numel} elements")
        found[key] = _numbers(storage, data[start:position])
    return content, lambda storage: found[storage.key]


def _numbers(storage: _Storage, stored: memoryview) -> np.ndarray:
    if len(stored) != storage.numel * storage.dtype.itemsize:
        expected = f"{storage.numel} numbers of {storage.dtype}"
        raise _Refused(f"storage {storage.key!r} has {len(stored)} bytes, which are not {expected}")
    return np.frombuffer(stored, storage.dtype)


def _state_dict(content: Any) -> dict[str, _Tensor]:
    found = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(found, dict) or not found:
        raise _Refused(f"it holds {_short(type(found).__name__)} where a state_dict was expected")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise _Refused(f"it is no state_dict: {_short(name)} is of type {type(value).__name__.strip('_')}")
    return found


def _short(value: Any) -> str:
    return repr(value)[:80]
