"""What our networks compute, in MatConvNet's own terms: the layers that a file of MatConvNet must have.

Names and shapes alone do not tell a stride, a pool, or a normalisation without weights. So a network is listed here as
MatConvNet's `examples/imagenet` do it, and what a file's layers compute must be, line by line, what these do.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from conversion.maps.matconvnet import grid_of, linear_layers
from conversion.readers.matconvnet import Layer
from conversion.readers.matconvnet_program import program_of
from conversion.readers.reading import Described, Refused
from mpncov_zoo.architectures import Architecture
from mpncov_zoo.backbones import vgg_m
from mpncov_zoo.errors import ConversionError
from mpncov_zoo.registry import Options
from mpncov_zoo.representations.newton_schulz import ITERATIONS


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
    names = linear_layers(architecture)
    for name in names:
        chain.conv(name, grid_of(architecture) if name == names[0] else 1)
        if name != names[-1]:
            chain.relu(name)
    return chain.layers


LAYERS = {"resnet": resnet_layers, "vgg": vgg_layers, "vgg_m": vgg_m_layers}
ONE = (1, 1)  # position


def require_same(architecture: Architecture, described: Described, *, logits: bool = True) -> None:
    """Hold what a file's layers compute to what the network does.

    Args:
        architecture: of the network.
        described: what the file says.
        logits: whether the file has them. If not, it may have the hidden layers before them, in order.

    Raises:
        ConversionError: they differ; the message has the first line that does.
    """
    layers, wanted = LAYERS[architecture.family](architecture), ONE
    if not logits:
        layers, wanted = _up_to_the_absent(layers, architecture, described)
    try:
        program = program_of(layers, described.size)
    except Refused as refusal:
        raise ConversionError(f"The file's images are of {_by(described.size)} pixels: {refusal}.") from None
    if program.size != wanted:
        raise ConversionError(
            f"The file's images are of {_by(described.size)} pixels, of which {architecture.name} makes "
            f"{'logits' if logits else 'its last maps'} at {_by(program.size)} positions, where {_by(wanted)} are "
            "wanted."
        )
    ours, theirs = program.lines, described.lines
    for name in (*ours, *theirs):
        if ours.get(name) != theirs.get(name):
            there, here = (lines.get(name, "not there") for lines in (theirs, ours))
            raise ConversionError(
                f"The file's layers do not compute what {architecture.name} does. In the file {name} is: {there}. In "
                f"the network it is: {here}."
            )


def _up_to_the_absent(
    layers: list[Layer], architecture: Architecture, described: Described
) -> tuple[list[Layer], tuple[int, int]]:
    """The layers before the first of the classifier's that a file has not, and at how many positions they end."""
    names = [layer.name for layer in layers]
    linear = [name for name in names if name in linear_layers(architecture)]
    absent = next(name for name in linear if name not in described.lines)
    grid = grid_of(architecture)
    flattened = architecture.representation == "flatten" and absent == linear[0]
    return layers[: names.index(absent)], (grid, grid) if flattened else ONE


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
