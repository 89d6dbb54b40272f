"""What variables of MATLAB hold, whichever format they were read from: numbers, texts, cells and structs.

Whatever else there is (objects, functions, sparse and complex numbers) is named, and not read.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from conversion.readers.reading import Refused, short

DEEPEST = 16  # structs and cells within each other; a network has 7
MOST = 100_000  # values; those without content take no room of the file's bytes


@dataclass(frozen=True)
class Cells:
    """A cell array, in MATLAB's order, by columns."""

    items: "tuple[Value, ...]"


@dataclass(frozen=True)
class Records:
    """A struct array: each of its structs by the names of the fields."""

    items: "tuple[Mapping[str, Value], ...]"


@dataclass(frozen=True)
class Unread:
    """A value that is not read; `what` says in messages what it is."""

    what: str


Value = np.ndarray | str | Cells | Records | Unread


@dataclass
class Room:
    """How much more may be unpacked or converted of a file, in bytes, and how many more values it may hold."""

    left: int
    values: int = MOST

    def take(self, size: int, name: str) -> None:
        """Use some of it.

        Raises:
            Refused: there is not so much left.
        """
        if size > self.left:
            raise Refused(f"{name} unpacks to too much")
        self.left -= size

    def enter(self, name: str) -> None:
        """Go into one more value.

        Raises:
            Refused: there are too many.
        """
        self.values -= 1
        if self.values < 0:
            raise Refused(f"{name} is of more than {MOST} values")


@dataclass(frozen=True)
class Struct:
    """One struct, whose fields are asked for by name and kind, and where it lies in the file.

    A field that is missing or of another kind is refused in one line.
    """

    values: Mapping[str, Value] = field(default_factory=dict)
    where: str = "the file"

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def text(self, name: str, default: str | None = None) -> str:
        """A text."""
        return self._of(name, str, "text", default)

    def cells(self, name: str) -> tuple[Value, ...]:
        """The values of a cell array; an empty array of numbers is an empty one."""
        value = self._value(name, None)
        if isinstance(value, np.ndarray) and not value.size:
            return ()
        return self._of(name, Cells, "a cell array").items

    def texts(self, name: str) -> tuple[str, ...]:
        """The texts of a cell array; a text alone is one of them."""
        value = self._value(name, None)
        items = (value,) if isinstance(value, str) and value else self.cells(name) if value != "" else ()
        if not all(isinstance(item, str) for item in items):
            raise Refused(f"{self.where}: {name} should be a list of texts")
        return tuple(str(item) for item in items)

    def numbers(self, name: str, default: tuple[float, ...] | None = None) -> tuple[float, ...]:
        """A few numbers, by columns."""
        if default is not None and name not in self.values:
            return default
        array = self.array(name)
        if array.size > 16:
            raise Refused(f"{self.where}: {name} has {array.size} numbers, where a few are wanted")
        return tuple(float(number) for number in array.ravel("F"))

    def wholes(self, name: str, default: tuple[float, ...] | None = None) -> tuple[int, ...]:
        """A few whole numbers, by columns."""
        numbers = self.numbers(name, default)
        if not all(number.is_integer() for number in numbers):
            raise Refused(f"{self.where}: {name} is {short(str(list(numbers)))}, where whole numbers are wanted")
        return tuple(int(number) for number in numbers)

    def array(self, name: str) -> np.ndarray:
        """An array of numbers."""
        return self._of(name, np.ndarray, "an array of numbers")

    def struct(self, name: str) -> "Struct":
        """A struct; where there is no such field, an empty one."""
        if name not in self.values:
            return Struct({}, f"{self.where}: {name}")
        structs = list(self.structs(name))
        if len(structs) != 1:
            raise Refused(f"{self.where}: {name} has {len(structs)} structs, where one is wanted")
        return structs[0]

    def structs(self, name: str) -> "Iterator[Struct]":
        """The structs of a struct array, or of a cell array of structs; an empty array of numbers is an empty one."""
        value = self._value(name, None)
        if isinstance(value, np.ndarray) and not value.size:
            return
        if isinstance(value, Records):
            records: tuple[Any, ...] = value.items
        else:
            records = tuple(_only(item) for item in self.cells(name))
        for number, record in enumerate(records, 1):
            where = f"{self.where}: {name} {number}" if len(records) > 1 else f"{self.where}: {name}"
            if record is None:
                raise Refused(f"{where} is no struct")
            yield Struct(record, where)

    def _value(self, name: str, default: Any) -> Any:
        value = self.values.get(name, default)
        if value is None:
            raise Refused(f"{self.where} has no field {name!r}, but {', '.join(map(short, self.values)) or 'none'}")
        return value

    def _of(self, name: str, kind: type, called: str, default: Any = None) -> Any:
        value = self._value(name, default)
        if not isinstance(value, kind):
            raise Refused(f"{self.where}: {name} is {_called(value)}; it should be {called}")
        return value


def _only(value: Value) -> "Mapping[str, Value] | None":
    """The struct of an array of one."""
    return value.items[0] if isinstance(value, Records) and len(value.items) == 1 else None


def _called(value: Value) -> str:
    if isinstance(value, Unread):
        return value.what
    return {str: "text", Cells: "a cell array", Records: "a struct"}.get(type(value), "an array of numbers")
