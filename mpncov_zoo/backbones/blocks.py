"""The layers that all networks are made of: convolution, batch normalisation, dense; with the published constants."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
from keras import KerasTensor, layers, ops

BATCH_NORM = {"epsilon": 1e-5, "momentum": 0.9}  # PyTorch's momentum 0.1 is Keras' 0.9
BATCH_NORM_TENSORFLOW = {"epsilon": 1e-3, "momentum": 0.99}  # of the networks designed there, EfficientNet-Lite
BATCH_NORM_INCEPTION = {**BATCH_NORM, "epsilon": 1e-3}  # TensorFlow's, in PyTorch's network

_zeros_by_shape: ContextVar[dict[Any, Any] | None] = ContextVar("zeros_by_shape", default=None)
_folded: ContextVar[dict[str, str] | None] = ContextVar("folded", default=None)


@contextmanager
def skip_initialization() -> Iterator[None]:
    """Within this context new variables start at zero: for networks whose weights are about to be read from a file."""
    token = _zeros_by_shape.set({})
    try:
        yield
    finally:
        _zeros_by_shape.reset(token)


@contextmanager
def folding() -> Iterator[dict[str, str]]:
    """Within this context no normalisation stands behind a convolution, which has a bias instead; for inference.

    Yields:
        The names of the normalisations that are left out by those of their convolutions, as the layers are made.
    """
    norms: dict[str, str] = {}
    token = _folded.set(norms)
    try:
        yield norms
    finally:
        _folded.reset(token)


def is_folding() -> bool:
    """Whether networks are built within `folding`."""
    return _folded.get() is not None


def _zeros(shape: tuple[int, ...], dtype: str | None = None) -> Any:
    """Zeros; one tensor for all variables of a shape where they copy it on their first write, as TensorFlow's do."""
    shared = _zeros_by_shape.get()
    if shared is None or keras.backend.backend() != "tensorflow":
        return ops.zeros(shape, dtype)
    if (shape, dtype) not in shared:
        shared[shape, dtype] = ops.zeros(shape, dtype)
    return shared[shape, dtype]


def _first_call(layer: Any, x: KerasTensor, attribute: str = "kernel_initializer") -> KerasTensor:
    """Build a layer by calling it; the initializer in its configuration is the random one, also where it is skipped."""
    initializer = getattr(layer, attribute)
    if _zeros_by_shape.get() is not None:
        setattr(layer, attribute, _zeros)
    outputs = layer(x)
    setattr(layer, attribute, initializer)
    return outputs


def _fan_out_normal() -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def full_precision(dtype: str | None = None) -> str:
    """The dtype a numerically delicate layer computes in: float32 under the 16-bit policies, else the policy's own."""
    compute_dtype = keras.dtype_policies.get(dtype or keras.config.dtype_policy()).compute_dtype
    return "float32" if compute_dtype in ("float16", "bfloat16") else str(compute_dtype)


def loses_float64(layer: layers.Layer) -> bool:
    """Whether a layer computes in float64 and Keras' means, norms and products would not: on PyTorch and JAX."""
    return layer.compute_dtype == "float64" and keras.backend.backend() != "tensorflow"


def conv(
    x: KerasTensor,
    filters: int | None,
    size: int | tuple[int, int],
    *,
    name: str,
    strides: int = 1,
    use_bias: bool = False,
    same: bool = False,
    pad: int | None = None,
    dtype: str | None = None,
) -> KerasTensor:
    """Convolve (batch, height, width, channels) -> (batch, new height, new width, filters).

    Padding is PyTorch's usual one, (size - 1) // 2 on each side, or `pad`; the new height is floor((height + 2 pad -
    size) / strides) + 1, ceil(height / strides) for the usual one. TensorFlow's SAME is equal to the usual one
    at stride 1 only; `same` takes it at every stride, where an even height or width then gets one row less above than
    below. Without `filters` every channel is convolved by itself and stays one (depthwise). `size` may be (height,
    width).
    """
    height, width = (size, size) if isinstance(size, int) else size
    pads = ((height - 1) // 2, (width - 1) // 2) if pad is None else (pad, pad)
    same = same or (strides == 1 and pad is None)
    if not same and any(pads):
        x = layers.ZeroPadding2D(pads, data_format="channels_last", name=f"{name}_pad", dtype=dtype)(x)
    options = {
        "data_format": "channels_last",
        "strides": strides,
        "padding": "same" if same else "valid",
        "use_bias": use_bias,
        "name": name,
        "dtype": dtype,
    }
    if filters is None:
        layer = layers.DepthwiseConv2D(size, depthwise_initializer=_fan_out_normal(), **options)
        return _first_call(layer, x, "depthwise_initializer")
    return _first_call(layers.Conv2D(filters, size, kernel_initializer=_fan_out_normal(), **options), x)


@keras.saving.register_keras_serializable(package="mpncov_zoo")
class BatchNormalization(layers.BatchNormalization):
    """Keras' layer, executed by TensorFlow's fused kernel where there is one (several times faster on a CPU).

    The fused kernel tracks the unbiased variance, as PyTorch does; Keras itself the biased one. In training under a
    `tf.distribute` strategy the statistics are those of all replicas' images together, so that N devices compute what
    one does of the same batch.

    Input shape: (batch, height, width, channels).
    Output shape: the same.
    """

    def add_weight(self, *args: Any, initializer: Any = None, **kwargs: Any) -> keras.Variable:
        """Keras' method, within `skip_initialization`, too."""
        skipped = _zeros_by_shape.get() is not None
        return super().add_weight(*args, initializer=_zeros if skipped else initializer, **kwargs)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise over batch and positions; float64, other backends and other options take Keras' own way."""
        if mask is not None or not self._usual(inputs):
            return super().call(inputs, training=training, mask=mask)
        if keras.backend.backend() != "tensorflow":
            exact = loses_float64(self) and not (training and self.trainable)
            return self._by_moving_statistics(inputs) if exact else super().call(inputs, training=training)
        import tensorflow as tf

        training = bool(training and self.trainable)
        replica = tf.distribute.get_replica_context()  # None where a strategy only builds
        if training and replica is not None and replica.num_replicas_in_sync > 1:
            return self._normalize_together(inputs, replica)
        if not self._fusible(inputs):
            return super().call(inputs, training=training)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=[] if training else self.moving_mean,
            variance=[] if training else self.moving_variance,
            epsilon=self.epsilon,
            is_training=training,
        )
        if training:
            self._track(mean, variance)
        return outputs

    def _by_moving_statistics(self, inputs: Any) -> Any:
        """In the precision of the inputs."""
        scale = self.gamma / ops.sqrt(self.moving_variance + self.epsilon)
        return (inputs - self.moving_mean) * scale + self.beta

    def _normalize_together(self, inputs: Any, replica: Any) -> Any:
        """Normalise by all replicas' statistics, in float32 at least; gradients pass through the sums.

        Keras' own `synchronized` takes E[x^2] - E[x]^2 for the variance, which cancels.
        """
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        rows = ops.cast(ops.size(x[..., 0]), x.dtype)  # replicas may have different numbers of images
        rows, total = replica.all_reduce("SUM", [rows, ops.sum(x, (0, 1, 2))])
        centered = x - total / rows
        variance = replica.all_reduce("SUM", ops.sum(ops.square(centered), (0, 1, 2))) / rows
        tracked = variance * (rows / ops.maximum(rows - 1, 1)) if self._fusible(inputs) else variance
        self._track(total / rows, tracked)
        outputs = centered * (ops.rsqrt(variance + self.epsilon) * self.gamma) + self.beta
        return ops.cast(outputs, self.compute_dtype)

    def _track(self, mean: Any, variance: Any) -> None:
        self.moving_mean.assign(self.moving_mean * self.momentum + mean * (1 - self.momentum))
        self.moving_variance.assign(self.moving_variance * self.momentum + variance * (1 - self.momentum))

    def _usual(self, inputs: Any) -> bool:
        plain = self.axis in (-1, 3) and self.center and self.scale and not (self.synchronized or self.renorm)
        return len(inputs.shape) == 4 and plain

    def _fusible(self, inputs: Any) -> bool:
        """Does the fused kernel take these dtypes? Its statistics are float32, for inputs of 16 or 32 bits."""
        return self.variable_dtype == "float32" and keras.backend.standardize_dtype(inputs.dtype) != "float64"


def batch_norm(
    x: KerasTensor, *, name: str, constants: Mapping[str, float] = BATCH_NORM, dtype: str | None = None
) -> KerasTensor:
    """Batch normalisation with the published constants; the shape is kept.

    Its weights are float32 where those of the other layers are of 16 bits.
    """
    policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
    if policy.variable_dtype in ("float16", "bfloat16"):
        dtype = f"mixed_{policy.compute_dtype}"
    return BatchNormalization(**constants, name=name, dtype=dtype)(x)


def conv_bn(
    x: KerasTensor,
    filters: int | None,
    size: int | tuple[int, int],
    *,
    prefix: str,
    index: int | str = "",
    bn_index: int | str | None = None,
    strides: int = 1,
    use_bias: bool = False,
    same: bool = False,
    pad: int | None = None,
    constants: Mapping[str, float] = BATCH_NORM,
    activation: Callable[[KerasTensor], KerasTensor] | None = ops.relu,
    dtype: str | None = None,
) -> KerasTensor:
    """Convolve, normalise and activate: every normalisation that directly follows a convolution is made here.

    The shapes and the options that are not named here are those of `conv`. The layers are called `<prefix>_conv<index>`
    and `<prefix>_bn<index>`; where the numbers of the two differ, `bn_index` is the second one's. Without `activation`
    the normalised values stay as they are.
    """
    name, norm = f"{prefix}_conv{index}", f"{prefix}_bn{index if bn_index is None else bn_index}"
    norms = _folded.get()
    use_bias = use_bias or norms is not None
    x = conv(x, filters, size, name=name, strides=strides, use_bias=use_bias, same=same, pad=pad, dtype=dtype)
    if norms is None:
        x = batch_norm(x, name=norm, constants=constants, dtype=dtype)
    else:
        norms[name] = norm
    return x if activation is None else activation(x)


def max_pool(x: KerasTensor, *, size: int, name: str, pad: int = 0) -> KerasTensor:
    """Max-pool with stride 2; zero padding equals PyTorch's -inf padding because the input is rectified."""
    if pad:
        x = layers.ZeroPadding2D(pad, name=f"{name}_pad")(x)
    return layers.MaxPooling2D(size, strides=2, name=name)(x)


@keras.saving.register_keras_serializable(package="mpncov_zoo")
class Dense(layers.Dense):
    """Keras' layer, in float64 on every backend where its policy says so.

    Input shape: (batch, features).
    Output shape: (batch, units).
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """(batch, features) -> (batch, units)."""
        if not loses_float64(self):
            return super().call(inputs, training=training)
        outputs = inputs @ ops.convert_to_tensor(self.kernel)
        return self.activation(outputs + self.bias if self.use_bias else outputs)


def dense(x: KerasTensor, units: int, *, name: str, activation: str | None = None) -> KerasTensor:
    """Fully connected: (batch, features) -> (batch, units); initialised as torch.nn.Linear."""
    exact = full_precision() == "float64" and keras.backend.backend() != "tensorflow"
    layer = (Dense if exact else layers.Dense)(  # Keras quantises no subclass
        units,
        activation=activation,
        kernel_initializer=keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
        name=name,
        dtype=full_precision(),
    )
    return _first_call(layer, x)
