"""Reads Hugging Face's `.safetensors` files with their library. Nothing in the format can be run."""

from pathlib import Path

import numpy as np

from conversion.readers.reading import Refused, optional, reading, short

TYPES = frozenset({"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"})


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors by name, in the order in which their numbers are stored.

    Args:
        path: the file; nothing in it is trusted.

    Returns:
        Read-only arrays in the types of the file.

    Raises:
        ConversionError: the file has another format, is damaged, or holds a type that NumPy has not; or the package
            safetensors is not installed.
    """
    library = optional("safetensors", "Reading .safetensors files")
    with reading(path, "safetensors", library.SafetensorError), library.safe_open(path, framework="np") as file:
        arrays = {}
        for name in file.offset_keys():
            kind = file.get_slice(name).get_dtype()
            if kind not in TYPES:
                raise Refused(
                    f"{short(name)} is of type {kind}; allowed are {', '.join(sorted(TYPES))}. Convert the numbers and "
                    "save them: from safetensors.torch import load_file, save_file; "
                    "save_file({k: v.float() for k, v in load_file(FILE).items()}, 'w.safetensors')"
                )
            arrays[name] = file.get_tensor(name)
            arrays[name].flags.writeable = False
        return arrays
