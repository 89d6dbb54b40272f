"""`attach`: second order on any functional Keras model, with the weights that it has."""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import KerasTensor

from mpncov_zoo import architectures, registry
from mpncov_zoo.assembly import as_list, deep_graph
from mpncov_zoo.backbones.keras_trunk import graph_of
from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.errors import InputError
from mpncov_zoo.load_report import LoadReport
from mpncov_zoo.specification import InputShape, InputSpecification, check_input_shape

logger = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.>-]*")  # of layers, as TensorFlow's scopes allow
OURS = re.compile(r"(covariance|representation|reduction)(_|$)|logits$|features$")  # names of stages of all networks
LONG = 200_000  # numbers of a representation: 632 channels
POSITIONS = 49  # 7x7: the covariance of fewer says little
MapShapes = Mapping[str, tuple[int, int, int]]  # layer -> height, width, channels of its output

SCALING = (keras.layers.Normalization, keras.layers.Rescaling)
PREPARING = (*SCALING, keras.layers.InputLayer, keras.layers.ZeroPadding2D)
MODES: Mapping[str, Mapping[str, Any]] = {  # of keras.applications' preprocess_input, for values scaled to [0, 1]
    "none": {"mean": (0.0,) * 3, "std": (1 / 255,) * 3},
    "tf": {"mean": (0.5,) * 3, "std": (0.5,) * 3},
    "torch": {},  # as our own networks
    "caffe": {
        "channel_order": "BGR",
        "mean": (103.939 / 255, 116.779 / 255, 123.68 / 255),
        "std": (1 / 255,) * 3,
    },
}
PREPROCESSING = (  # of keras.applications: how the names of models begin, mode, size
    (r"vgg1[69]$|resnet(50|101|152)$", "caffe", 224),
    (r"mobilenet_|mobilenetv2_|resnet(50|101|152)v2$|nasnet_mobile", "tf", 224),
    (r"xception$|inception_v3$|inception_resnet_v2$", "tf", 299),
    (r"nasnet_large", "tf", 331),
    (r"densenet(121|169|201)$", "torch", 224),
)
IMAGE_SIZES = {  # of those that prepare images themselves, where it is not 224
    **dict(zip((f"efficientnetb{n}" for n in range(1, 8)), (240, 260, 300, 380, 456, 528, 600), strict=True)),
    **{"efficientnetv2-b1": 240, "efficientnetv2-b2": 260, "efficientnetv2-b3": 300},
    **{"efficientnetv2-s": 384, "efficientnetv2-m": 480, "efficientnetv2-l": 480},
}


def attach(
    trunk: keras.Model,
    *,
    stages: Sequence[str] | None = None,
    representation: str = "mpncov",
    num_classes: int | None = None,
    labels: Sequence[str] | None = None,
    input_shape: InputShape | None = None,
    input_specification: InputSpecification | None = None,
    options: Mapping[str, registry.Options] | None = None,
) -> ImageClassifier:
    """Put a representation and a fresh classifier on a Keras model, whose weights are copied.

    The result is a network like all others here: it saves as `.keras` and as an artifact, freezes, trains, is probed,
    optimized and exported.

    Args:
        trunk: a functional model of one input, images (batch, height, width, channels), made of Keras' own layers: one
            of keras.applications, a backbone of KerasHub, or your own.
        stages: names of its layers for the representation to stand on, each of which gives one vector. What comes after
            the last of them is left out. By default the last layer with 49 positions or more. The last layers before
            every reduction of the size stay stages of the network, too, on which `load(path, stages=...)` can put
            another representation.
        representation: "mpncov", "gap", "bcnn" or "cbp".
        num_classes: length of the logits, 0 for the representation alone; by default as many as there are labels.
        labels: names of the classes, in the order of the logits.
        input_shape: (height, width, channels); height and width may be None. By default the trunk's, or the usual one.
        input_specification: how images become the input. It need not be given for a trunk of keras.applications, which
            is known by its name, or one that begins with a layer Rescaling or Normalization of values from 0 to 255. Of
            these the size, the resizing and the centre crop (0.875) are usual ones, which Keras does not state; the log
            says what was taken.
        options: of the representation and of the classifier, as `build` takes them.

    Returns:
        A network from (batch, height, width, channels) to (batch, num_classes). Its `load_report` names the variables
        that came from the trunk, and those that are fresh. Layers that do not learn in the trunk do not learn here,
        until `freeze` or a recipe says otherwise; an artifact does not keep that.

    Raises:
        InputError: the trunk is no such model, has no such layer, or its maps have fewer positions than the
            representation needs (a covariance needs 2).

    Example:
        >>> trunk = keras.applications.EfficientNetV2B0(include_top=False)
        >>> model = mpncov_zoo.attach(trunk, stages=["block5e_add"], num_classes=200)
        >>> model.load_report.fresh
        ('classifier/logits/kernel', 'classifier/logits/bias')
    """
    source = _functional(trunk)
    _require_arguments(options, input_specification)
    specification = input_specification or _known_specification(trunk.name, source)
    shape = _usual_shape(source, specification) if input_shape is None else check_input_shape(input_shape)
    _require_shape(source, shape)
    specification = specification.for_shape(shape)
    maps = _maps(source)
    sizes = _sizes(source, maps, specification)
    chosen = _default(trunk, sizes) if stages is None else architectures.check_stages(stages)
    _require_maps(trunk, chosen, sizes)
    cut = list(maps)[: 1 + max(list(maps).index(stage) for stage in chosen)]
    endpoints = [name for name in cut if name in chosen or (name in _ends(sizes) and not OURS.match(name))]
    graph = graph_of(source.inputs[0], [maps[name] for name in endpoints], trunk.name)
    model = ImageClassifier(
        architectures.attached(graph, endpoints, representation, chosen, options or {}),
        num_classes=_number_of_classes(num_classes, labels),
        input_shape=shape,
        input_specification=specification,
        labels=labels,
    )
    _copy_weights(source, model)
    _warn_of_length(model)
    named = model.named_variables()
    model.load_report = LoadReport(
        source=f"the Keras model {trunk.name}",
        loaded=tuple(name for name in named if name.startswith("features/")),
        fresh=tuple(name for name in named if not name.startswith("features/")),
    )
    return model


def _require_arguments(options: Any, input_specification: Any) -> None:
    """Refuse what Python's own errors would say less clearly."""
    parts = [*(options.values() if isinstance(options, Mapping) else [options])]
    if options is not None and not all(isinstance(part, Mapping) for part in parts):
        raise InputError(
            f'options are by part, such as {{"representation": {{"iterations": 5}}}}. Received: {options!r}.'
        )
    if "features" in (options or {}):
        raise InputError("The trunk is as it is: options are of the representation and the classifier.")
    if input_specification is not None and not isinstance(input_specification, InputSpecification):
        raise InputError(
            "input_specification is an InputSpecification, such as mpncov_zoo.info('resnet50').input. Received: "
            f"{input_specification!r}."
        )


def _require_shape(source: keras.Model, shape: InputShape) -> None:
    """Hold the shape of images to that of a trunk that fixes it."""
    own = source.inputs[0].shape[1:]
    if any(size not in (None, wanted) for size, wanted in zip(own, shape, strict=True)):
        raise InputError(f"The trunk takes images of {own}. Received: {shape}; build the trunk for that shape.")


def _functional(trunk: keras.Model) -> keras.Model:
    """The trunk as a plain functional model of one input.

    Raises:
        InputError: it is none.
    """
    if isinstance(trunk, ImageClassifier):
        raise InputError(f"{trunk.name} is a network of mpncov_zoo: load(name, representation=..., stages=[...]).")
    inputs = getattr(trunk, "inputs", None) if isinstance(trunk, keras.Model) else None
    outputs = getattr(trunk, "outputs", None)
    if not inputs or not outputs:
        raise InputError(
            "attach takes a functional Keras model, or a built Sequential, whose layers can be named. Received: "
            f"{type(trunk).__name__}; make one of it: keras.Model(inputs, outputs)."
        )
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[-1] not in (1, 3):
        shapes = ", ".join(str(tensor.shape) for tensor in inputs)
        raise InputError(
            f"A trunk has one input, images (batch, height, width, 1 or 3 channels). Received: {shapes}; cut the model "
            "to such a part: keras.Model(images, features)."
        )
    for layer in trunk._flatten_layers(include_self=False):
        if not NAME.fullmatch(layer.name):
            raise InputError(
                f"TensorFlow's files hold names of letters, digits, '_', '.' and '-'. Received: a layer {layer.name!r}."
            )
        if getattr(layer, "data_format", None) == "channels_first":
            raise InputError(
                f"Images are (batch, height, width, channels) here, and the layer {layer.name!r} has 'channels_first': "
                "build the trunk under keras.config.set_image_data_format('channels_last')."
            )
    with deep_graph():
        return keras.Model(inputs[0], list(outputs))


def _known_specification(name: str, source: keras.Model) -> InputSpecification:
    """How images become the input of a trunk of keras.applications, or of one that takes pixels.

    Raises:
        InputError: it is neither.
    """
    first = next((op for op in source.operations if not isinstance(op, keras.layers.InputLayer)), None)
    if _takes_pixels(first):
        mode, size = "none", IMAGE_SIZES.get(name, 224)
    else:
        known = ((mode, size) for pattern, mode, size in PREPROCESSING if re.match(pattern, name))
        mode, size = next(known, ("", 0))
    if not mode:
        raise InputError(
            f"How images become the input of {name!r} is not known: pass input_specification=, such as "
            "mpncov_zoo.info('resnet50').input, or one made by mpncov_zoo.InputSpecification."
        )
    usual = registry.IMAGENET_INPUT.model_copy(update={"size": (size, size), **MODES[mode]})
    height, width, _ = source.inputs[0].shape[1:]
    known = usual if None in (height, width) else usual.for_shape((height, width, usual.channels))
    logger.info("%s: images are taken to be prepared so: %s", name, known)
    return known


def _takes_pixels(first: Any) -> bool:
    """Whether a trunk's first layer scales values from 0 to 255."""
    if isinstance(first, keras.layers.Rescaling):
        return bool(np.max(first.scale) < 0.1)
    return isinstance(first, keras.layers.Normalization) and bool(keras.ops.max(first.mean) > 2)


def _usual_shape(source: keras.Model, specification: InputSpecification) -> InputShape:
    """The trunk's own shape of images, or that of the specification."""
    height, width, channels = source.inputs[0].shape[1:]
    return (*specification.size, channels) if None in (height, width) else (height, width, channels)


def _maps(source: keras.Model) -> dict[str, KerasTensor]:
    """The outputs (batch, height, width, channels) of layers, in order.

    Layers that only prepare the image, and layers that are called more than once, are left out.

    Raises:
        InputError: none is left.
    """
    made: dict[int, list[KerasTensor]] = {}  # by the operation, in this graph: it may have been called in others, too
    waiting, seen = list(source.outputs), set()
    while waiting:
        operation, call, _ = waiting.pop()._keras_history
        node = operation._inbound_nodes[call]
        if id(node) not in seen:
            seen.add(id(node))
            made.setdefault(id(operation), []).extend(node.output_tensors)
            waiting.extend(node.input_tensors)
    candidates = [(op.name, made[id(op)]) for op in source.operations if not isinstance(op, PREPARING)]
    found = {name: maps[0] for name, maps in candidates if len(maps) == 1 and len(maps[0].shape) == 4}
    if not found:
        raise InputError(f"{source.name} has no layer of its own that gives a map (batch, height, width, channels).")
    return found


def _sizes(source: keras.Model, maps: Mapping[str, KerasTensor], specification: InputSpecification) -> MapShapes:
    """Height, width and channels of every map, for images of the specification's size."""
    wanted = (None, *specification.size, specification.channels)
    with deep_graph():
        model = keras.Model(source.inputs[0], list(maps.values()))
        try:
            shapes = model.compute_output_shape(wanted)
        except ValueError as error:
            raise InputError(f"The trunk takes no images of {wanted[1:]}: nothing is left of them.") from error
    return {name: tuple(shape[1:]) for name, shape in zip(maps, as_list(shapes), strict=True)}


def _ends(sizes: MapShapes) -> tuple[str, ...]:
    """The last map of each height and width."""
    return tuple({(height, width): name for name, (height, width, _) in sizes.items()}.values())


def _default(trunk: keras.Model, sizes: MapShapes) -> tuple[str, ...]:
    enough = [name for name, (height, width, _) in sizes.items() if height * width >= POSITIONS]
    if len(trunk.outputs[0].shape) != 4 or not enough:
        problem = f"has no map of {POSITIONS} positions" if not enough else "has a top, and ends in no map"
        raise InputError(f"{trunk.name} {problem}: build it with include_top=False, or name stages. {_offer(sizes)}")
    return (enough[-1],)


def _require_maps(trunk: keras.Model, stages: Sequence[str], sizes: MapShapes) -> None:
    taken = [stage for stage in stages if OURS.match(stage) and stage in sizes]
    if taken:
        raise InputError(f"{taken[0]!r} is the name of a stage that every network has: give the layer another name.")
    unknown = [stage for stage in stages if stage not in sizes]
    if unknown or not stages:
        received = ", ".join(unknown) or "none"
        raise InputError(f"stages of {trunk.name} are layers that give maps. Received: {received}. {_offer(sizes)}")


def _offer(sizes: MapShapes) -> str:
    """The last layer before every reduction of the size."""
    ends = (f"{name} {'x'.join(map(str, sizes[name]))}" for name in _ends(sizes))
    return f"Those before each reduction are {', '.join(ends)}." if sizes else "It has none."


def _number_of_classes(num_classes: int | None, labels: Sequence[str] | None) -> int:
    if num_classes is None and not labels:
        raise InputError("The classifier is fresh: say how many classes it has, num_classes= or labels=.")
    return len(labels) if num_classes is None and labels is not None else num_classes  # pyright: ignore


def _warn_of_length(model: ImageClassifier) -> None:
    length = model.representation.output_shape[-1]
    if length > LONG:
        logger.warning(
            "%s: the representation has %s numbers an image. An earlier stage has fewer channels, and "
            'options={"representation": {"dimension_reduction": 256}} reduces them by a fresh convolution',
            model.name,
            f"{length:,}",
        )


def _copy_weights(source: keras.Model, model: ImageClassifier) -> None:
    """Give the features the weights of the trunk, and the flags whether a layer learns."""
    layers = {layer.name: layer for layer in source.layers}
    normalizations = (layer for layer in source._flatten_layers() if isinstance(layer, keras.layers.Normalization))
    constants = {id(variable) for layer in normalizations for variable in layer.weights}  # in the graph, by `graph_of`
    for layer in model.features.layers:
        if layer.weights:
            given = [variable for variable in layers[layer.name].weights if id(variable) not in constants]
            for variable, value in zip(layer.weights, given, strict=True):
                variable.assign(value)
            pairs = zip(layer._flatten_layers(), layers[layer.name]._flatten_layers(), strict=True)
            for own, given in pairs:  # a model within before its layers, which it sets, too
                own.trainable = given.trainable
