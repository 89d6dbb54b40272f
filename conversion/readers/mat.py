"""Reads MATLAB's format 5, and in it the list of the published TensorFlow code: a cell array `params` of arrays.

Read with NumPy, since SciPy's reader follows cell arrays within cell arrays until the process ends, and makes room for
as many cells as a file claims to have (SciPy 1.17). What scipy.io.savemat writes is what the tests compare with.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conversion.readers.reading import Refused, mapped, reading, short

VARIABLE = "params"
MAX_EXPANSION = 20  # all that is unpacked or converted, over the file's bytes: weights, as all noise, hardly shrink
HEADER = 128  # bytes

UINT32, INT32, MATRIX, COMPRESSED = 6, 5, 14, 15  # kinds of elements
STORED = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
CELL, STRUCT, TEXT, OPAQUE = 1, 2, 4, 17  # classes of matrices
NUMBERS = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
OTHERS = {
    CELL: "a cell array",
    STRUCT: "a struct",
    3: "an object",
    TEXT: "text",
    5: "a sparse matrix",
    16: "a function",
    OPAQUE: "an object",
}
FLAGS = {8: "complex", 2: "logical"}


def read_mat(path: Path) -> dict[str, np.ndarray]:
    """Read the entries of the list `params`, in order, as `params[0]`, `params[1]` ...

    Args:
        path: the file; nothing in it is trusted.

    Returns:
        Read-only arrays of the file's own types, at least 2-D as all of MATLAB's: a vector is (1, channels).

    Raises:
        ConversionError: the file is of another format, damaged, or the list holds anything but arrays of numbers.
    """
    with reading(path, "MATLAB"):
        data = mapped(path)
        require_format_5(data)
        arrays = {}
        variable, room = _variable(data, MAX_EXPANSION * len(data))
        for entry in _entries(variable):
            arrays[entry.name] = array = entry.array(room)
            array.flags.writeable = False
            room -= array.nbytes
        return arrays


def require_format_5(data: memoryview) -> None:
    """Refuse what is not of MATLAB's format 5 with little-endian numbers."""
    header = bytes(data[:HEADER])
    if header[124:] == b"\x00\x01IM":
        return
    if header.startswith(b"MATLAB 7.3"):
        raise Refused("it is of MATLAB's format 7.3; save it again with '-v7'")
    raise Refused("its numbers are big-endian" if header[126:] == b"MI" else "it is not of MATLAB's format 5")


@dataclass(frozen=True)
class Matrix:
    """An element of kind MATRIX: its name in messages, its class and flags, and what follows these."""

    name: str
    kind: int
    flags: int
    rest: memoryview

    def parts(self) -> tuple[tuple[int, ...], str, memoryview]:
        """The shape, the variable's name, and the content."""
        kind, sizes, position = element(self.rest, 0)
        shape = tuple(np.frombuffer(sizes, "<i4").tolist())
        if kind != INT32 or not 2 <= len(shape) <= 16 or min(shape) < 0:
            raise Refused(f"{self.name} has the shape {shape}")
        _, name, position = element(self.rest, position)
        return shape, bytes(name).decode("latin-1"), self.rest[position:]

    def array(self, room: int) -> np.ndarray:
        """Its numbers, in no more than `room` bytes; integers in small types may stand for wide ones."""
        if self.kind not in NUMBERS or self.flags & sum(FLAGS):
            flags = [name for bit, name in FLAGS.items() if self.flags & bit]
            what = OTHERS.get(self.kind, f"of the unknown class {self.kind}") if self.kind not in NUMBERS else flags[0]
            raise Refused(f"{self.name} is {what}; only arrays of real numbers are weights")
        shape, _, content = self.parts()
        kind, numbers, _ = element(content, 0)
        dtype = np.dtype(NUMBERS[self.kind])
        if kind not in STORED or math.prod(shape) * dtype.itemsize > room:
            raise Refused(f"{self.name} of shape {shape} is not in the file, or unpacks to too much")
        stored = np.frombuffer(numbers, STORED[kind])
        if stored.size != math.prod(shape):
            raise Refused(f"{self.name} has {stored.size} numbers, which are not of shape {shape}")
        return stored.astype(dtype, copy=False).reshape(shape, order="F")


def _variable(data: memoryview, room: int) -> tuple[Matrix, int]:
    """`params` among the file's variables, and what these leave of the room, in bytes."""
    found, others = None, []
    for kind, content in elements(data, HEADER):
        if kind == COMPRESSED:
            kind, content = MATRIX, unpacked(content, room)
            room -= len(content)
        matrix = matrix_of(kind, content, "a variable")
        name = matrix.parts()[1] if matrix.kind != OPAQUE else ""
        if name != VARIABLE:
            others.append(short(name))
        elif found:
            raise Refused(f"it has more than one variable {VARIABLE!r}")
        else:
            found = matrix
    if not found:
        theirs = f"{', '.join(others) or 'no other either'}. MatConvNet's networks have the variable 'layers' or 'net'"
        raise Refused(f"it has no variable {VARIABLE!r}, but {theirs}")
    return found, room


def _entries(variable: Matrix) -> Iterator[Matrix]:
    """The cells of `params`."""
    shape, _, content = variable.parts()
    if variable.kind != CELL or len(shape) != 2 or shape[0] != 1:
        kind = OTHERS.get(variable.kind, "an array")
        raise Refused(f"{VARIABLE} is {kind} of shape {shape}; it should be a cell array of one row")
    cells = list(elements(content, 0))
    if len(cells) != shape[1]:
        raise Refused(f"{VARIABLE} has {len(cells)} cells, not {shape[1]}")
    for index, (kind, cell) in enumerate(cells):
        yield matrix_of(kind, cell, f"{VARIABLE}[{index}]")


def matrix_of(kind: int, content: memoryview, name: str) -> Matrix:
    """An element as a matrix; `name` is what messages call it."""
    if kind != MATRIX:
        raise Refused(f"{name} is an element of kind {kind}, which is no matrix")
    kind, flags, position = element(content, 0)
    if kind != UINT32 or len(flags) != 8:
        raise Refused(f"{name} does not begin as a matrix does")
    return Matrix(name, flags[0], flags[1], content[position:])


def unpacked(content: memoryview, room: int) -> memoryview:
    """A compressed matrix, without its tag, which says how long it is before any of it is unpacked."""
    tag = zlib.decompressobj().decompress(content, 8)
    if len(tag) < 8:
        raise Refused("it is cut off")
    kind, size = struct.unpack("<II", tag)
    if kind != MATRIX or size > room:
        most = f"all together may unpack to {MAX_EXPANSION} times the file"
        raise Refused(f"a variable of kind {kind} unpacks to {size} bytes; {most}")
    unpacking = zlib.decompressobj()
    whole = unpacking.decompress(content, len(tag) + size + 1)
    if len(whole) != len(tag) + size or not unpacking.eof:
        raise Refused(f"a variable does not unpack to the {size} bytes that it says")
    return memoryview(whole)[len(tag) :]


def elements(data: memoryview, position: int) -> Iterator[tuple[int, memoryview]]:
    """Kind and content of every element from a position on."""
    while position < len(data):
        kind, content, position = element(data, position)
        yield kind, content


def element(data: memoryview, position: int) -> tuple[int, memoryview, int]:
    """Kind and content of the element at a position, and the next position; short ones hold both in 8 bytes."""
    if position + 8 > len(data):
        raise Refused("it is cut off")
    kind, size = struct.unpack_from("<II", data, position)
    start, length = position + 8, size
    if kind >> 16:
        kind, length, start = kind & 0xFFFF, kind >> 16, position + 4
    if start + length > len(data) or (start < position + 8 and length > 4):
        raise Refused("it is cut off")
    following = max(start + length, position + 8)
    return kind, data[start : start + length], following if kind == COMPRESSED else following + -following % 8
