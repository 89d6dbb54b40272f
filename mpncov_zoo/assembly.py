"""How the three parts of a network are built and joined, under which numbers and options they can be."""

import sys
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import keras
from keras import KerasTensor, layers

from mpncov_zoo import backbones, representations
from mpncov_zoo.backbones.blocks import dense, full_precision, skip_initialization
from mpncov_zoo.errors import InputError
from mpncov_zoo.registry import BACKBONES, PARTS, REPRESENTATIONS, Architecture, Options
from mpncov_zoo.specification import InputShape, check_input_shape, is_whole

Endpoints = dict[str, KerasTensor]
Builder = Callable[[KerasTensor], Endpoints]


@dataclass(frozen=True)
class Part:
    """A sub-model, and the tensors in it that have a name."""

    model: keras.Model
    endpoints: Endpoints


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
    require_channels_last()
    inputs = keras.Input(shape, name="images")
    with _usable_options(architecture, shape):
        features = _part("features", inputs, _features(architecture), initialize)
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


def _part(name: str, like: KerasTensor, builder: Builder, initialize: Collection[str]) -> Part:
    """A sub-model on inputs shaped like a tensor."""
    inputs = keras.Input(like.shape[1:], dtype=like.dtype)
    with nullcontext() if name in initialize else skip_initialization():
        endpoints = builder(inputs)
    with deep_graph():
        return Part(keras.Model(inputs, list(endpoints.values())[-1], name=name), endpoints)


def _require_positions(features: Part, architecture: Architecture, shape: InputShape) -> None:
    """Refuse images that leave too few positions for the representation; the message says which size is enough."""
    needed = REPRESENTATIONS[architecture.representation].least_positions
    height, width = features.model.output.shape[1:3]
    if height is None or width is None or height * width >= needed:
        return
    size = _least_size(architecture, shape[2], needed)
    raise InputError(
        f"{architecture.name} makes features of {height}x{width} positions from images of {shape[0]}x{shape[1]}, and "
        f"{architecture.representation} needs {needed} positions or more. The smallest square images are {size}x{size}."
    )


def _least_size(architecture: Architecture, channels: int, positions: int) -> int:
    """The smallest height and width of images for which the features have so many positions."""
    inputs = keras.Input((None, None, channels))
    with skip_initialization():
        outputs = list(_features(architecture)(inputs).values())[-1]
    with deep_graph():
        model = keras.Model(inputs, outputs)

    def enough(size: int) -> bool:
        try:
            _, height, width, _ = model.compute_output_shape((None, size, size, channels))
        except ValueError:  # nothing is left of so small an image
            return False
        return height * width >= positions

    return bisect_left(range(4096), True, key=enough)


@contextmanager
def _usable_options(architecture: Architecture, input_shape: InputShape) -> Iterator[None]:
    """What the builders and Keras refuse, an unknown option or a bad value, as the package's error."""
    try:
        yield
    except InputError:
        raise
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        options = {part: getattr(architecture, f"{part}_options") for part in PARTS}
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise InputError(
            f"{architecture.name} cannot be built with options {options} for images of {input_shape}: {reason}."
        ) from error


def require_channels_last() -> None:
    """Refuse Keras' other layout of images.

    Raises:
        InputError: `image_data_format` is "channels_first".
    """
    if keras.config.image_data_format() != "channels_last":
        raise InputError(
            "Images are (batch, height, width, channels) here, and keras.json or this program says 'channels_first': "
            "keras.config.set_image_data_format('channels_last')."
        )


def _features(architecture: Architecture) -> Builder:
    function = backbones.FAMILIES[BACKBONES[architecture.backbone].family]
    return lambda inputs: function(inputs, **architecture.features_options)


def _representation(architecture: Architecture) -> Builder:
    function = representations.BUILDERS[architecture.representation]
    return lambda inputs: function(inputs, **architecture.representation_options)


def _classifier(num_classes: int, options: Options) -> Builder:
    def build(inputs: KerasTensor, *, hidden: Sequence[int] = (), dropout: float = 0.0) -> dict[str, KerasTensor]:
        x = inputs
        for index, units in enumerate(hidden, 1):
            x = dense(x, units, activation="relu", name=f"fc{index}")
            x = layers.Dropout(dropout, dtype=full_precision(), name=f"dropout{index}")(x)
        return {"logits": dense(x, num_classes, name="logits")}

    return lambda inputs: build(inputs, **options)
