"""Finds the state_dicts in what a PyTorch file holds, and takes the one that is meant: of several, the user says which.

A training checkpoint holds more than weights: other state_dicts, such as averaged weights, the moments of an optimizer,
and plain values. A state_dict is a dictionary of tensors by name; those of a network are called `<layer>.<leaf>`. Some
keep averaged weights as a list, in the order of the parameters. Such a list is named in messages, so that nobody takes
other weights unawares, and refused, for only the network knows the order.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from shlex import quote
from typing import Any

from conversion.readers.names import OtherTensor, Tensor
from conversion.readers.reading import Refused, short

TOP = "."  # the key of what lies in no other dictionary
MAX_DEPTH = 20  # of dictionaries within dictionaries
MAX_CONTAINERS = 100_000
MOST = 10  # in a message
MANY = 10  # tensors that are not called `<layer>.<leaf>` and are a network's all the same
MAX_KEY = 1000  # letters of a key that a message says to give
OPTIMIZER = re.compile(r"optimi[sz]er|(^|_)opt(im)?(_|s?$)", re.IGNORECASE)
OF_A_NETWORK = {  # words of a key
    *("average", "averaged", "avg", "ema", "model", "net", "network", "params", "polyak", "shadow", "student", "swa"),
    *("target", "teacher", "weights"),
}
WORD = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
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
        named: whether they have names. Otherwise they are a list, or are called by numbers.
    """

    path: Path
    tensors: dict[str, Tensor | OtherTensor]
    others: tuple[str, ...]
    named: bool

    @property
    def key(self) -> str:
        """The path as users write it, such as `model.state_dict`."""
        return ".".join(self.path) or TOP

    @property
    def is_network(self) -> bool:
        """Whether the tensors may be a network's, and are not, for example, a mean and a standard deviation."""
        if self.named and any("." in name for name in self.tensors):
            return True
        least = MANY if self.named else 2
        return len(self.tensors) >= least and any(_is_weight(tensor) for tensor in self.tensors.values())

    def __str__(self) -> str:
        count = len(self.tensors)
        return f"{short(self.key)} ({count} tensor{'s' if count != 1 else ''}{'' if self.named else ' without names'})"


def find_state_dict(content: Any, key: str | None = None) -> tuple[StateDict, tuple[StateDict, ...]]:
    """The state_dict that is meant, and those that were passed over without being asked for.

    Args:
        content: what a file holds.
        key: the path to the state_dict, with dots; None where the file holds only one.

    Raises:
        Refused: there is none, or none under this key; or there are several, and no key was given; or its tensors have
            no names.
    """
    chosen, passed_over = _choose(content, key)
    if not chosen.named:
        raise Refused(
            f"the {len(chosen.tensors)} tensors under the key {short(chosen.key)} have no names, and only the network "
            "knows whose they are. If they are its parameters in their order, load its state_dict into it in PyTorch, "
            "then give them to it: [p.data.copy_(t) for p, t in zip(model.parameters(), tensors, strict=True)]; "
            "torch.save(model.state_dict(), 'weights.pth')"
        )
    return chosen, passed_over


def _choose(content: Any, key: str | None) -> tuple[StateDict, tuple[StateDict, ...]]:
    """The state_dict under a key, or without one the only network; and what was passed over for it."""
    everything = list(_found(content))
    if not everything:
        raise Refused(_nothing(content))
    return _meant(content, everything) if key is None else (_under(everything, key), ())


def _meant(content: Any, everything: list[StateDict]) -> tuple[StateDict, tuple[StateDict, ...]]:
    """The only network outside the optimizers, and the named state_dicts that are no network by themselves."""
    found = [one for one in everything if not _is_of_an_optimizer(one.path)]
    if not found:
        networks = [one for one in everything if one.is_network]
        raise Refused(_only_under_an_optimizer(networks) if networks else _nothing(content))
    networks = _networks(found)
    ids = {id(one) for one in networks}
    return _only(networks), tuple(one for one in everything if one.named and one.path and id(one) not in ids)


def _under(everything: list[StateDict], key: str) -> StateDict:
    chosen = [one for one in everything if one.key == key]
    if len(chosen) == 1:
        return chosen[0]
    if not any(one.path for one in everything):
        raise Refused(f"its {len(everything[0].tensors)} tensors are under no key; leave out the key {short(key)}")
    found = [one for one in everything if not _is_of_an_optimizer(one.path)]
    problem = f"it has {len(chosen)} state_dicts" if chosen else "it has no state_dict"
    raise Refused(f"{problem} under the key {short(key)}; it holds {_listed(_networks(found) or everything)}")


def _networks(found: list[StateDict]) -> list[StateDict]:
    """Those that may be networks; where there are none, those with names, or else all."""
    return [one for one in found if one.is_network] or [one for one in found if one.named] or found


def _nothing(content: Any) -> str:
    held = short(content) if isinstance(content, str | int | float | None) else f"a {type(content).__name__}"
    return (
        f"it holds {held} where a state_dict was expected: no tensors by name, apart from an optimizer's, are in it"
        ". In PyTorch, save them: torch.save(model.state_dict(), 'weights.pth')"
    )


def _only_under_an_optimizer(networks: list[StateDict]) -> str:
    return (
        f"it holds {_listed(networks)}, under the key of an optimizer; if they are a network's weights, say so by "
        f"--key {quote(networks[0].key[:MAX_KEY])} on the command line, or key= in Python"
    )


def _only(networks: list[StateDict]) -> StateDict:
    """The one there is. Two dictionaries of the same tensors are one."""
    first = networks[0]
    if any(one.tensors != first.tensors for one in networks[1:]):
        example = next((one for one in reversed(networks) if one.named), first).key[:MAX_KEY]
        raise Refused(
            f"it holds {_listed(networks)}; say which of them is meant, for example by --key {quote(example)} on the "
            f"command line, or key={example!r} in Python{_joined(networks)}"
        )
    return first


def _joined(networks: list[StateDict]) -> str:
    """How to put the parts of one network together, which share no layer, as copies of one network do."""
    layers = [layer for one in networks for layer in {".".join(name.split(".")[-2:]) for name in one.tensors}]
    joinable = all(one.named and one.path and not any(map(str.isdigit, one.path)) for one in networks)
    if len({*layers}) < len(layers) or len(networks) > MOST or not joinable:
        return ""
    parts = ", ".join(f"**file{''.join(f'[{name[:MAX_KEY]!r}]' for name in one.path)}" for one in networks)
    return (
        ". They share no layer: if they are the parts of one network, join them in PyTorch: file = torch.load(FILE); "
        f"torch.save({{{parts}}}, 'weights.pth')"
    )


def _listed(found: list[StateDict]) -> str:
    more = f", ... and {len(found) - MOST} more" if len(found) > MOST else ""
    count = f"{len(found)} state_dicts" if len(found) != 1 else "one state_dict"
    return f"{count}: {', '.join(map(str, found[:MOST]))}{more}"


def _found(content: Any) -> Iterator[StateDict]:
    """Every dictionary or list of tensors, the outer first; one in two places is twice.

    An optimizer's moments are none of them. Each container is looked into once, for a file of a few bytes can hold an
    endless one.
    """
    pending: list[tuple[Path, Any]] = [((), content)]
    known: dict[int, tuple[dict[str, Tensor | OtherTensor], tuple[str, ...], bool]] = {}  # by the container's id
    for path, value in pending:
        if id(value) not in known:
            known[id(value)] = _tensors(value)
            for name, inner in _inner(value):
                if len(path) == MAX_DEPTH:
                    raise Refused(f"its lists and dictionaries lie more than {MAX_DEPTH} deep in each other")
                if len(pending) == MAX_CONTAINERS:
                    raise Refused(f"it holds more than {MAX_CONTAINERS} lists and dictionaries")
                pending.append(((*path, name), inner))
        if known[id(value)][0]:
            yield StateDict(path, *known[id(value)])


def _tensors(value: Any) -> tuple[dict[str, Tensor | OtherTensor], tuple[str, ...], bool]:
    """The tensors of a container by name, the names of what else is in it, and whether most are called by text."""
    items = list(_items(value))
    tensors = {name: inner for name, inner in items if isinstance(inner, Tensor | OtherTensor)}
    named = {name: tensor for name, tensor in tensors.items() if isinstance(name, str)}
    if not any(isinstance(tensor, OtherTensor) or tensor.shape for tensor in tensors.values()):
        return {}, (), True  # single numbers, such as an accuracy
    if len(named) < len(tensors) - len(named):
        return {str(name): tensor for name, tensor in tensors.items()}, (), False
    return named, tuple(str(name) for name, _ in items if name not in named), True


def _inner(value: Any) -> Iterator[tuple[str, Any]]:
    """The containers in a container, by name; in a list they are called by their place."""
    for name, inner in _items(value):
        if isinstance(inner, dict | list | tuple) and inner:
            yield str(name), inner


def _items(value: Any) -> Iterable[tuple[Any, Any]]:
    """What a container holds, by name or place; nothing of an optimizer's moments."""
    if isinstance(value, dict):
        return () if any(name in value for name in OF_OPTIMIZERS) else value.items()
    return enumerate(value) if isinstance(value, list | tuple) else ()


def _is_of_an_optimizer(path: Path) -> bool:
    """Whether a key on the path names an optimizer, and neither it nor a later one a network or averaged weights."""
    first = next((place for place, name in enumerate(path) if OPTIMIZER.search(name)), len(path))
    words = {word.lower() for name in path[first:] for word in WORD.findall(name)}
    return first < len(path) and not OF_A_NETWORK & words


def _is_weight(tensor: Tensor | OtherTensor) -> bool:
    """Whether it may be a layer's weights: numbers with a point, in two dimensions or more."""
    return isinstance(tensor, Tensor) and len(tensor.shape) > 1 and tensor.storage.dtype.kind not in "iub"
