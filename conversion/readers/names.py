"""What a pickle may name: what tensors are made of, and what is passed over. Everything else is refused, with advice.

A name becomes a function of this module or an `Unread`, never the object that Python knows under it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from conversion.readers.reading import Refused, short

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
class OtherTensor:
    """A tensor whose numbers are not read; `reason` goes on from its name."""

    reason: str


@dataclass(frozen=True)
class StorageType:
    """What a pickle names a storage's type by."""

    dtype: np.dtype


class Unneeded(Refused):
    """A pickle holds what no weights need, and what is not passed over."""


class Unread:
    """Stands for a class whose objects hold no weights, for these objects, and for all that is done with them.

    Nothing is kept of them. `name` says in messages what it was.
    """

    def __init__(self, name: str):
        self.name = name

    def __call__(self, *_: Any) -> "Unread":
        return self

    def __setitem__(self, *_: Any) -> None:
        """An item of a kind of dictionary."""

    def append(self, _: Any) -> None:
        """One of them."""

    def extend(self, _: Sequence[Any]) -> None:
        """Items of a kind of list, or of a set."""


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor | OtherTensor:
    """Stands for torch._utils._rebuild_tensor and _v2, whose further arguments do not change the numbers."""
    plain = isinstance(storage, Storage) and isinstance(shape, tuple) and isinstance(strides, tuple)
    numbers = [offset, *shape, *strides] if plain and len(shape) == len(strides) <= MAX_VALUES else []
    if not numbers or not all(type(number) is int for number in numbers):
        raise Refused("a tensor is described in a way that PyTorch does not write")
    if min(numbers) < 0:
        raise Refused(f"a tensor has shape {shape}, strides {strides} and offset {offset}")
    if storage.dtype.kind == "V" and storage.dtype != ml_dtypes.bfloat16:
        return OtherTensor("is of complex numbers, or of raw bytes, which no network of the zoo has")
    return Tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    """Stands for torch._utils._rebuild_parameter, and gives the tensor."""
    return tensor


def _size(values: Any = ()) -> tuple[Any, ...]:
    """Stands for torch.Size."""
    if not isinstance(values, tuple | list) or len(values) > MAX_VALUES:
        raise Refused(f"a shape in it is {short(values)}, or of more than {MAX_VALUES} numbers")
    return tuple(values)


def _default_dict(*_: Any) -> dict[Any, Any]:
    """Stands for collections.defaultdict, without its default."""
    return {}


def _rebuild_typed_tensor(*arguments: Any) -> OtherTensor:
    """Stands for torch._utils._rebuild_tensor_v3, which PyTorch writes for the types that it has no storages of."""
    kind = arguments[6].name if len(arguments) > 6 and isinstance(arguments[6], Unread) else "another type than numbers"
    return OtherTensor(f"is of {kind}, which is not read. {CONVERT}")


def _rebuild_other_tensor(*_: Any) -> OtherTensor:
    return OtherTensor(f"is quantised, sparse, or of another kind than plain numbers. {CONVERT_OTHER}")


CONVERT = (
    "In PyTorch, where state is this state_dict, convert and save it: "
    "torch.save({k: v.float() for k, v in state.items()}, 'w.pth')"
)
CONVERT_OTHER = (
    "In PyTorch, where state is this state_dict, convert and save it: torch.save({k: (v.dequantize() if v.is_quantized "
    "else v.to_dense()).float() for k, v in state.items()}, 'w.pth')"
)

CALLABLE: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_typed_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
    ("torch._utils", "_rebuild_qtensor"): _rebuild_other_tensor,
    ("torch._utils", "_rebuild_sparse_tensor"): _rebuild_other_tensor,
    ("torch._utils", "_rebuild_nested_tensor"): _rebuild_other_tensor,
    ("torch._utils", "_rebuild_meta_tensor_no_storage"): _rebuild_other_tensor,
    ("torch._utils", "_rebuild_wrapper_subclass"): _rebuild_other_tensor,
    ("torch._tensor", "_rebuild_from_type_v2"): _rebuild_other_tensor,
    ("torch", "Size"): _size,
    ("collections", "defaultdict"): _default_dict,
}
BUILTINS = ("builtins", "__builtin__")  # the second is what protocol 2 calls them
PATHLIB = ("pathlib", "pathlib._local")  # the second is Python 3.13's
UNREAD = frozenset(
    {
        ("argparse", "Namespace"),
        ("types", "SimpleNamespace"),
        ("_codecs", "encode"),  # how protocol 2 writes bytes
        *((module, name) for module in BUILTINS for name in ("set", "frozenset", "bytearray", "complex", "slice")),
        *((module, name) for module in BUILTINS for name in ("list", "dict", "int", "float", "str", "bool", "tuple")),
        ("collections", "Counter"),
        *(("datetime", name) for name in ("date", "datetime", "time", "timedelta", "timezone")),
        *((module, f"{kind}Path") for module in PATHLIB for kind in ("", "Posix", "Windows")),
        *((module, f"Pure{kind}Path") for module in PATHLIB for kind in ("", "Posix", "Windows")),
        *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
        *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("torch", "device"),
        ("torch.serialization", "_get_layout"),
        *((f"{package}.utilities.parsing", "AttributeDict") for package in ("pytorch_lightning", "lightning.pytorch")),
        *((f"{package}.utilities.data", "AttributeDict") for package in ("lightning_fabric", "lightning.fabric")),
    }
)
NUMBERS = re.compile(r"b?float[0-9]+(_\w+)?|complex[0-9]+|u?int[0-9]+|bool|qu?int[0-9x]+|per_(tensor|channel)_\w+")
OTHER_STORAGES = {  # bytes of a number
    **{"ComplexFloatStorage": 8, "ComplexDoubleStorage": 16},
    **{"QInt8Storage": 1, "QUInt8Storage": 1, "QInt32Storage": 4, "QUInt4x2Storage": 1, "QUInt2x4Storage": 1},
    "UntypedStorage": 1,
}


def meaning(module: str, name: str) -> Any:
    """What stands here for a name in a pickle.

    Raises:
        Unneeded: no tensor needs the name.
    """
    if (module, name) in CALLABLE:
        return CALLABLE[module, name]
    if module == "torch" and name in STORAGES:
        return StorageType(np.dtype(STORAGES[name]))
    if module in ("torch", "torch.storage") and name in OTHER_STORAGES:
        return StorageType(np.dtype(f"V{OTHER_STORAGES[name]}"))
    if (module, name) in UNREAD or (module == "torch" and NUMBERS.fullmatch(name)):
        return Unread(f"{module}.{name}")
    raise Unneeded(f"it asks for {short(f'{module}.{name}')}, which no tensor needs; nothing of it was run")
