"""How the three parts of a network are built and joined, under which numbers and options they can be."""

import re
import sys
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import keras
from keras import KerasTensor, layers

from mpncov_zoo import backbones, representations
from mpncov_zoo.architectures import PARTS, Architecture
from mpncov_zoo.backbones.blocks import dense, full_precision, skip_initialization
from mpncov_zoo.errors import InputError
from mpncov_zoo.registry import REPRESENTATIONS, Options
from mpncov_zoo.specification import InputShape, check_input_shape, is_whole

Endpoints = dict[str, KerasTensor]
Builder = Callable[[Any], Endpoints]  # of one tensor, or of a list of them


@dataclass(frozen=True)
class Part:
    """A sub-model, and the tensors in it that have a name.

    Attributes:
        model: of one output, or of several, if the representation stands on several stages.
        endpoints: its named tensors, in order.
        left_out: names of the variables that the builder made beyond the outputs, and that are no part of it.
    """

    model: keras.Model
    endpoints: Endpoints
    left_out: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Assembly:
    """The parts of a network and how they are joined: `inputs` are images, `outputs` logits or the representation."""

    inputs: KerasTensor
    outputs: KerasTensor
    features: Part
    representation: Part
    classifier: Part | None


def assemble(
    architecture: Architecture, num_classes: int, input_shape: Sequence[int | None], initialize: Collection[str] = PARTS
) -> Assembly:
    """Build the parts of a network and join them.

    Args:
        architecture: the network; a row of the registry.
        num_classes: length of the logits; 0 leaves the classifier out.
        input_shape: (height, width, channels); height and width may be None.
        initialize: the parts whose kernels are drawn at random; the others start at zero, about to be read.

    Raises:
        InputError: these do not make a network.
    """
    check_num_classes(num_classes)
    shape = check_input_shape(input_shape)
    require_keras_settings()
    inputs = keras.Input(shape, name="images")
    with _usable_options(architecture, shape):
        features = _part("features", inputs, _features(architecture), initialize, architecture.stages)
        _require_positions(features, architecture, shape)
        summary = _part("representation", features.model.output, _representation(architecture), initialize)
        outputs, classifier = summary.model(features.model(inputs)), None
        if num_classes:
            head = _classifier(num_classes, architecture.classifier_options)
            classifier = _part("classifier", summary.model.output, head, initialize)
            outputs = classifier.model(outputs)
    return Assembly(inputs, outputs, features, summary, classifier)


def check_num_classes(num_classes: int) -> int:
    """The number itself.

    Raises:
        InputError: it is not a whole number from 0 on.
    """
    if not is_whole(num_classes) or num_classes < 0:
        raise InputError(f"num_classes must be a whole number, 0 for the representation. Received: {num_classes!r}.")
    return int(num_classes)


@contextmanager
def precision(policy: str) -> Iterator[None]:
    """Within this context networks are built under a dtype policy, for example "mixed_bfloat16"."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextmanager
def deep_graph() -> Iterator[None]:
    """Keras walks a model's graph by recursion, a frame a layer: more than Python allows from 1000 layers on."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, 20_000))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _part(name: str, like: Any, builder: Builder, initialize: Collection[str], outputs: Sequence[str] = ()) -> Part:
    """A sub-model on inputs shaped like a tensor or tensors, to its last endpoint or to those named, and no further."""
    exact = name != "features" and full_precision() == "float64"  # which Keras calls float32 on PyTorch and JAX
    shaped = [keras.Input(tensor.shape[1:], dtype="float64" if exact else tensor.dtype) for tensor in as_list(like)]
    inputs = shaped if isinstance(like, list) else shaped[0]
    with nullcontext() if name in initialize else skip_initialization():
        endpoints = builder(inputs)
    unknown = [output for output in outputs if output not in endpoints]
    if unknown:
        raise InputError(f"The trunk has the stages {', '.join(endpoints)}. Received: {', '.join(unknown)}.")
    with deep_graph():
        if not outputs:
            return Part(keras.Model(inputs, list(endpoints.values())[-1], name=name), endpoints)
        whole = keras.Model(inputs, list(endpoints.values()))
        chosen = [endpoints[output] for output in outputs]
        model = keras.Model(inputs, chosen[0] if len(chosen) == 1 else chosen, name=name)
    left_out = {variable.path for variable in whole.variables} - {variable.path for variable in model.variables}
    last = max(list(endpoints).index(output) for output in outputs)
    return Part(model, dict(list(endpoints.items())[: last + 1]), frozenset(f"{name}/{path}" for path in left_out))


def as_list(tensors: Any) -> list[KerasTensor]:
    """One tensor, or a list of tensors, as a list."""
    return tensors if isinstance(tensors, list) else [tensors]


def _require_positions(features: Part, architecture: Architecture, shape: InputShape) -> None:
    """Refuse images that leave too few positions for the representation; the message says which size is enough."""
    needed = REPRESENTATIONS[architecture.representation].least_positions
    sizes = [tensor.shape[1:3] for tensor in as_list(features.model.output)]
    few = [size for size in sizes if None not in size and size[0] * size[1] < needed]
    if not few:
        return
    height, width = few[0]
    size = _least_size(architecture, shape[2], needed)
    raise InputError(
        f"{architecture.name} makes features of {height}x{width} positions from images of {shape[0]}x{shape[1]}, and "
        f"{architecture.representation} needs {needed} positions or more. The smallest square images are {size}x{size}."
    )


def _least_size(architecture: Architecture, channels: int, positions: int) -> int:
    """The smallest height and width of images for which the features have so many positions."""
    inputs = keras.Input((None, None, channels))
    with skip_initialization():
        endpoints = _features(architecture)(inputs)
    names = architecture.stages or list(endpoints)[-1:]
    with deep_graph():
        model = keras.Model(inputs, [endpoints[name] for name in names])

    def enough(size: int) -> bool:
        try:
            shapes = model.compute_output_shape((None, size, size, channels))
        except ValueError:  # nothing is left of so small an image
            return False
        return all(height * width >= positions for _, height, width, _ in shapes)

    return bisect_left(range(4096), True, key=enough)


@contextmanager
def _usable_options(architecture: Architecture, input_shape: InputShape) -> Iterator[None]:
    """What the builders and Keras refuse, an unknown option or a bad value, as the package's error."""
    try:
        yield
    except InputError:
        raise
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        options = {part: dict(getattr(architecture, f"{part}_options")) for part in PARTS}
        options["features"].pop("graph", None)  # of a Keras model, thousands of letters
        lines = re.sub("\x1b\\[[0-9]*m", "", str(error) or type(error).__name__).splitlines()
        own = [
            line for line in lines if line.strip() and not line.startswith("Exception encountered")
        ]  # not Keras' frame
        reason = (own or lines)[0].strip().rstrip(".")
        raise InputError(
            f"{architecture.name} cannot be built with options {options} for images of {input_shape}: {reason}."
        ) from error


def require_keras_settings() -> None:
    """Refuse Keras' other layout of images, and weights of another type.

    Raises:
        InputError: `image_data_format` is "channels_first", or `floatx` is not "float32".
    """
    if keras.config.image_data_format() != "channels_last":
        raise InputError(
            "Images are (batch, height, width, channels) here, and keras.json or this program says 'channels_first': "
            "keras.config.set_image_data_format('channels_last')."
        )
    if keras.config.floatx() != "float32":
        raise InputError(
            f"Weights are float32 here, and keras.json or this program says floatx {keras.config.floatx()!r}: set it "
            "to float32 there, or keras.config.set_floatx('float32'). Mixed precision is a dtype policy."
        )


def _features(architecture: Architecture) -> Builder:
    function = backbones.FAMILIES[architecture.family]
    return lambda inputs: function(inputs, **architecture.features_options)


def _representation(architecture: Architecture) -> Builder:
    """The representation of the trunk's end, or of each of its stages, then joined to one vector."""
    function = representations.BUILDERS[architecture.representation]

    def one(features: KerasTensor, suffix: str, *, l2_normalize: bool = False, **options: Any) -> Endpoints:
        endpoints = function(features, suffix=suffix, **options)
        if l2_normalize:
            unit = layers.UnitNormalization(dtype=full_precision(), name=f"l2{suffix}")
            endpoints["representation"] = unit(endpoints["representation"])
        return {f"{name}{suffix}": tensor for name, tensor in endpoints.items()}

    def build(inputs: Any) -> Endpoints:
        options, endpoints, vectors = architecture.representation_options, {}, []
        if not architecture.stages:
            return one(inputs, "", **options)
        for stage, features in zip(architecture.stages, as_list(inputs), strict=True):
            endpoints |= one(features, f"_{stage}", **options)
            vectors.append(endpoints[f"representation_{stage}"])
        if len(vectors) == 1:
            del endpoints[f"representation_{architecture.stages[0]}"]  # the same as the whole
            return {**endpoints, "representation": vectors[0]}
        joined = layers.Concatenate(dtype=full_precision(), name="joined")(vectors)
        return {**endpoints, "representation": joined}

    return build


def _classifier(num_classes: int, options: Options) -> Builder:
    def build(
        inputs: KerasTensor, *, hidden: Sequence[int] = (), dropout: float | Sequence[float] = 0.0
    ) -> dict[str, KerasTensor]:
        x = inputs
        if isinstance(dropout, Sequence) and len(dropout) != len(hidden):
            raise ValueError(f"{len(hidden)} hidden layers need as many rates of dropout, or one for all: {dropout}")
        for index, units in enumerate(hidden, 1):
            rate = dropout[index - 1] if isinstance(dropout, Sequence) else dropout
            x = dense(x, units, activation="relu", name=f"fc{index}")
            x = layers.Dropout(rate, dtype=full_precision(), name=f"dropout{index}")(x)
        return {"logits": dense(x, num_classes, name="logits")}

    return lambda inputs: build(inputs, **options)
