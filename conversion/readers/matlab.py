"""Reads MATLAB's files: the list of the published TensorFlow code, or a network of MatConvNet with all it says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conversion.readers import matlab5, matlab73
from conversion.readers.mat import read_mat, require_format_5
from conversion.readers.matconvnet import is_network, layers_of, network_of, refuse_objects
from conversion.readers.matconvnet_meta import classes_of, image_size, input_of, metadata
from conversion.readers.matconvnet_program import Program, program_of
from conversion.readers.matconvnet_tensors import frozen, tensors_of
from conversion.readers.matlab_values import Value
from conversion.readers.reading import Described, Refused, StoredTensors, mapped, reading


def read_matlab(path: Path) -> StoredTensors:
    """Read a `.mat` file of the formats 5 or 7.3.

    Args:
        path: the file; nothing in it is trusted.

    Returns:
        The entries of the list `params`, as `read_mat` names them; or a network's tensors as `<layer>.<what>`, where
        what is filters (height, width, in, out), biases, multipliers, mean and variance (channels,).

    Raises:
        ConversionError: the file is damaged, or holds neither.
    """
    with reading(path, "MATLAB"):
        data = mapped(path)
        if bytes(data[:10]) == b"MATLAB 7.3":
            variables = matlab73.values(path)
            if not is_network(variables):
                require_format_5(data)
            return _network(variables)
        require_format_5(data)
        names = matlab5.names(data)
        if is_network(names):
            refuse_objects(names)
            return _network(matlab5.values(data))
        return StoredTensors(read_mat(path))


def _network(variables: Mapping[str, Value]) -> StoredTensors:
    network = network_of(variables)
    layers, meta = layers_of(network), metadata(network)
    size = image_size(meta)
    program = program_of(layers, size)
    tensors, notes = tensors_of(layers, program)
    labels: tuple[str, ...] | None = None
    if f"{program.last}.filters" in tensors:
        order, labels, more = classes_of(meta, tensors[f"{program.last}.filters"].shape[3])
        notes += more
        for what in ("filters", "biases"):
            name = f"{program.last}.{what}"
            if name in tensors:
                tensors[name] = frozen(tensors[name][..., order])
    images, more = input_of(meta)
    described = Described(program.lines, size, _options(program), images, labels, notes + more)
    return StoredTensors(tensors, network=described)


def _options(program: Program) -> dict[str, dict[str, Any]]:
    """The architecture's options that the layers say."""
    one = {
        "local_response": program.responses,
        "iterations": program.iterations,
        "power": program.powers,
        "normalization": program.normalizations,
    }
    for name, values in one.items():
        if len(values) > 1:
            raise Refused(f"its layers have several values of {name}: {', '.join(map(str, values))}")
    options = {name: values[0] for name, values in one.items() if values}
    features = {name: options.pop(name) for name in ("local_response",) if name in options}
    return {"features": features, "representation": options}
