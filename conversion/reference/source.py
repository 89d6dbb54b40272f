"""Makes the PyTorch network that a recognised checkpoint belongs to, with the weights of the checkpoint."""

# pyright: reportMissingImports=false
# (torch is installed only where parity is checked)

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from conversion.maps.upstream_tensorflow import count_by_role
from conversion.recognition import Recognition
from mpncov_zoo.architectures import Architecture
from mpncov_zoo.errors import InputError

if TYPE_CHECKING:
    from torch import nn

State = dict[str, np.ndarray]


@dataclass(frozen=True)
class Reference:
    """A PyTorch network with its weights, whose forward gives every stage under our names."""

    network: "nn.Module"

    def stages(self, images: np.ndarray, device: str, *, precision: str) -> dict[str, np.ndarray]:
        """What every stage computes.

        Args:
            images: (batch, height, width, channels).
            device: "cpu" or "gpu".
            precision: "float32" or "float64".

        Returns:
            Arrays by stage; feature maps are (batch, height, width, channels).
        """
        import torch

        place, dtype = "cuda" if device == "gpu" else "cpu", getattr(torch, precision)
        with torch.inference_mode(), _threads(self.network):
            inputs = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(place, dtype)
            outputs = self.network.to(place, dtype).eval()(inputs)
            return {name: _channels_last(value.cpu().numpy()) for name, value in outputs.items()}


@contextmanager
def _threads(network: "nn.Module") -> Iterator[None]:
    """Depthwise convolutions on one thread: PyTorch's others wait at every channel, minutes on a busy machine."""
    import torch

    before = torch.get_num_threads()
    if any(getattr(layer, "groups", 1) > 1 for layer in network.modules()):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _channels_last(array: np.ndarray) -> np.ndarray:
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def source_network(
    recognition: Recognition, num_classes: int, tensors: Mapping[str, np.ndarray]
) -> tuple[Reference, str]:
    """The network that a file belongs to, with the file's weights, and what to call that network.

    The peer's network gets a tensor by its name in the file, not by the map to our variables, so that parity finds an
    error in the map.

    Args:
        recognition: what the file's names say.
        num_classes: length of the logits; 0 for none.
        tensors: the file's tensors, by its own names.

    Raises:
        InputError: a package that has the network is not installed.
    """
    import torch

    from conversion.reference.matconvnet import by_layer
    from conversion.reference.network import Network

    family = recognition.family
    peer = _peer(family.reference)(recognition.architecture)
    network = Network(peer, recognition.architecture, num_classes)
    weights = {usual: tensors[own] for own, usual in recognition.names.items()}
    counters = {key: value for key, value in network.state_dict().items() if key.endswith("num_batches_tracked")}
    if family.naming.found_by == "name":
        state = {peer.tensor(name): value for name, value in weights.items()}
    elif family.naming.found_by == "layer":
        state = by_layer(peer, network, weights)
    else:
        state = _FOUND_BY[family.naming.found_by](network, weights)
    loaded = {key: torch.from_numpy(np.array(value, np.float32)) for key, value in state.items()}
    network.load_state_dict({**counters, **loaded}, strict=True)
    return Reference(network), peer.name


def _peer(reference: str) -> Callable[[Architecture], Any]:
    module, name = reference.split(":")
    try:
        return getattr(import_module(f"conversion.reference.{module}"), name)
    except ImportError as error:
        package = (error.name or module).replace("_", "-")
        raise InputError(f"Parity runs another project's own network: pip install --no-deps {package}") from None


def _by_role(network: "nn.Module", weights: State) -> State:
    """Keras' weights in PyTorch's order of axes: the i-th kernel is that of the i-th layer with a kernel, and so on."""
    names = _weight_names(network)
    sources = count_by_role(_role(network, name) for name in names)
    return {name: _pytorch_axes(weights[source]) for name, source in zip(names, sources, strict=True)}


def _by_position(network: "nn.Module", weights: State) -> State:
    """The published list: the layers in the order of the network, and each layer's variables in Keras' order."""
    names = _weight_names(network)
    return {name: _pytorch_axes(value) for name, value in zip(names, weights.values(), strict=True)}


def _weight_names(network: "nn.Module") -> list[str]:
    return [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]


def _role(network: "nn.Module", name: str) -> str:
    from torch import nn

    layer, _, leaf = name.rpartition(".")
    normalization = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    plain = {"weight": "kernel", "bias": "bias"}
    return (normalization if isinstance(network.get_submodule(layer), nn.BatchNorm2d) else plain)[leaf]


def _pytorch_axes(array: np.ndarray) -> np.ndarray:
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if array.ndim == 2:
        return array[0] if len(array) == 1 else array.T
    return array


_FOUND_BY: Mapping[str, Callable[[Any, State], State]] = {
    "position": _by_position,
    "role": _by_role,
}
