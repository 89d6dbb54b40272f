"""Reads networks of MatConvNet out of MATLAB's values: its DagNN, as `saveobj` describes one, and its SimpleNN.

Both become a list of layers: what each is, what it takes, and its weights. No file published by others was seen: the
layout is that of MatConvNet's own code, 1.0-beta22 to 1.0-beta25, and of its importer of Caffe's networks.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from conversion.readers.matlab_values import Struct, Unread, Value
from conversion.readers.reading import Refused, short

NAMED = "net"  # a training checkpoint holds the network as a variable of this name
SAVE = "in MATLAB, s = net.saveobj(); save('net.mat', '-struct', 's')"

KINDS: Mapping[str, str] = {  # of SimpleNN and of DagNN -> here
    **{kind: kind for kind in ("conv", "bnorm", "relu", "pool", "lrn", "dropout", "softmax", "mpn_cov", "cov_pool")},
    **{kind: kind for kind in ("cov_traceNorm", "cov_froNorm", "cov_sqrtm", "cov_traceNorm_aux", "cov_froNorm_aux")},
    "normalize": "lrn",
    "softmaxloss": "loss",
    "dagnn.Conv": "conv",
    "dagnn.BatchNorm": "bnorm",
    "dagnn.ReLU": "relu",
    "dagnn.Pooling": "pool",
    "dagnn.LRN": "lrn",
    "dagnn.Sum": "sum",
    "dagnn.DropOut": "dropout",
    "dagnn.SoftMax": "softmax",
    "dagnn.Loss": "loss",
    "dagnn.OBJ_ConvNet_COV_Pool": "cov_pool",
    "dagnn.OBJ_ConvNet_Cov_TraceNorm": "cov_traceNorm",
    "dagnn.OBJ_ConvNet_Cov_FroNorm": "cov_froNorm",
    "dagnn.OBJ_ConvNet_Cov_Sqrtm": "cov_sqrtm",
    "dagnn.OBJ_ConvNet_COV_ScaleTr": "cov_traceNorm_aux",
    "dagnn.OBJ_ConvNet_COV_ScaleFro": "cov_froNorm_aux",
}
NORMS = ("cov_traceNorm", "cov_froNorm")
SCALES = ("cov_traceNorm_aux", "cov_froNorm_aux")  # which take what NORMS give beside their matrix
WIDEST = 1024  # channels of a local response
LONGEST = 100  # steps of a square root
WEIGHTS = {"conv": ("filters", "biases"), "bnorm": ("multipliers", "biases", "moments")}


@dataclass(frozen=True)
class Layer:
    """A layer of a network.

    Attributes:
        name: its own.
        kind: a value of KINDS.
        inputs, outputs: names of the variables that it takes and gives.
        settings: its numbers, such as stride and pad, and texts.
        weights: its arrays by what WEIGHTS calls them: filters (height, width, in, out), biases and multipliers
            (channels,), moments (channels, 2), which are mean and deviation.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)


def is_network(names: Mapping[str, str] | Mapping[str, Value]) -> bool:
    """Whether a file with variables of these names holds one."""
    return "layers" in names or NAMED in names


def network_of(variables: Mapping[str, Value]) -> Struct:
    """The struct that describes the network: the file's variables themselves, or its variable `net`.

    Raises:
        Refused: that is an object, which the file does not describe.
    """
    named = variables.get(NAMED)
    if "layers" in variables or named is None:
        return Struct(variables)
    if isinstance(named, Unread):
        raise Refused(f"its variable {NAMED!r} is {named.what}, which MATLAB alone can read. Save a struct: {SAVE}")
    return Struct(variables).struct(NAMED)


def refuse_objects(classes: Mapping[str, str]) -> None:
    """Refuse a network that was saved as an object.

    Args:
        classes: the file's variables, and the class of each that is an object.
    """
    for name, kind in classes.items():
        if kind and name == NAMED:
            what = f"its variable {NAMED!r} is an object of the class {short(kind)}"
            raise Refused(f"{what}, which MATLAB alone can read. Save a struct: {SAVE}")


def layers_of(network: Struct) -> list[Layer]:
    """Every layer, in the file's order; each parameter belongs to exactly one.

    Raises:
        Refused: a layer is of a kind that no network of the zoo has, or is not described as MatConvNet does.
    """
    layers = list(_dag(network) if "params" in network or "vars" in network else _simple(network))
    if not layers:
        raise Refused("its network has no layers")
    for what, names in (
        ("layers have the name", [layer.name for layer in layers]),
        ("layers give the variable", [output for layer in layers for output in layer.outputs]),
    ):
        twice = next((name for name, times in Counter(names).items() if times > 1), None)
        if twice is not None:
            raise Refused(f"two {what} {short(twice)}")
    return layers


def _simple(network: Struct) -> Iterator[Layer]:
    """A chain: layer i takes variable x<i - 1> and gives x<i>."""
    scale = ""
    for index, stored in enumerate(network.structs("layers"), 1):
        name = stored.text("name", f"layer{index}")
        kind = _kind(stored.text("type"), name)
        here = Struct(stored.values, f"layer {short(name)}")
        inputs, outputs = (f"x{index - 1}",), (f"x{index}",)
        if kind in NORMS:
            outputs, scale = (*outputs, f"x{index} scale"), f"x{index} scale"
        elif kind in SCALES:
            inputs = (*inputs, scale)
        arrays = [] if kind not in WEIGHTS else _arrays(here)
        yield Layer(name, kind, inputs, outputs, _settings(here, kind), _named(arrays, kind, name))


def _arrays(stored: Struct) -> list[Value]:
    if "weights" in stored:
        return list(stored.cells("weights"))
    return [stored.array("filters"), stored.array("biases")]  # before 1.0-beta9


def _dag(network: Struct) -> Iterator[Layer]:
    """Layers between named variables, with named parameters."""
    params = {}
    for stored in network.structs("params"):
        name = stored.text("name")
        if name in params:
            raise Refused(f"two parameters have the name {short(name)}")
        params[name] = Struct(stored.values, f"parameter {short(name)}").array("value")
    unused = dict.fromkeys(params)
    for stored in network.structs("layers"):
        name = stored.text("name")
        kind = _kind(stored.text("type"), name)
        here = Struct(stored.values, f"layer {short(name)}")
        own = here.texts("params") if kind in WEIGHTS else ()
        for parameter in own:
            if parameter not in params:
                raise Refused(f"layer {short(name)} wants a parameter {short(parameter)}, which is not in the file")
            if parameter not in unused:
                raise Refused(f"two layers have the parameter {short(parameter)}")
            del unused[parameter]
        weights = _named([params[parameter] for parameter in own], kind, name)
        block = here.struct("block")
        yield Layer(name, kind, here.texts("inputs"), here.texts("outputs"), _settings(block, kind), weights)
    if unused:
        raise Refused(f"no layer has the parameter {short(next(iter(unused)))}, nor {len(unused) - 1} others")


def _kind(kind: str, name: str) -> str:
    if kind not in KINDS:
        raise Refused(f"layer {short(name)} is of the type {short(kind)}, which no network of the zoo has")
    return KINDS[kind]


def _named(arrays: list[Value], kind: str, name: str) -> dict[str, np.ndarray]:
    """The weights of a layer by their names: filters with four axes, biases and multipliers with one."""
    named = {}
    for called, array in zip(WEIGHTS.get(kind, ()), arrays, strict=False):
        if not isinstance(array, np.ndarray):
            raise Refused(f"layer {short(name)}: its {called} are no array of numbers")
        if array.size or called == "filters":
            named[called] = _with_axes(array, called, name)
    missing = [
        called for called in WEIGHTS.get(kind, ()) if called not in named and (kind, called) != ("conv", "biases")
    ]
    if missing or len(arrays) > len(WEIGHTS.get(kind, ())):
        what = f"no {missing[0]}" if missing else f"{len(arrays)} weights"
        raise Refused(f"layer {short(name)} has {what}; a {kind} has {', '.join(WEIGHTS[kind])}")
    return named


def _with_axes(array: np.ndarray, called: str, name: str) -> np.ndarray:
    """MATLAB leaves out last axes of length 1, and knows no vectors."""
    if called == "filters" and 2 <= array.ndim <= 4 and array.size:
        return array.reshape((*array.shape, *(1,) * (4 - array.ndim)), order="F")
    if called == "moments" and array.ndim == 2 and array.shape[1] == 2:
        return array
    if called in ("biases", "multipliers") and max(array.shape) == array.size:
        return array.reshape(-1, order="F")
    raise Refused(f"layer {short(name)}: its {called} have the shape {array.shape}")


def _settings(stored: Struct, kind: str) -> dict[str, Any]:
    """The numbers of a layer that decide what it computes, those left out by their defaults."""
    if kind == "conv":
        return {**_steps(stored), "dilate": _pair(stored, "dilate", (1.0,), 1)}
    if kind == "pool":
        size = "pool" if "pool" in stored else "poolSize"
        method = stored.text("method", "max")
        return {**_steps(stored), "size": _pair(stored, size, None, 1), "method": method}
    if kind == "relu":
        return {"leak": _first(stored, "leak", 0.0)}
    if kind == "lrn":
        numbers = stored.numbers("param", (5.0, 1.0, 0.0001 / 5, 0.75))
        if len(numbers) != 4:
            raise Refused(f"{stored.where}: param has {len(numbers)} numbers, not 4")
        if not (numbers[0].is_integer() and 1 <= numbers[0] <= WIDEST and numbers[1] > 0):
            raise Refused(f"{stored.where}: param is {short(str(list(numbers)))}")
        return {"param": (int(numbers[0]), *(float(f"{number:.6g}") for number in numbers[1:]))}
    if kind == "cov_sqrtm":
        (iterations,) = stored.wholes("iterNum", (5.0,)) or (0,)
        if not 1 <= iterations <= LONGEST:
            raise Refused(f"{stored.where}: iterNum is {iterations}")
        return {"iterations": iterations, "coef": _first(stored, "coef", 1.0)}
    if kind == "mpn_cov":
        return {"power": _first(stored, "alpha", 0.5), "epsilon": _first(stored, "epsilon", 0.0)}
    return {}


def _steps(stored: Struct) -> dict[str, tuple[int, ...]]:
    """Stride (down, right) and pad (top, bottom, left, right)."""
    pad = stored.wholes("pad", (0.0,))
    if len(pad) not in (1, 2, 4) or min(pad) < 0:
        raise Refused(f"{stored.where}: pad is {short(str(pad))}")
    four = pad * 4 if len(pad) == 1 else (pad[0], pad[0], pad[1], pad[1]) if len(pad) == 2 else pad
    return {"stride": _pair(stored, "stride", (1.0,), 1), "pad": four}


def _pair(stored: Struct, name: str, default: tuple[float, ...] | None, least: int) -> tuple[int, int]:
    numbers = stored.wholes(name, default)
    if len(numbers) not in (1, 2) or min(numbers) < least:
        raise Refused(f"{stored.where}: {name} is {short(str(numbers))}")
    return numbers[0], numbers[-1]


def _first(stored: Struct, name: str, default: float) -> float:
    numbers = stored.numbers(name, (default,))
    if len(numbers) != 1:
        raise Refused(f"{stored.where}: {name} has {len(numbers)} numbers, not 1")
    return numbers[0]
