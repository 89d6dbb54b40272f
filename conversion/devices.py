"""Where and how precisely Keras computes, on each of its backends: CPU or GPU, TF32 on or off, float64."""

# pyright: reportMissingImports=false
# (of the backends only the one in use must be installed)

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import keras

from mpncov_zoo.assembly import precision
from mpncov_zoo.errors import InputError
from mpncov_zoo.inference import sees_gpu

DEVICES = ("cpu", "gpu")
NAMES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}


def require_device(device: str, *backends: str) -> None:
    """Refuse a device that some of the libraries do not see.

    Args:
        device: "cpu" or "gpu".
        backends: out of NAMES.

    Raises:
        InputError: another device, or no GPU for one of them.
    """
    if device not in DEVICES:
        raise InputError(f"device must be 'cpu' or 'gpu'. Received: {device!r}.")
    blind = [NAMES[name] for name in dict.fromkeys(backends) if device == "gpu" and not sees_gpu(name)]
    if blind:
        raise InputError(f"device='gpu': {' and '.join(blind)} see{'' if blind[1:] else 's'} no GPU here.")


def on(device: str) -> AbstractContextManager[Any]:
    """Within this context networks are built, and compute, on "cpu" or "gpu"."""
    if device == "cpu":
        return keras.device("cpu")  # and not "cpu:0": what PyTorch moves there is no parameter any more
    if keras.backend.backend() == "jax":
        import jax

        return keras.device(jax.devices("gpu")[0])  # whose platform JAX may call "cuda"
    return keras.device("gpu:0")


@contextmanager
def in_float64() -> Iterator[None]:
    """Within this context networks are built, and compute, in float64, on the CPU."""
    with _wide_numbers(), on("cpu"), precision("float64"):
        yield


def gradients_off() -> AbstractContextManager[Any]:
    """Within this context nothing is remembered for a backward pass, which PyTorch would do otherwise."""
    if keras.backend.backend() != "torch":
        return nullcontext()
    import torch

    return torch.no_grad()


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid a GPU its 19-bit TF32 for float32 products, in Keras' backend and, where imported, in PyTorch.

    Afterwards all is as it was before.
    """
    libraries = {keras.backend.backend(), *(["torch"] if "torch" in sys.modules else [])}
    with ExitStack() as before:
        for library in libraries:
            before.callback(_TF32[library](allowed))
        yield


def _wide_numbers() -> AbstractContextManager[Any]:
    """JAX makes float32 of float64 unless it is told not to."""
    if keras.backend.backend() != "jax":
        return nullcontext()
    import jax

    return jax.enable_x64(True)


def _tensorflow_tf32(allowed: bool) -> Callable[[], None]:
    import tensorflow as tf

    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(allowed)
    return lambda: tf.config.experimental.enable_tensor_float_32_execution(before)


def _jax_tf32(allowed: bool) -> Callable[[], None]:
    import jax

    setting = "jax_default_matmul_precision"  # of convolutions, too; compiled functions heed it
    config: Any = jax.config
    before = getattr(config, setting)
    config.update(setting, "tensorfloat32" if allowed else "highest")
    return lambda: config.update(setting, before)


def _torch_tf32(allowed: bool) -> Callable[[], None]:
    import torch

    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = allowed

    def restore() -> None:
        matmul.allow_tf32, cudnn.allow_tf32 = before

    return restore


_TF32: Mapping[str, Callable[[bool], Callable[[], None]]] = {
    "tensorflow": _tensorflow_tf32,
    "jax": _jax_tf32,
    "torch": _torch_tf32,
}
