"""What `benchmarks.accelerator` times: one call of the head or of a network, forward or with its gradient.

Ours on the backend of Keras in use, or the published layer and network in PyTorch; from the same seeded numbers.
"""

# pyright: reportMissingImports=false
# (of the backends only those that are installed are measured)

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import head, published_heads
from benchmarks.side_by_side import Request
from mpncov_zoo import architectures

Call = Callable[[], Any]  # whose result is not waited for


def prepared(folder: Path, what: Request) -> Any:
    """The seeded checkpoint of a network, read and planned, on the CPU."""
    from conversion.devices import on
    from conversion.preparation import prepare

    architecture = architectures.of_model(what["model"], options=what["options"], stages=())
    with on("cpu"):
        return prepare(folder / what["model"], what["model"], architecture=architecture)


def network(folder: Path, what: Request, policy: str, size: int | None) -> Any:
    """Ours with the weights of the seeded checkpoint, under a dtype policy, for square images of one size or of any."""
    from mpncov_zoo.assembly import precision
    from tests.networks import of_architecture

    conversion = prepared(folder, what)
    with precision(policy):
        model = of_architecture(conversion.recognition.architecture, what["classes"], (size, size, 3))
    replace(conversion, model=model).place()
    return model


def our_head(folder: Path, what: Request, policy: str, device: str) -> Call:
    """MPNCOV() on features (batch, height, width, channels), or its gradient with respect to them."""
    from keras import ops

    from mpncov_zoo.representations import MPNCOV

    layer, x = MPNCOV(), ops.convert_to_tensor(_features(what))
    layer.build(x.shape)
    if _on_torch():
        return _torch_head(layer, x, what["backward"])
    import jax

    compiled = jax.jit(jax.grad(lambda x: layer(x).sum()) if what["backward"] else layer)
    return lambda: compiled(x)


def published_head(folder: Path, what: Request, policy: str, device: str) -> Call:
    """The published layer on features (batch, channels, height, width), or its gradient."""
    import torch

    x = torch.from_numpy(_features(what).transpose(0, 3, 1, 2).copy()).to(_place(device))
    return _torch_head(published_heads.pytorch(), x, what["backward"])


def our_network(folder: Path, what: Request, policy: str, device: str) -> Call:
    """Logits as users compute them, or the gradient of the loss with respect to all weights, in training mode."""
    import keras
    from keras import ops

    model = network(folder, what, policy, what["size"])
    images, labels = (ops.convert_to_tensor(array) for array in _batch(what))
    if not what["backward"]:
        return lambda: model(images)

    def loss(logits: Any) -> Any:
        return ops.mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))

    return (_torch_step if _on_torch() else _jax_step)(model, images, loss)


def published_network(folder: Path, what: Request, policy: str, device: str) -> Call:
    """The published network with the published head; under a 16-bit policy the head is in float32, as ours is."""
    import torch

    from conversion.reference.source import source_network

    conversion = prepared(folder, what)
    net: Any = source_network(conversion.recognition, what["classes"], conversion.tensors)[0].network
    net.to(_place(device)).train(what["backward"])
    root, half = published_heads.pytorch(), policy == "mixed_bfloat16"

    def represent(x: Any) -> dict[str, Any]:
        with torch.autocast(_place(device), enabled=False):
            return {"representation": root(x.float())}

    net.head.represent = represent
    images, labels = (torch.from_numpy(array).to(_place(device)) for array in _batch(what))
    images = images.permute(0, 3, 1, 2).contiguous()

    def call() -> Any:
        with torch.autocast(_place(device), torch.bfloat16, enabled=half):
            return net(images)["logits"]

    def step() -> None:
        net.zero_grad()
        torch.nn.functional.cross_entropy(call().float(), labels.long()).backward()

    return step if what["backward"] else call


def _jax_step(model: Any, images: Any, loss: Callable[[Any], Any]) -> Call:
    import jax

    def forward(trainable: list[Any], other: list[Any], images: Any) -> tuple[Any, Any]:
        logits, state = model.stateless_call(trainable, other, images, training=True)
        return loss(logits), state

    gradient = jax.jit(jax.value_and_grad(forward, has_aux=True))
    learned, other = ([v.value for v in vs] for vs in (model.trainable_variables, model.non_trainable_variables))
    return lambda: gradient(learned, other, images)


def _torch_step(model: Any, images: Any, loss: Callable[[Any], Any]) -> Call:
    learned = [variable.value for variable in model.trainable_variables]

    def step() -> None:
        for parameter in learned:  # torch's `zero_grad` wants `parameters`, which are a number here
            parameter.grad = None
        loss(model(images, training=True)).backward()

    return step


def _torch_head(layer: Any, x: Any, backward: bool) -> Call:
    import torch

    if not backward:
        return lambda: layer(x)
    x.requires_grad_(True)
    return lambda: torch.autograd.grad(layer(x).sum(), x)


def _features(what: Request) -> np.ndarray:
    """Rectified, as a network's: (batch, size, size, channels)."""
    return head.features((what["size"], what["channels"], what["batch"], what["backward"]))


def _batch(what: Request) -> tuple[np.ndarray, np.ndarray]:
    """Images float32 (batch, size, size, 3) and labels int32 (batch,)."""
    from benchmarks.training import Case, batch

    return batch(Case(what["model"], what["size"], what["batch"], what["classes"]))


def _on_torch() -> bool:
    import keras

    return keras.backend.backend() == "torch"


def _place(device: str) -> str:
    return "cuda" if device == "gpu" else "cpu"
