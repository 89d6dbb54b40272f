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
from typing import Any, BinaryIO

from conversion.readers.names import MAX_VALUES, Storage, StorageType, Unneeded, Unread, meaning
from conversion.readers.reading import Refused, short

MAX_PICKLE = 2 * 2**20  # bytes of instructions; a network of a thousand layers needs one MiB
MODULES = "_modules"  # what every pickled model calls its parts
FRAME_HEADER = 9  # bytes of the instruction that begins a frame
WEIGHTS_ALONE = (
    "In PyTorch, save the weights alone: torch.save(model.state_dict(), 'w.pth'); of this file, if you trust it: "
    "torch.save(torch.load(FILE, weights_only=False)[KEY], 'w.pth'), where KEY is that of the weights"
)
WHOLE_MODEL = (
    "It holds a whole model, which only running its code restores. In PyTorch, save the weights alone: "
    "torch.save(model.state_dict(), 'w.pth'), where model is torch.load(FILE, weights_only=False), or lies in that; "
    "do it if you trust the file"
)
PROTOCOLS = (2, 3, 4, 5)  # of which torch.save can be told
_OPCODES = """
    PROTO FRAME STOP MARK GLOBAL STACK_GLOBAL NEWOBJ NEWOBJ_EX REDUCE BUILD BINPERSID NONE NEWTRUE NEWFALSE
    BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE BINSTRING SHORT_BINSTRING
    BINBYTES SHORT_BINBYTES BYTEARRAY8
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS
    EMPTY_SET ADDITEMS FROZENSET
    BINPUT LONG_BINPUT BINGET LONG_BINGET MEMOIZE
"""
OPCODES = frozenset(_OPCODES.split())


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
        return meaning(module, name)

    def ordered_dict(self, pairs: Sequence[tuple[Any, Any]] = ()) -> dict[Any, Any]:
        """collections.OrderedDict; Python 2 wrote its pairs as an argument."""
        self.room -= len(pairs)
        if self.room < 0:
            raise Refused("it copies more into dictionaries than it holds")
        return dict([(_key(name), value) for name, value in pairs])

    def persistent_load(self, pid: Any) -> Storage:
        described = isinstance(pid, tuple) and 5 <= len(pid) <= 6
        if not (described and pid[0] == "storage" and isinstance(pid[1], StorageType)):
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
        raise Unneeded(f"a dictionary in it has {short(value)} as a key")
    return value


def _skip_attributes(unpickler: Any) -> None:
    """BUILD: what it sets on an object is no tensor, such as the versions of modules on a state_dict."""
    unpickler.stack.pop()


def _make_object(arguments: int) -> Callable[[Any], None]:
    """NEWOBJ, NEWOBJ_EX: no object is made. What is passed over takes its place."""

    def instruction(unpickler: Any) -> None:
        del unpickler.stack[-arguments:]
        if not isinstance(unpickler.stack[-1], Unread):
            raise Unneeded("it makes an object that is no tensor")

    return instruction


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
_Unpickler.dispatch[pickle.NEWOBJ[0]] = _make_object(1)
_Unpickler.dispatch[pickle.NEWOBJ_EX[0]] = _make_object(2)
# sets become lists, for nothing in them is looked at, and so nothing is hashed; what could be written to, bytes
_Unpickler.dispatch[pickle.EMPTY_SET[0]] = pickle._Unpickler.dispatch[pickle.EMPTY_LIST[0]]
_Unpickler.dispatch[pickle.ADDITEMS[0]] = pickle._Unpickler.dispatch[pickle.APPENDS[0]]
_Unpickler.dispatch[pickle.FROZENSET[0]] = pickle._Unpickler.dispatch[pickle.LIST[0]]
_Unpickler.dispatch[pickle.BYTEARRAY8[0]] = pickle._Unpickler.dispatch[pickle.BINBYTES8[0]]
_Unpickler.dispatch[pickle.REDUCE[0]] = _call
for _opcode, _keys in ((pickle.SETITEM[0], slice(-2, -1)), (pickle.SETITEMS[0], slice(0, None, 2))):
    _Unpickler.dispatch[_opcode] = _with_plain_keys(_Unpickler.dispatch[_opcode], _keys)


def unpickle(stream: BinaryIO) -> tuple[Any, dict[str, Storage]]:
    """Read the next pickle of a stream, and note the storages that it names.

    Raises:
        Refused: it has an instruction, name or size that PyTorch does not write.
    """
    start = stream.tell()
    head = io.BytesIO(stream.read(MAX_PICKLE))  # no more, whatever its instructions say of lengths
    whole_model = _look_at(head)
    end = head.tell()
    head.seek(0)
    unpickler = _Unpickler(head, room=end)
    try:
        content = unpickler.load()
    except Unneeded as unneeded:
        raise Refused(f"{unneeded}. {WHOLE_MODEL if whole_model else WEIGHTS_ALONE}") from None
    stream.seek(start + end)
    return content, unpickler.storages


def _look_at(head: io.BytesIO) -> bool:
    """Read the instructions of a pickle up to its end, before one is executed.

    Returns:
        Whether it holds a model of PyTorch, and not its weights alone.
    """
    ends, whole_model = [], False
    try:
        for opcode, argument, position in pickletools.genops(head):
            if opcode.name not in OPCODES:
                raise Refused(
                    f"its pickle has the instruction {opcode.name}, which PyTorch does not write by default: "
                    "save it again without pickle_protocol="
                )
            if opcode.name == "FRAME":
                ends.append((position or 0) + FRAME_HEADER + (argument or 0))
            whole_model |= argument == MODULES
    except ValueError:
        if len(head.getbuffer()) == MAX_PICKLE:
            raise Refused(f"its pickle has more than {MAX_PICKLE} bytes. {WEIGHTS_ALONE}") from None
        raise
    if max(ends, default=0) > head.tell():
        raise Refused("a frame of its pickle is longer than the pickle")
    return whole_model
