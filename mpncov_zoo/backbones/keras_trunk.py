"""Any functional Keras model as a trunk: its graph as plain data, and the graph again from that data."""

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import keras
from keras import KerasTensor

from mpncov_zoo.errors import InputError

OWN = (  # modules whose classes a graph may name: Keras finds, and runs, whatever is named
    *("keras", "keras.activations", "keras.constraints", "keras.dtype_policies", "keras.initializers", "keras.layers"),
    *("keras.models", "keras.regularizers", "keras.src.models.functional", "keras.src.models.sequential"),
)
OWN_PACKAGES = ("keras.src.applications.", "keras.src.layers.", "keras.src.ops.", "keras_hub.src.models.")
FOREIGN = {  # of Keras, too, and yet made to run the code or read the files of others
    *("Lambda", "__lambda__", "function", "TFSMLayer", "JaxLayer", "FlaxLayer", "TorchModuleWrapper"),
    *("StringLookup", "IntegerLookup", "TextVectorization"),
}
NO_LAYERS = re.compile("tokenizer|preprocess|converter|packer")  # of KerasHub, which read files


def keras_trunk(inputs: KerasTensor, *, graph: Mapping[str, Any], endpoints: Sequence[str]) -> dict[str, KerasTensor]:
    """Rebuild a trunk from its graph.

    Args:
        inputs: images, (batch, height, width, channels).
        graph: what `graph_of` gave.
        endpoints: names for the graph's outputs, in their order.

    Returns:
        The endpoints.

    Raises:
        InputError: the graph names a class that is none of Keras' own.
    """
    _require_own_classes(graph)
    trunk = keras.Model.from_config(deepcopy(dict(graph)))  # Keras takes entries out of it
    moved = keras.models.clone_model(trunk, input_tensors=inputs, clone_function=lambda layer: layer)
    return dict(zip(endpoints, moved.outputs, strict=True))


def graph_of(inputs: KerasTensor, outputs: Sequence[KerasTensor], name: str) -> dict[str, Any]:
    """The part of a functional model between two ends as plain data, without weights.

    Dtype policies and the flags whether a layer learns are not stored. Statistics that a `Normalization` has
    learned become constants of the graph, as Keras computes with them.

    Args:
        inputs: the model's only input.
        outputs: the tensors that `keras_trunk` gives again.
        name: of the trunk.

    Raises:
        InputError: a layer is none of Keras' own, or cannot be serialised.
    """
    try:
        model = keras.Model(inputs, list(outputs), name=name)
        graph = _plain(_with_statistics(model.get_config(), model))
    except (NotImplementedError, TypeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise InputError(f"{name} cannot be described as data: {reason}. Build it of Keras' own layers.") from error
    _require_own_classes(graph)
    return graph


def _with_statistics(config: dict[str, Any], model: keras.Model) -> dict[str, Any]:
    """The configuration with what every layer `Normalization` subtracts and divides by."""
    layers = {layer.name: layer for layer in model.layers}
    for described in config.get("layers", []):
        inner = described["config"]
        layer: Any = layers.get(inner.get("name"))
        if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:
            values = {"mean": layer.mean, "variance": layer.variance}
            shape = layer.adapt_mean.shape  # of the axes that have statistics of their own
            inner.update({name: keras.ops.convert_to_numpy(v).reshape(shape) for name, v in values.items()})
        elif isinstance(layer, keras.Model):
            _with_statistics(inner, layer)
    return config


def _plain(value: Any) -> Any:
    """As JSON holds it, without dtype policies and the flags whether a layer learns."""
    if isinstance(value, Mapping):
        kept = ((key, item) for key, item in value.items() if key != "trainable" and not _is_policy(key, item))
        return {str(key): _plain(item) for key, item in kept}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if hasattr(value, "tolist"):  # NumPy's numbers and arrays
        return value.tolist()
    raise TypeError(f"{value!r} is no plain data")


def _is_policy(key: str, value: Any) -> bool:
    return key == "dtype" and isinstance(value, Mapping) and "Policy" in str(value.get("class_name"))


def _require_own_classes(graph: Any) -> None:
    for described in _objects(graph):
        if not _is_own(described):
            inner = described.get("config")
            name = inner.get("name") if isinstance(inner, Mapping) else None
            raise InputError(
                "A trunk is made of layers of Keras and KerasHub, which any machine can build without running code "
                f"that came with it. Received: {described['class_name']} of {described.get('module') or 'no module'}"
                f"{f', the layer {name!r}' if name else ''}; attach takes the part before it by stages=."
            )


def _is_own(described: Mapping[str, Any]) -> bool:
    module, called = str(described.get("module") or "keras"), described["class_name"]
    registered = described.get("registered_name")  # which Keras looks up first
    if called in FOREIGN or registered not in (None, called, f"keras_hub>{called}"):
        return False
    if module.startswith("keras_hub."):
        return module.startswith(OWN_PACKAGES) and not NO_LAYERS.search(f"{module}.{called}".lower())
    return module in OWN or module.startswith(OWN_PACKAGES)


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every description of an object within plain data."""
    if isinstance(value, Mapping):
        if isinstance(value.get("class_name"), str):
            yield value
        for item in value.values():
            yield from _objects(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _objects(item)
