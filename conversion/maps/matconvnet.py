"""The layers of networks under the names of MatConvNet's `examples/imagenet`, and what these layers compute.

A network is listed in MatConvNet's own terms. What a file's layers compute must be, line by line, what these do: names
and shapes alone do not tell a stride, a normalisation without weights, or a pool.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from conversion.maps.tables import GRIDS, Row, Step, conv_and_bn
from conversion.readers.matconvnet import Layer
from conversion.readers.matconvnet_program import program_of
from conversion.readers.reading import Described, Refused
from mpncov_zoo.backbones import vgg_m
from mpncov_zoo.errors import ConversionError
from mpncov_zoo.registry import Architecture, Options, with_options
from mpncov_zoo.representations.newton_schulz import ITERATIONS

LEAVES = {  # kind -> their leaf, our leaf, transform
    "conv": (("filters", "kernel", "as it is"),),
    "conv with bias": (("filters", "kernel", "as it is"), ("biases", "bias", "as it is")),
    "bn": (
        ("multipliers", "gamma", "as it is"),
        ("biases", "beta", "as it is"),
        ("mean", "moving_mean", "as it is"),
        ("variance", "moving_variance", "as it is"),
    ),
    "linear": (("filters", "kernel", "HWIO to IO"), ("biases", "bias", "as it is")),
    **{
        f"linear on {size}x{size}": (
            ("filters", "kernel", f"{size}x{size} grid to rows"),
            ("biases", "bias", "as it is"),
        )
        for size in GRIDS
    },
    "linear on a triangle": (("filters", "kernel", "triangle by columns to rows"), ("biases", "bias", "as it is")),
}
VGG_GRID = 7  # the flattened grid's default
RESNET_LINEAR = {"mpncov": "linear on a triangle", "gap": "linear"}  # kind of the layer behind a representation


def matconvnet_steps(rows: list[Row]) -> list[Step]:
    """The tensors of a table's layers, as the reader names them."""
    return [
        Step(f"{theirs}.{leaf}", f"{ours}/{variable}", transform)
        for theirs, ours, kind in rows
        for leaf, variable, transform in LEAVES[kind]
    ]


def matconvnet_resnet(architecture: Architecture) -> list[Row]:
    """`conv1_conv`, `conv2_1_adapt_conv_conv`, `conv2_1a_conv` ... `conv_for_cova_conv`, `prediction`."""
    rows = conv_and_bn(("conv1_conv", "conv1_bn"), "features/stem")
    for stage, count in enumerate(architecture.features_options["repeats"], 1):
        for block in range(1, count + 1):
            theirs, ours = f"conv{stage + 1}_{block}", f"features/stage{stage}_block{block}"
            if block == 1:
                rows += conv_and_bn((f"{theirs}_adapt_conv_conv", f"{theirs}_adapt_conv_bn"), f"{ours}_shortcut")
            for index, letter in enumerate("abc", 1):
                rows += conv_and_bn((f"{theirs}{letter}_conv", f"{theirs}{letter}_bn"), ours, index)
    if architecture.representation_options.get("dimension_reduction"):
        rows += conv_and_bn(("conv_for_cova_conv", "conv_for_cova_bn"), "representation/reduction")
    return [*rows, ("prediction", "classifier/logits", RESNET_LINEAR[architecture.representation])]


def matconvnet_vgg(architecture: Architecture) -> list[Row]:
    """`conv1_1`, `conv1_2` ... `conv5_3`, `fc6`, `fc7`, `fc8`, of the first order."""
    rows = [
        (f"conv{stage}_{index}", f"features/stage{stage}_conv{index}", "conv with bias")
        for stage, count in enumerate(architecture.features_options["repeats"], 1)
        for index in range(1, count + 1)
    ]
    return [*rows, *_linear(architecture)]


def matconvnet_vgg_m(architecture: Architecture) -> list[Row]:
    """`conv1` ... `conv5`, `fc6`, `fc7`, `fc8`, of the first order."""
    rows = [
        (f"conv{stage}", f"features/stage{stage}_conv1", "conv with bias") for stage in range(1, len(vgg_m.STAGES) + 1)
    ]
    return [*rows, *_linear(architecture)]


def _linear(architecture: Architecture) -> list[Row]:
    """The three last layers, of which the first takes the whole grid."""
    hidden = len(architecture.classifier_options.get("hidden", ()))
    ours = [*(f"fc{number}" for number in range(1, hidden + 1)), "logits"]
    size = grid_of(architecture)
    kinds = [f"linear on {size}x{size}", *["linear"] * hidden]
    return [
        (f"fc{6 + place}", f"classifier/{name}", kind)
        for place, (name, kind) in enumerate(zip(ours, kinds, strict=True))
    ]


def grid_of(architecture: Architecture) -> int:
    """Height and width of what the first linear layer takes, in positions."""
    return architecture.representation_options.get("size", VGG_GRID)


class _Chain:
    """Layers in MatConvNet's terms, each behind the one before; filters are of the right size and have no numbers."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.last = "input"

    def add(
        self, name: str, kind: str, *inputs: str, weights: Mapping[str, np.ndarray] | None = None, **settings: Any
    ) -> str:
        """Add a layer on the last variable, or on others; its own variable is called as the layer."""
        outputs = (name, f"{name} scale") if kind in ("cov_traceNorm", "cov_froNorm") else (name,)
        self.layers.append(Layer(name, kind, inputs or (self.last,), outputs, settings, weights or {}))
        self.last = name
        return name

    def conv(self, name: str, size: int, *inputs: str, stride: int = 1, pad: int = 0) -> str:
        filters = {"filters": np.broadcast_to(np.float32(0), (size, size, 1, 1))}
        steps = {"stride": (stride, stride), "pad": (pad,) * 4, "dilate": (1, 1)}
        return self.add(name, "conv", *inputs, weights=filters, **steps)

    def relu(self, name: str) -> str:
        return self.add(f"{name} relu", "relu", leak=0.0)

    def pool(self, name: str, size: int, stride: int, pad: tuple[int, ...] = (0,) * 4, method: str = "max") -> str:
        return self.add(name, "pool", size=(size, size), stride=(stride, stride), pad=pad, method=method)

    def covariance(self, options: Options) -> None:
        """The covariance and its normalisation; their options are ours."""
        if "power" in options:
            self.add("mpn_cov", "mpn_cov", power=options["power"], epsilon=0.0)
            return
        kind = {"trace": "cov_traceNorm", "frobenius": "cov_froNorm"}[options.get("normalization", "trace")]
        self.add("cov_pool", "cov_pool")
        self.add("norm", kind)
        self.add("root", "cov_sqrtm", iterations=options.get("iterations", ITERATIONS), coef=1.0)
        self.add("scaled", f"{kind}_aux", "root", "norm scale")


def resnet_layers(architecture: Architecture) -> list[Layer]:
    """A ResNet of bottlenecks, with or without the covariance."""
    options, chain = architecture.features_options, _Chain()
    chain.conv("conv1_conv", 7, stride=2, pad=3)
    chain.relu("conv1")
    chain.pool("conv1_pool", 3, 2, pad=(1,) * 4)
    strides = (1, 2, 2, options.get("last_stride", 2))
    for stage, (count, stride) in enumerate(zip(options["repeats"], strides, strict=True), 2):
        for block in range(1, count + 1):
            _block(chain, f"conv{stage}_{block}", stride if block == 1 else 1, block == 1, options)
    if architecture.representation_options.get("dimension_reduction"):
        chain.conv("conv_for_cova_conv", 1)
        chain.relu("conv_for_cova")
    if architecture.representation == "mpncov":
        chain.covariance(architecture.representation_options)
    else:
        chain.pool("prediction_avg", 7, 1, method="avg")
    chain.conv("prediction", 1)
    return chain.layers


def _block(chain: _Chain, name: str, stride: int, projected: bool, options: Options) -> None:
    taken = chain.last
    shortcut = chain.conv(f"{name}_adapt_conv_conv", 1, taken, stride=stride) if projected else taken
    first, second = (stride, 1) if options.get("conv1_stride", False) else (1, stride)
    chain.conv(f"{name}a_conv", 1, taken, stride=first)
    chain.relu(f"{name}a")
    chain.conv(f"{name}b_conv", 3, stride=second, pad=1)
    chain.relu(f"{name}b")
    chain.conv(f"{name}c_conv", 1)
    chain.add(f"{name} sum", "sum", shortcut, chain.last)
    chain.relu(name)


def vgg_layers(architecture: Architecture) -> list[Layer]:
    """A VGG-VD without batch normalisation."""
    chain = _Chain()
    for stage, count in enumerate(architecture.features_options["repeats"], 1):
        for index in range(1, count + 1):
            chain.conv(f"conv{stage}_{index}", 3, pad=1)
            chain.relu(f"conv{stage}_{index}")
        chain.pool(f"pool{stage}", 2, 2)
    return _with_linear(chain, architecture)


def vgg_m_layers(architecture: Architecture) -> list[Layer]:
    """VGG-M with its local response normalisation."""
    chain = _Chain()
    response = architecture.features_options.get("local_response", vgg_m.LOCAL_RESPONSE)
    for stage, (_, size, stride, pad) in enumerate(vgg_m.STAGES, 1):
        chain.conv(f"conv{stage}", size, stride=stride, pad=pad)
        chain.relu(f"conv{stage}")
        if stage in vgg_m.POOLED:
            below = vgg_m.POOLED[stage]
            chain.add(f"norm{stage}", "lrn", param=response)
            chain.pool(f"pool{stage}", 3, 2, pad=(0, below, 0, below))
    chain.pool("pool5", 3, 2)
    return _with_linear(chain, architecture)


def _with_linear(chain: _Chain, architecture: Architecture) -> list[Layer]:
    hidden = architecture.classifier_options.get("hidden", ())
    for place in range(len(hidden) + 1):
        chain.conv(f"fc{6 + place}", grid_of(architecture) if place == 0 else 1)
        if place < len(hidden):
            chain.relu(f"fc{6 + place}")
    return chain.layers


LAYERS = {"resnet": resnet_layers, "vgg": vgg_layers, "vgg_m": vgg_m_layers}
REDUCTION = "conv_for_cova_conv.filters"  # its last axis is the channels of the covariance
ONE = (1, 1)
HIDDEN = ("fc6.filters", "fc7.filters")


def adapted(architecture: Architecture, described: Described, tensors: Mapping[str, np.ndarray]) -> Architecture:
    """The architecture with what a file says of it: numbers that its layers and the shapes of its tensors tell."""
    options: dict[str, dict[str, Any]] = {"features": {}, "representation": {}, "classifier": {}}
    if architecture.family == "vgg_m":
        options["features"] |= described.options["features"]
    if architecture.representation == "mpncov":
        usual = {"iterations": ITERATIONS, "normalization": "trace"}
        said = described.options["representation"].items()
        options["representation"] |= {name: value for name, value in said if usual.get(name) != value}
        if REDUCTION in tensors and architecture.representation_options.get("dimension_reduction"):
            options["representation"]["dimension_reduction"] = tensors[REDUCTION].shape[3]
    if architecture.classifier_options.get("hidden") and all(name in tensors for name in HIDDEN):
        options["classifier"]["hidden"] = tuple(tensors[name].shape[3] for name in HIDDEN)
    return with_options(architecture, options)


def require_same(architecture: Architecture, described: Described) -> None:
    """Hold what a file's layers compute to what the network does.

    Raises:
        ConversionError: they differ; the message has the first line that does.
    """
    try:
        program = program_of(LAYERS[architecture.family](architecture), described.size)
    except Refused as refusal:
        raise ConversionError(f"The file's images are of {_by(described.size)} pixels: {refusal}.") from None
    if program.size != ONE:
        raise ConversionError(
            f"The file's images are of {_by(described.size)} pixels, of which {architecture.name} makes logits at "
            f"{_by(program.size)} positions, where one is wanted."
        )
    ours, theirs = program.lines, described.lines
    for name in (*ours, *theirs):
        if ours.get(name) != theirs.get(name):
            there, here = (lines.get(name, "not there") for lines in (theirs, ours))
            raise ConversionError(
                f"The file's layers do not compute what {architecture.name} does. In the file {name} is: {there}. In "
                f"the network it is: {here}."
            )


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
