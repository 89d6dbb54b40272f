"""Reads PyTorch's pickles without running them: Python's unpickler may call only what tensors are made of.

A pickle is a program. Its instructions are looked at before the first is executed: only those that PyTorch writes are
known. None of them reaches an object's attributes, and only texts and numbers are keys, for Python hashes tuples within
tuples without a limit, which ends the process. What takes three bytes to call again, with the same arguments, must not
copy much: memory and time stay in proportion to the pickle's length.
"""

import io
import pickle
import pickletools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from conversion.readers.reading import Refused, short

MAX_PICKLE = 2 * 2**20  # bytes of instructions; a network of a thousand layers needs one MiB
MAX_VALUES = 16  # of a call's arguments, and of a tensor's dimensions
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
_OPCODES_OF_PROTOCOL_2 = """
    PROTO STOP MARK GLOBAL NEWOBJ REDUCE BUILD BINPERSID NONE NEWTRUE NEWFALSE
    BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE BINSTRING SHORT_BINSTRING
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS
    BINPUT LONG_BINPUT BINGET LONG_BINGET
"""
OPCODES = frozenset(_OPCODES_OF_PROTOCOL_2.split())


@dataclass(frozen=True)
class Storage:
    """A storage as the pickle describes it; in the legacy format its bytes follow after the pickle."""

    key: str
    dtype: np.dtype
    numel: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage, in elements; none of the numbers is negative."""

    storage: Storage
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
            raise Refused(
                f"a tensor of shape {self.shape}, strides {self.strides} and offset {self.offset} does not fit into "
                f"its storage of {elements.size} elements"
            )
        strides = tuple(stride * elements.itemsize for stride in self.strides)
        return np.lib.stride_tricks.as_strided(elements[self.offset :], self.shape, strides, writeable=False)


@dataclass(frozen=True)
class _StorageType:
    dtype: np.dtype


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    """Stands for torch._utils._rebuild_tensor and _v2, whose further arguments do not change the numbers."""
    plain = isinstance(storage, Storage) and isinstance(shape, tuple) and isinstance(strides, tuple)
    numbers = [offset, *shape, *strides] if plain and len(shape) == len(strides) <= MAX_VALUES else []
    if not numbers or not all(type(number) is int for number in numbers):
        raise Refused("a tensor is described in a way that PyTorch does not write")
    if min(numbers) < 0:
        raise Refused(f"a tensor has shape {shape}, strides {strides} and offset {offset}")
    return Tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    """Stands for torch._utils._rebuild_parameter, and gives the tensor."""
    return tensor


def _size(values: Any = ()) -> tuple[Any, ...]:
    """Stands for torch.Size."""
    if not isinstance(values, tuple | list) or len(values) > MAX_VALUES:
        raise Refused(f"a shape in it is {short(values)}, or of more than {MAX_VALUES} numbers")
    return tuple(values)


CALLABLE: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): _size,
}


class _Unpickler(pickle._Unpickler):  # the one in Python, whose instructions can be replaced
    """Python's unpickler, which knows the names in `CALLABLE`, OrderedDict and the storage types, and notes storages.

    Its `room` is the number of pairs that may still be copied into dictionaries.
    """

    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, stream: BinaryIO, room: int):
        super().__init__(stream, encoding="utf-8")
        self.storages: dict[str, Storage] = {}
        self.room = room

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return self.ordered_dict
        if (module, name) in CALLABLE:
            return CALLABLE[module, name]
        if module == "torch" and name in STORAGES:
            return _StorageType(np.dtype(STORAGES[name]))
        raise Refused(
            f"it asks for {short(f'{module}.{name}')}, which no tensor needs; nothing of it was run "
            "(of a training checkpoint, save model.state_dict() alone)"
        )

    def ordered_dict(self, pairs: Sequence[tuple[Any, Any]] = ()) -> dict[Any, Any]:
        """collections.OrderedDict; Python 2 wrote its pairs as an argument."""
        self.room -= len(pairs)
        if self.room < 0:
            raise Refused("it copies more into dictionaries than it holds")
        return dict([(_key(name), value) for name, value in pairs])

    def persistent_load(self, pid: Any) -> Storage:
        described = isinstance(pid, tuple) and 5 <= len(pid) <= 6
        if not (described and pid[0] == "storage" and isinstance(pid[1], _StorageType)):
            raise Refused(f"it refers to {short(pid)}, which is no storage")
        _, kind, key, _, numel, *view = pid
        if not isinstance(key, str) or type(numel) is not int or numel < 0:
            raise Refused(f"a storage is called {short(key)} and has {short(numel)} elements")
        if view and view[0] is not None:
            raise Refused("it holds views of storages, which PyTorch has not written since 0.4")
        storage = Storage(key, kind.dtype, numel)
        first = self.storages.setdefault(key, storage)
        if first != storage:
            raise Refused(f"storage {short(key)} is described in two ways")
        return first


def _key(value: Any) -> Any:
    if not isinstance(value, str | bytes | int | float | None):
        raise Refused(f"a dictionary in it has {short(value)} as a key")
    return value


def _skip_attributes(unpickler: Any) -> None:
    """BUILD: what it sets on an object is no tensor, such as the versions of modules on a state_dict."""
    unpickler.stack.pop()


def _refuse_object(unpickler: Any) -> None:
    """NEWOBJ, of which PyTorch's files have none once the names are known."""
    raise Refused("it makes an object that is no tensor")


def _call(unpickler: Any) -> None:
    """REDUCE, with few arguments: Python copies those beyond the ones that a function names."""
    arguments = unpickler.stack[-1]
    if not isinstance(arguments, tuple) or len(arguments) > MAX_VALUES:
        raise Refused(f"it calls something with {short(arguments)}, or more than {MAX_VALUES} values")
    pickle._Unpickler.dispatch[pickle.REDUCE[0]](unpickler)


def _with_plain_keys(instruction: Callable[[Any], None], keys: slice) -> Callable[[Any], None]:
    def checked(unpickler: Any) -> None:
        for key in unpickler.stack[keys]:
            _key(key)
        instruction(unpickler)

    return checked


_Unpickler.dispatch[pickle.BUILD[0]] = _skip_attributes
_Unpickler.dispatch[pickle.NEWOBJ[0]] = _refuse_object
_Unpickler.dispatch[pickle.REDUCE[0]] = _call
for _opcode, _keys in ((pickle.SETITEM[0], slice(-2, -1)), (pickle.SETITEMS[0], slice(0, None, 2))):
    _Unpickler.dispatch[_opcode] = _with_plain_keys(_Unpickler.dispatch[_opcode], _keys)


def unpickle(stream: BinaryIO) -> tuple[Any, dict[str, Storage]]:
    """Read the next pickle of a stream, and note the storages that it names.

    Raises:
        Refused: it has an instruction, name or size that PyTorch does not write.
    """
    start, length = stream.tell(), 0
    head = io.BytesIO(stream.read(MAX_PICKLE))  # no more, whatever its instructions say of lengths
    try:
        for opcode, _, position in pickletools.genops(head):
            length = position or 0
            if opcode.name not in OPCODES:
                raise Refused(f"its pickle has the instruction {opcode.name}, which PyTorch does not write")
    except ValueError:
        if len(head.getbuffer()) == MAX_PICKLE:
            raise Refused(f"its pickle has more than {MAX_PICKLE} bytes") from None
        raise
    head.seek(0)
    unpickler = _Unpickler(head, room=length)
    content = unpickler.load()
    stream.seek(start + head.tell())
    return content, unpickler.storages
