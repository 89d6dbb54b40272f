"""Finds the state_dicts in what a PyTorch file holds, and takes the one that is meant: of several, the user says which.

A training checkpoint holds more than weights: other state_dicts, such as averaged weights, the moments of an optimizer,
and plain values. A state_dict is a dictionary of tensors by name; those of a network are called `<layer>.<leaf>`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from shlex import quote
from typing import Any

from conversion.readers.names import OtherTensor, Tensor
from conversion.readers.reading import Refused, short

TOP = "."  # the key of what lies in no other dictionary
MAX_DEPTH = 5  # of dictionaries within dictionaries
MAX_NAME = 200  # letters; a longer key is not followed
MAX_CONTAINERS = 100_000
MOST = 10  # in a message
OPTIMIZER = re.compile(r"optimi[sz]er|(^|_)opt(im)?(_|s?$)", re.IGNORECASE)
OF_OPTIMIZERS = frozenset(
    ("param_groups", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "acc_delta")
)

Path = tuple[str, ...]


@dataclass(frozen=True)
class StateDict:
    """The tensors under a key of a file.

    Attributes:
        path: the keys that lead to them; there is none where the file holds nothing around them.
        tensors: by name, in the file's order.
        others: the names beside them, of values that are no tensors.
    """

    path: Path
    tensors: dict[str, Tensor | OtherTensor]
    others: tuple[str, ...]

    @property
    def key(self) -> str:
        """The path as users write it, such as `model.state_dict`."""
        return ".".join(self.path) or TOP

    @property
    def is_network(self) -> bool:
        """Whether the tensors lie in layers, and are not, for example, a mean and a standard deviation."""
        return any("." in name for name in self.tensors)

    def __str__(self) -> str:
        count = len(self.tensors)
        return f"{short(self.key)} ({count} tensor{'s' if count != 1 else ''})"


def find_state_dict(content: Any, key: str | None = None) -> StateDict:
    """The state_dict that is meant.

    Args:
        content: what a file holds.
        key: the path to the state_dict, with dots; None where the file holds only one.

    Raises:
        Refused: there is none, or none under this key; or there are several, and no key was given.
    """
    found = list(_found(content))
    if not found:
        held = short(content) if isinstance(content, str | int | float | None) else f"a {type(content).__name__}"
        raise Refused(
            f"it holds {held} where a state_dict was expected: no tensors by name, apart from an optimizer's, are in it"
            ". In PyTorch, save them: torch.save(model.state_dict(), 'weights.pth')"
        )
    networks = [one for one in found if one.is_network] or found
    if key is None:
        return _only(networks)
    chosen = [one for one in found if one.key == key]
    if len(chosen) == 1:
        return chosen[0]
    if not any(one.path for one in found):
        raise Refused(f"its {len(found[0].tensors)} tensors are under no key; leave out the key {short(key)}")
    problem = f"it has {len(chosen)} state_dicts" if chosen else "it has no state_dict"
    raise Refused(f"{problem} under the key {short(key)}; it holds {_listed(networks)}")


def _only(networks: list[StateDict]) -> StateDict:
    """The one there is. Two dictionaries of the same tensors are one."""
    first = networks[0]
    if any(one.tensors != first.tensors for one in networks[1:]):
        raise Refused(
            f"it holds {_listed(networks)}; say which of them is meant, for example by --key "
            f"{quote(networks[-1].key)} on the command line, or key={short(networks[-1].key)} in Python"
        )
    return first


def _listed(found: list[StateDict]) -> str:
    more = f", ... and {len(found) - MOST} more" if len(found) > MOST else ""
    count = f"{len(found)} state_dicts" if len(found) != 1 else "one state_dict"
    return f"{count}: {', '.join(map(str, found[:MOST]))}{more}"


def _found(content: Any) -> Iterator[StateDict]:
    """Every dictionary of tensors, those of an optimizer excepted, the outer ones first; one in two places is twice.

    Each container is looked into once, for a file of a few bytes can hold an endless one.
    """
    pending: list[tuple[Path, Any]] = [((), content)]
    known: dict[int, tuple[dict[str, Tensor | OtherTensor], tuple[str, ...]]] = {}  # by the container's id
    for path, value in pending:
        if id(value) not in known:
            known[id(value)] = _tensors(value)
            for name, inner in _inner(value) if len(path) < MAX_DEPTH else ():
                if len(pending) == MAX_CONTAINERS:
                    raise Refused(f"it holds more than {MAX_CONTAINERS} lists and dictionaries")
                pending.append(((*path, name), inner))
        tensors, others = known[id(value)]
        if tensors:
            yield StateDict(path, tensors, others)


def _tensors(value: Any) -> tuple[dict[str, Tensor | OtherTensor], tuple[str, ...]]:
    """The tensors of a dictionary by name, and the names of what else is in it."""
    if not isinstance(value, dict) or _has_moments(value):
        return {}, ()
    tensors = {name: t for name, t in value.items() if isinstance(name, str) and isinstance(t, Tensor | OtherTensor)}
    if not any(
        isinstance(tensor, OtherTensor) or tensor.shape for tensor in tensors.values()
    ):  # single numbers, such as an accuracy
        return {}, ()
    return tensors, tuple(str(name) for name in value if name not in tensors)


def _inner(value: Any) -> Iterator[tuple[str, Any]]:
    """The containers in a container, by name; in a list they are called by their place."""
    if isinstance(value, dict) and not _has_moments(value):
        items = ((name, inner) for name, inner in value.items() if isinstance(name, str))
    elif isinstance(value, list | tuple):
        items = ((str(place), inner) for place, inner in enumerate(value))
    else:
        return
    for name, inner in items:
        if isinstance(inner, dict | list | tuple) and len(name) <= MAX_NAME and not OPTIMIZER.search(name):
            yield name, inner


def _has_moments(value: dict[Any, Any]) -> bool:
    return any(name in value for name in OF_OPTIMIZERS)
