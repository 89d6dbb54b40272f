"""Networks for inference alone: batch normalisation folded into the convolutions, in float32 or in bfloat16."""

import logging
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mpncov_zoo.architectures import ATTACHED, PARTS
from mpncov_zoo.assembly import precision
from mpncov_zoo.backbones.blocks import folding
from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.errors import InputError
from mpncov_zoo.specification import InputShape

logger = logging.getLogger(__name__)

DTYPES = ("float32", "bfloat16")
CPU_FLAGS = Path("/proc/cpuinfo")  # of Linux
BFLOAT16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}  # of processors that multiply it: x86 and, the last, ARM


def optimize(model: ImageClassifier, dtype: str = "float32") -> ImageClassifier:
    """The same network for inference: faster, with fewer layers, and not to be trained.

    Every batch normalisation that follows a convolution becomes part of its kernel and bias. In bfloat16 the trunk's
    weights and features are of 16 bits; sums within a convolution, the representation and the logits are float32.

    Args:
        model: any network of this package; it stays as it is.
        dtype: "float32", whose logits are equal to 1e-5 of the largest, or "bfloat16", which is faster on a processor
            that has instructions for it (AMX or AVX-512 BF16 on x86) and takes half the memory; its logits differ by
            some 1e-2. On other processors it is slower than float32, which is warned of.

    Returns:
        A network with the same stages, `preprocess`, `decode`, `labels` and `load_report`.

    Raises:
        InputError: another dtype, or the network is none of this package, is optimized already or not of float32.

    Example:
        >>> model = mpncov_zoo.load("mpncov_cifar_resnet20", pretrained=True)
        >>> fast = mpncov_zoo.optimize(model)
        >>> fast.decode(fast(fast.preprocess("boot.png")), top=1)
        [[('Ankle boot', 0.9228610655804985)]]
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype must be {' or '.join(DTYPES)}. Received: {dtype!r}.")
    require_float32(model)
    if model.folded:
        raise InputError(f"{model.name} is optimized already: optimize the network that it was made of.")
    if dtype == "bfloat16":
        _warn_without_bfloat16()
    return fold(model, dtype)


def fold(model: ImageClassifier, dtype: str = "float32", input_shape: InputShape | None = None) -> ImageClassifier:
    """The same network with every normalisation that follows a convolution in that convolution.

    Args:
        model: a network of float32, folded itself or not; it stays as it is.
        dtype: the policy of the new one.
        input_shape: of the new one, (height, width, channels), where it is another.

    Raises:
        InputError: of `require_float32`.
    """
    require_float32(model)
    if model.architecture.backbone == ATTACHED:
        logger.info("%s: normalisations within a Keras model stay where they are", model.name)
    with precision(dtype), folding() as norms:
        folded = ImageClassifier(
            model.architecture,
            num_classes=model.num_classes,
            input_shape=input_shape or model.input_shape[1:],
            input_specification=model.input_specification,
            labels=model.labels,
            initialize=(),
            name=model.name,
        )
    _fill(folded, model, {} if model.folded else norms)
    folded.trainable = False
    folded.load_report = model.load_report
    return folded


def require_float32(model: ImageClassifier) -> None:
    """Refuse what cannot be folded.

    Raises:
        InputError: it is no network of this package, or not of float32.
    """
    if not isinstance(model, ImageClassifier):
        raise InputError(f"Received: {type(model).__name__}, expected: a network of mpncov_zoo (load, build).")
    if model.dtype_policy.name != "float32":
        raise InputError(f"{model.name} computes in {model.dtype_policy.name}: load it in float32.")


def _fill(folded: ImageClassifier, model: ImageClassifier, norms: dict[str, str]) -> None:
    """Give every layer of a folded network the weights of its own and of the normalisation behind it."""
    layers = model.named_layers()
    for name, layer in folded.named_layers().items():
        if name in ("", *PARTS) or not layer.weights:
            continue
        source, part = layers[name], name.partition("/")[0]
        weights = source.get_weights()
        if layer.name in norms:
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            weights = _with_norm(weights, layers[f"{part}/{norms[layer.name]}"], depthwise)
        layer.set_weights(weights)


def _with_norm(weights: list[np.ndarray], norm: Any, depthwise: bool) -> list[np.ndarray]:
    """Kernel and bias of a convolution that computes what it and its normalisation do: (h, w, in, out) and (out,)."""
    gamma, beta, mean, variance = (value.astype(np.float64) for value in norm.get_weights())
    kernel, bias = weights[0].astype(np.float64), weights[1] if len(weights) > 1 else 0.0
    scale = gamma / np.sqrt(variance + norm.epsilon)
    kernel = kernel * (scale[:, None] if depthwise else scale)
    return [array.astype(np.float32) for array in (kernel, beta + (bias - mean) * scale)]


def sees_gpu(backend: str) -> bool:
    """Whether a backend of Keras, "tensorflow", "jax" or "torch", which must be installed, computes on a GPU."""
    if backend == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    if backend == "jax":
        import jax

        return jax.default_backend() in ("gpu", "cuda", "rocm")
    import torch  # pyright: ignore[reportMissingImports]

    return torch.cuda.is_available()


def _warn_without_bfloat16() -> None:
    """bfloat16 without instructions for it is emulated, and slower than float32."""
    if sees_gpu(keras.backend.backend()):
        return
    try:
        flags = set(CPU_FLAGS.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        logger.warning("bfloat16 is fast only where the processor has instructions for it; this one does not say")
        return
    if not flags & BFLOAT16_FLAGS:
        logger.warning("This processor has no instructions for bfloat16 (AMX or AVX-512 BF16): float32 is faster")
