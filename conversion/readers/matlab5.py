"""The variables of a file of MATLAB's format 5, compressed or not, as values: structs and cells, too."""

import math
import struct
import zlib
from dataclasses import replace

import numpy as np

from conversion.readers.mat import (
    CELL,
    COMPRESSED,
    FLAGS,
    HEADER,
    INT32,
    MATRIX,
    MAX_EXPANSION,
    NUMBERS,
    OPAQUE,
    OTHERS,
    STRUCT,
    TEXT,
    Matrix,
    element,
    elements,
    matrix_of,
    unpacked,
)
from conversion.readers.matlab_values import DEEPEST, Cells, Records, Room, Unread, Value
from conversion.readers.reading import Refused

PEEK = 512  # bytes: a variable's flags, shape and name
LETTERS = {1: "latin-1", 2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le", 18: "utf-32-le"}
COMPLEX = 8
EMPTY = np.zeros((0, 0))
EMPTY.flags.writeable = False


def names(data: memoryview) -> dict[str, str]:
    """The names of a file's variables, and of what class each is if it is an object; little of them is unpacked.

    A variable that is damaged where its name stands has none here.
    """
    found = {}
    for kind, content in elements(data, HEADER):
        start = content[:PEEK]
        try:
            if kind == COMPRESSED:
                start = memoryview(zlib.decompressobj().decompress(content, PEEK))[8:]
            matrix = matrix_of(MATRIX, start, "a variable")
            if matrix.kind == OPAQUE:
                name, _, object_class = _opaque(matrix)
                found[name] = object_class
            else:
                found[matrix.parts()[1]] = ""
        except (Refused, struct.error, zlib.error):
            continue
    return found


def values(data: memoryview) -> dict[str, Value]:
    """Every variable of a file.

    Raises:
        Refused: it is damaged, or more than one has the same name.
    """
    room, found = Room(MAX_EXPANSION * len(data)), {}
    for kind, content in elements(data, HEADER):
        if kind == COMPRESSED:
            kind, content = MATRIX, unpacked(content, room.left)
            room.take(len(content), "a variable")
        matrix = matrix_of(kind, content, "a variable")
        name = _opaque(matrix)[0] if matrix.kind == OPAQUE else matrix.parts()[1]
        if name in found:
            raise Refused(f"it has more than one variable {name!r}")
        found[name] = _value(replace(matrix, name=name), room, 0)
    return found


def _value(matrix: Matrix, room: Room, depth: int) -> Value:
    if depth > DEEPEST:
        raise Refused(f"{matrix.name} lies within more than {DEEPEST} structs and cells")
    if matrix.kind == CELL:
        shape, _, content = matrix.parts()
        inner = _matrices(content, matrix.name, math.prod(shape), room)
        return Cells(tuple(_inner(one, room, depth + 1) for one in inner))
    if matrix.kind == STRUCT:
        return _records(matrix, room, depth)
    if matrix.kind == TEXT:
        return _text(matrix, room)
    if matrix.kind in NUMBERS and not matrix.flags & COMPLEX:
        array = replace(matrix, flags=matrix.flags & ~sum(FLAGS)).array(room.left)  # logical ones, too
        room.take(array.nbytes, matrix.name)
        array.flags.writeable = False
        return array
    return Unread("complex" if matrix.kind in NUMBERS else OTHERS.get(matrix.kind, f"of the class {matrix.kind}"))


def _inner(matrix: Matrix | None, room: Room, depth: int) -> Value:
    return EMPTY if matrix is None else _value(matrix, room, depth)


def _matrices(content: memoryview, name: str, count: int, room: Room) -> list[Matrix | None]:
    """The matrices within another; None for what is written in no bytes at all, an empty array."""
    found: list[Matrix | None] = []
    for kind, own in elements(content, 0):
        room.enter(name)
        found.append(None if kind == MATRIX and not len(own) else matrix_of(kind, own, name))
    if len(found) != count:
        raise Refused(f"{name} has {len(found)} values, not {count}")
    return found


def _records(matrix: Matrix, room: Room, depth: int) -> Records:
    shape, _, content = matrix.parts()
    kind, length, position = element(content, 0)
    if kind != INT32 or len(length) != 4:
        raise Refused(f"{matrix.name} does not begin as a struct does")
    (width,) = struct.unpack("<i", length)
    _, letters, position = element(content, position)
    if not 0 < width <= PEEK or len(letters) % width:
        raise Refused(f"{matrix.name} has names of {width} letters in {len(letters)}")
    fields = [bytes(letters[at : at + width]).split(b"\0")[0].decode("latin-1") for at in range(0, len(letters), width)]
    if len({*fields}) < len(fields):
        raise Refused(f"{matrix.name} has a field twice")
    count = math.prod(shape)
    inner = _matrices(content[position:], matrix.name, count * len(fields), room)
    if not fields and count > 1:
        raise Refused(f"{matrix.name} has {count} structs without a field")
    return Records(
        tuple(
            {
                name: _inner(one, room, depth + 1)
                for name, one in zip(fields, inner[at * len(fields) : (at + 1) * len(fields)], strict=True)
            }
            for at in range(count)
        )
    )


def _text(matrix: Matrix, room: Room) -> Value:
    shape, _, content = matrix.parts()
    if not math.prod(shape):
        return ""
    if shape[0] != 1 or len(shape) != 2:
        return Unread(f"text of shape {shape}")
    kind, letters, _ = element(content, 0)
    if kind not in LETTERS:
        raise Refused(f"{matrix.name} is text of kind {kind}")
    room.take(len(letters), matrix.name)
    return bytes(letters).decode(LETTERS[kind], "replace")


def _opaque(matrix: Matrix) -> tuple[str, str, str]:
    """Name, system and class of an object, of which the file holds the number alone."""
    position, parts = 0, []
    for _ in range(3):
        _, letters, position = element(matrix.rest, position)
        parts.append(bytes(letters).decode("latin-1"))
    return parts[0], parts[1], parts[2]
