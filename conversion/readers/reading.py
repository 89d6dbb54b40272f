"""What all readers share: what they return, mapping a file into memory, refusing it, and a package that is missing."""

import mmap
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from mpncov_zoo.errors import ConversionError
from mpncov_zoo.specification import InputSpecification

# what Python, its libraries and h5py raise for a damaged file
NONSENSE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,  # RecursionError, too
)
KERAS_SAVE = "mpncov_zoo.artifact.write(model, DIRECTORY, tag='mine', provenance={})"  # of Keras' own files


@dataclass(frozen=True)
class Described:
    """What a file says of its network beside the tensors.

    Attributes:
        lines: what the network computes: by the name of each of its steps, the step in words.
        size: (height, width) of the images that the words are for.
        options: what the layers say of the architecture's options, by part.
        input: how images become the network's input.
        labels: names of the classes in the order of the logits; None where the file has none.
        notes: what a reader of the certificate must know, in sentences.
    """

    lines: Mapping[str, str]
    size: tuple[int, int]
    options: Mapping[str, Mapping[str, Any]]
    input: InputSpecification
    labels: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoredTensors:
    """The tensors of a file.

    Attributes:
        tensors: read-only arrays by name, in the order, types and layouts of the file.
        key: where in the file they are, with dots; None where they are all that it holds.
        others: the names beside them, of values that are no tensors.
        passed_over: what lies under other keys and is no network by itself, such as "'head' (2 tensors)".
        format: name of the file's format, one of `conversion.readers.FORMATS`.
        network: what the file says of the network, where it describes one.
    """

    tensors: dict[str, np.ndarray]
    key: str | None = None
    others: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    format: str = ""
    network: Described | None = None


class Refused(Exception):
    """A file holds something that does not describe a tensor; the message says what."""


@contextmanager
def reading(path: Path, kind: str, *also: type[Exception]) -> Iterator[None]:
    """Report whatever goes wrong within this context as one line that names the file.

    Args:
        path: the file.
        kind: what the file should be, for example "PyTorch".
        also: further exceptions that a library raises for a damaged file.

    Raises:
        ConversionError: the file is hostile or damaged, or needs more memory than there is.
    """
    try:
        yield
    except Refused as refusal:
        raise ConversionError(f"{path}: {refusal}.") from None
    except MemoryError as error:
        raise ConversionError(f"{path} needs more memory than there is.") from error
    except (*NONSENSE, *also) as error:
        raise ConversionError(f"{path} is damaged, or no {kind} file: {reason(error)}.") from error


def reason(error: Exception) -> str:
    """The first line of a message, without its full stop."""
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


def mapped(path: Path) -> memoryview:
    """The bytes of a file, read-only. They take no memory until they are looked at."""
    with open(path, "rb") as file:
        if not path.stat().st_size:
            raise Refused("it is empty")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def release(array: np.ndarray) -> None:
    """Free the memory of the mapped file that holds an array; who looks at the array again, reads the file again."""
    owner: Any = array
    while owner is not None and not isinstance(owner, mmap.mmap):
        owner = owner.obj if isinstance(owner, memoryview) else getattr(owner, "base", None)
    if owner is not None and hasattr(mmap, "MADV_DONTNEED"):  # not everywhere
        owner.madvise(mmap.MADV_DONTNEED)


def short(value: Any) -> str:
    """A value for a message. Of a container it is the type alone: a file of a few bytes can hold an endless one."""
    plain = isinstance(value, str | bytes | int | float | bool | None)
    return repr(value)[:80] if plain else f"a {type(value).__name__.strip('_')}"


def optional(package: str, purpose: str) -> Any:
    """Import a package of the extra [conversion].

    Raises:
        ConversionError: the package is not installed.
    """
    try:
        return import_module(package)
    except ImportError:
        needs = f'{purpose} needs {package}: pip install {package}, or all of "mpncov-zoo[conversion]"'
        raise ConversionError(f"{needs}.") from None
