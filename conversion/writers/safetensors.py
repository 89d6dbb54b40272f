"""Writes tensors as a `.safetensors` file, without its library, which would change their order."""

import json
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from mpncov_zoo.complete import complete
from mpncov_zoo.errors import ConversionError

TYPES = {
    np.dtype(np.float64): "F64",
    np.dtype(np.float32): "F32",
    np.dtype(np.float16): "F16",
    np.dtype(ml_dtypes.bfloat16): "BF16",
    np.dtype(np.int64): "I64",
    np.dtype(np.int32): "I32",
    np.dtype(np.int16): "I16",
    np.dtype(np.int8): "I8",
    np.dtype(np.uint8): "U8",
    np.dtype(np.bool_): "BOOL",
}
METADATA = "__metadata__"


def write_safetensors(tensors: Mapping[str, np.ndarray], path: Path) -> None:
    """Write tensors under their names, in their order.

    Args:
        tensors: what the file is to hold, with the names and layouts of PyTorch; the file says that they are.
        path: the file, which appears complete or not at all.

    Raises:
        ConversionError: the format has no type for an array, or keeps the array's name for itself.
    """
    header = json.dumps(_header(tensors)).encode()
    header += b" " * (-len(header) % 8)
    with complete(path) as partial, open(partial, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for array in tensors.values():
            file.write(np.ascontiguousarray(array).tobytes())


def _header(tensors: Mapping[str, np.ndarray]) -> dict[str, object]:
    header: dict[str, object] = {METADATA: {"format": "pt"}}
    end = 0
    for name, array in tensors.items():
        if array.dtype not in TYPES or name == METADATA:
            raise ConversionError(f".safetensors files cannot hold {name!r} of {array.dtype}.")
        start, end = end, end + array.nbytes
        header[name] = {"dtype": TYPES[array.dtype], "shape": list(array.shape), "data_offsets": [start, end]}
    return header
