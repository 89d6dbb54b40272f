"""Says in words what a list of MatConvNet's layers computes, so that two networks can be compared line by line.

Every convolution is a line, and every sum: what it does, and of what. Names of other layers and of variables do not
matter. A row or column of padding that no window reaches at the network's size of images is not mentioned.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from conversion.readers.matconvnet import SCALES, Layer
from conversion.readers.reading import Refused, short

OUTPUT = "output"
NORMALIZATIONS = {"cov_traceNorm": "trace", "cov_froNorm": "frobenius"}
POOLING = frozenset({"cov_pool", "mpn_cov"})  # all positions to one
LONGEST = 2000  # letters of a step; the longest of a network of the zoo has 150


@dataclass(frozen=True)
class _Variable:
    """What is computed, in words; its height and width; how many sums lie before it."""

    words: str
    size: tuple[int, int]
    sums: int = 0


@dataclass(frozen=True)
class Program:
    """What a network computes.

    Attributes:
        lines: by the name of a convolution, of a sum, and of the output: what it is.
        norms: the batch normalisation behind each convolution that has one, by the convolution's name.
        last: the output; of a classifier, the convolution whose values are the logits.
        size: its height and width.
        responses: the different values of depth, kappa, alpha and beta of the local response normalisations.
        iterations: the different numbers of Newton-Schulz steps of the square roots.
        powers: the different matrix powers by eigendecomposition.
        normalizations: "trace" or "frobenius", the different ones of the covariances.
    """

    lines: dict[str, str] = field(default_factory=dict)
    norms: dict[str, str] = field(default_factory=dict)
    last: str = ""
    size: tuple[int, int] = (1, 1)
    responses: tuple[tuple[int, float, float, float], ...] = ()
    iterations: tuple[int, ...] = ()
    powers: tuple[float, ...] = ()
    normalizations: tuple[str, ...] = ()


def program_of(layers: Sequence[Layer], size: tuple[int, int]) -> Program:
    """What the layers compute of images of a size.

    Args:
        layers: of the network, in any order.
        size: (height, width) of the images in pixels.

    Raises:
        Refused: they do not lead from one input to one output, or join in a way that no network of the zoo has.
    """
    kept = _computing(layers)
    ordered = _in_order(kept)
    variables: dict[str, _Variable] = {_images(kept): _Variable("images", size)}
    lines: dict[str, str] = {}
    norms: dict[str, str] = {}  # of every convolution, "" for none
    takers = Counter(name for layer in kept for name in layer.inputs)
    givers = {output: layer.kind for layer in kept for output in layer.outputs}
    for layer in ordered:
        inputs = [variables[name] for name in layer.inputs]
        if layer.kind == "bnorm" and takers[layer.inputs[0]] > 1:
            raise Refused(f"layer {short(layer.name)} normalises what another layer takes as it is")
        if layer.kind == "bnorm" and inputs[0].words in norms and givers[layer.inputs[0]] != "conv":
            raise Refused(f"layer {short(layer.name)} does not follow its convolution at once")
        for name, variable in zip(layer.outputs, _outputs(layer, inputs, lines, norms), strict=False):
            variables[name] = variable
    last, positions = variables[_end(kept)].words, variables[_end(kept)].size
    lines[OUTPUT] = last
    return Program(
        lines,
        {convolution: norm for convolution, norm in norms.items() if norm},
        last,
        positions,
        responses=_each(kept, "lrn", "param"),
        iterations=_each(kept, "cov_sqrtm", "iterations"),
        powers=_each(kept, "mpn_cov", "power"),
        normalizations=tuple(
            dict.fromkeys(NORMALIZATIONS[layer.kind] for layer in kept if layer.kind in NORMALIZATIONS)
        ),
    )


def _computing(layers: Sequence[Layer]) -> list[Layer]:
    """The layers without losses, and without the softmax that follows the logits."""
    kept = [layer for layer in layers if layer.kind != "loss"]
    taken = {name for layer in kept for name in layer.inputs}
    return [layer for layer in kept if layer.kind != "softmax" or taken & {*layer.outputs}]


def _each(layers: Sequence[Layer], kind: str, setting: str) -> tuple:
    return tuple(dict.fromkeys(layer.settings[setting] for layer in layers if layer.kind == kind))


def _in_order(layers: Sequence[Layer]) -> list[Layer]:
    """Each behind those that it takes from."""
    givers = {output: layer.name for layer in layers for output in layer.outputs}
    by_name = {layer.name: layer for layer in layers}
    graph = {layer.name: [givers[name] for name in layer.inputs if name in givers] for layer in layers}
    try:
        return [by_name[name] for name in TopologicalSorter(graph).static_order()]
    except CycleError:
        raise Refused("its layers lead in a circle") from None


def _images(layers: Sequence[Layer]) -> str:
    given = {output for layer in layers for output in layer.outputs}
    inputs = list(dict.fromkeys(name for layer in layers for name in layer.inputs if name not in given))
    if len(inputs) != 1:
        raise Refused(f"its network takes {len(inputs)} variables that no layer gives, where one of images is wanted")
    return inputs[0]


def _end(layers: Sequence[Layer]) -> str:
    taken = {name for layer in layers for name in layer.inputs}
    ends = [layer for layer in layers if not taken & {*layer.outputs}]
    if len(ends) != 1 or not ends[0].outputs:
        raise Refused(f"its network ends in {len(ends)} layers, where one is wanted")
    return ends[0].outputs[0]


def _outputs(
    layer: Layer, inputs: list[_Variable], lines: dict[str, str], norms: dict[str, str]
) -> tuple[_Variable, ...]:
    wanted = 2 if layer.kind == "sum" or layer.kind in SCALES else 1
    if len(inputs) != wanted:
        raise Refused(f"layer {short(layer.name)} takes {len(inputs)} variables, where {wanted} are wanted")
    x = inputs[0]
    if layer.kind == "dropout":
        return (x,)
    if len(x.words) > LONGEST:
        raise Refused(
            f"layer {short(layer.name)} is behind more layers without weights than any network of the zoo has"
        )
    if layer.kind == "conv":
        size, added = _window(layer, layer.weights["filters"].shape[:2], x.size)
        lines[layer.name] = f"convolution of {_by(layer, layer.weights['filters'].shape[:2], added)} of {x.words}"
        norms[layer.name] = ""
        return (_Variable(layer.name, size, x.sums),)
    if layer.kind == "bnorm" and norms.get(x.words) == "":
        norms[x.words] = layer.name
        return (x,)
    if layer.kind == "sum":
        return (_sum(inputs, lines),)
    if layer.kind == "pool":
        size, added = _window(layer, layer.settings["size"], x.size)
        words = f"{layer.settings['method']} of {_by(layer, layer.settings['size'], added)} of {x.words}"
        return (_Variable(words, size, x.sums),)
    size = (1, 1) if layer.kind in POOLING else x.size
    return tuple(_Variable(f"{words}({x.words})", size, x.sums) for words in _words(layer, inputs))


def _words(layer: Layer, inputs: list[_Variable]) -> tuple[str, ...]:
    """What a layer without weights or windows does, for each of its outputs."""
    settings = layer.settings
    match layer.kind:
        case "relu":
            return ("relu" if not settings["leak"] else f"relu with leak {settings['leak']:g}",)
        case "lrn":
            return (f"local response {' '.join(f'{number:g}' for number in settings['param'])}",)
        case "cov_pool":
            return ("covariance",)
        case "cov_traceNorm":
            return "by its trace", "trace"
        case "cov_froNorm":
            return "by its norm", "norm"
        case "cov_sqrtm":
            coefficient = "" if settings["coef"] == 1 else f" with coef {settings['coef']:g}"
            return (f"root in {settings['iterations']} steps{coefficient}",)
        case "mpn_cov":
            epsilon = f" with epsilon {settings['epsilon']:g}" if settings["epsilon"] else ""
            return (f"power {settings['power']:g} of the covariance{epsilon}",)
        case "cov_traceNorm_aux" | "cov_froNorm_aux":
            return (f"times the root of {inputs[1].words}: ",)
    return (f"{layer.kind} {short(layer.name)}",)


def _sum(inputs: list[_Variable], lines: dict[str, str]) -> _Variable:
    number = 1 + max(x.sums for x in inputs)
    name = f"sum {number}"
    if name in lines or inputs[0].size != inputs[1].size:
        raise Refused(f"its network has sums beside each other, or of different sizes: {name}")
    lines[name] = " + ".join(sorted(x.words for x in inputs))
    return _Variable(name, inputs[0].size, number)


def _window(layer: Layer, window: Sequence[int], size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, ...]]:
    """The size after a convolution or pool, and the padding that its windows reach: top, bottom, left, right."""
    pad, stride = layer.settings["pad"], layer.settings["stride"]
    result, reached = [], []
    for axis in (0, 1):
        before, behind = pad[2 * axis : 2 * axis + 2]
        room = size[axis] + before + behind - window[axis]
        if room < 0:
            raise Refused(f"layer {short(layer.name)} has a window of {window[axis]} on {size[axis]} positions")
        count = room // stride[axis] + 1
        result.append(count)
        end = (count - 1) * stride[axis] + window[axis]
        reached += [before, max(0, end - size[axis] - before)]
    return (result[0], result[1]), tuple(reached)


def _by(layer: Layer, window: Sequence[int], added: tuple[int, ...]) -> str:
    """Such as `3x3, stride 2, pad 1`."""
    stride, dilate = layer.settings["stride"], layer.settings.get("dilate", (1, 1))
    parts = [f"{window[0]}x{window[1]}", f"stride {stride[0]}" if stride[0] == stride[1] else f"stride {stride}"]
    if any(added):
        parts.append(f"pad {added[0]}" if len({*added}) == 1 else f"pad {' '.join(map(str, added))}")
    return ", ".join(parts + ([f"dilate {dilate}"] if dilate != (1, 1) else []))
