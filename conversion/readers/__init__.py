"""Reads checkpoint files without the libraries that wrote them. Nothing in a file is run or trusted."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from conversion.readers.hdf5 import read_h5
from conversion.readers.matlab import read_matlab
from conversion.readers.pickles import PROTOCOLS
from conversion.readers.pytorch import ZIP_MAGIC, read_pth
from conversion.readers.reading import StoredTensors, short
from conversion.readers.safetensors import read_safetensors
from mpncov_zoo.errors import ConversionError

__all__ = ["FORMATS", "StoredTensors", "read_checkpoint"]

Reader = Callable[[Path, str | None], StoredTensors]


@dataclass(frozen=True)
class _Format:
    """A format, known by the bytes that its files have at an offset near their beginning."""

    name: str
    offset: int
    magic: bytes
    read: Reader


def _without_keys(name: str, read: Callable[[Path], dict[str, np.ndarray] | StoredTensors]) -> Reader:
    """The reader of a format whose files hold one list of tensors, or one network, and nothing else."""

    def read_all(path: Path, key: str | None) -> StoredTensors:
        if key is not None:
            raise ConversionError(
                f"{path}: only PyTorch's files hold tensors under a key, and this is of the format {name}. Leave out "
                f"the key {short(key)}."
            )
        content = read(path)
        return content if isinstance(content, StoredTensors) else StoredTensors(content)

    return read_all


FORMATS = (
    _Format("PyTorch zip", 0, ZIP_MAGIC, read_pth),
    _Format("MATLAB", 0, b"MATLAB ", _without_keys("MATLAB", read_matlab)),
    _Format("HDF5", 0, b"\x89HDF\r\n\x1a\n", _without_keys("HDF5", read_h5)),
    _Format(
        "safetensors", 4, b"\0\0\0\0{", _without_keys("safetensors", read_safetensors)
    ),  # before it four bytes, of any value: a header's length
    *(_Format("PyTorch legacy", 0, bytes((0x80, protocol)), read_pth) for protocol in PROTOCOLS),
)


def read_checkpoint(path: Path, key: str | None = None) -> StoredTensors:
    """Read the tensors of a checkpoint. Its first bytes tell the format; the name of the file does not matter.

    Args:
        path: the file; nothing in it is trusted.
        key: where in a PyTorch file the state_dict is, with dots; None where the file has only one.

    Raises:
        ConversionError: there is no such file, its format is not known, or it is damaged, empty or hostile; or it has
            no such key, or several state_dicts, and no key says which.
    """
    kind = known_format(path)
    content = kind.read(path, key)
    if not content.tensors:
        raise ConversionError(f"{path} holds no tensors.")
    return replace(content, format=kind.name)


def known_format(path: Path) -> _Format:
    """The format that a file's first bytes tell.

    Raises:
        ConversionError: there is no such file, it is empty, or its format is not known.
    """
    try:
        if path.exists() and not path.is_file():
            raise ConversionError(f"{path} is no file.")
        with open(path, "rb") as file:
            head = file.read(64)
    except OSError as error:
        raise ConversionError(f"{path} cannot be read: {error.strerror}.") from None
    for kind in FORMATS:
        if head[kind.offset :].startswith(kind.magic):
            return kind
    names = ", ".join(dict.fromkeys(kind.name for kind in FORMATS))
    raise ConversionError(f"{path} is of no known format; allowed are {names}." if head else f"{path} is empty.")
