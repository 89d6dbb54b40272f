"""Inference of a network as one compiled function: Keras' own call walks through its layers in Python each time.

TensorFlow and JAX compile; on PyTorch, and wherever the call is part of something that is traced itself, Keras' call is
what is needed already.
"""

import logging
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

try:  # within such a scope variables have other values; Keras does not say so under a public name
    from keras.src.backend.common.stateless_scope import in_stateless_scope
except ImportError:

    def in_stateless_scope() -> bool:
        """Without knowing, nothing is compiled."""
        return True


logger = logging.getLogger(__name__)


class Inference:
    """A network's outputs for concrete images, outside of training.

    It holds the compiled function, which is made by its first call. (As an attribute of the network itself TensorFlow
    would save it with the network.)

    Args:
        network: built, of one input.
        call: Keras' call of it, which is compiled.
    """

    def __init__(self, network: keras.Model, call: Callable[..., Any]):
        self.network, self.call = network, call
        self._compiled: Callable[[Any], Any] | None = None
        self._variables: tuple[int, ...] = ()

    def takes(self, images: Any) -> bool:
        """Whether they are an array of the network's shape, and neither tracing nor eager mode asks for Keras' call."""
        network = self.network
        if network.run_eagerly or in_stateless_scope() or not _is_concrete(images):
            return False
        given, own = tuple(images.shape), network.input_shape
        return len(given) == len(own) and all(size in (None, there) for size, there in zip(own, given, strict=True))

    def __call__(self, images: Any) -> Any:
        """The outputs for images (batch, height, width, channels)."""
        variables = tuple(map(id, self.network.variables))  # LoRA and quantisation exchange them
        if self._compiled is None or variables != self._variables:
            self._compiled = _COMPILERS[keras.backend.backend()](self.network, self.call)
            self._variables = variables
        return self._compiled(keras.ops.convert_to_tensor(images, self.network.inputs[0].dtype))


def _is_concrete(images: Any) -> bool:
    """Whether it is an array or a tensor with numbers, and nothing is being traced that it becomes a part of."""
    name = keras.backend.backend()
    if name == "tensorflow":
        import tensorflow as tf

        concrete = tf.executing_eagerly() and isinstance(images, np.ndarray | tf.Tensor)
        return concrete and not _has_tangent(images)
    if name == "jax":
        from jax import Array
        from jax.core import Tracer

        return isinstance(images, np.ndarray | Array) and not isinstance(images, Tracer)
    return False


def _has_tangent(images: Any) -> bool:
    """Whether tf.autodiff.ForwardAccumulator watches them: functions with hand-written gradients give it zeros."""
    try:
        from tensorflow.python.eager.forwardprop_util import pack_tangents
    except ImportError:  # it has no public name
        return False
    return not isinstance(images, np.ndarray) and bool(pack_tangents([images]).tangents)


def _by_tensorflow(network: keras.Model, call: Callable[..., Any]) -> Callable[[Any], Any]:
    """One graph for batches of any size, and for images of any size where the network takes them."""
    import tensorflow as tf

    signature = [tf.TensorSpec(network.input_shape, network.inputs[0].dtype)]
    function = tf.function(lambda images: call(images, training=False), autograph=False, input_signature=signature)
    try:
        function.get_concrete_function()
    except ValueError as error:  # Keras' adaptive pooling wants to know the size
        lines = [re.sub(r"\x1b\[\d*m", "", line).strip() for line in str(error).splitlines()]
        reason = next((line for line in lines[1:] if line), lines[0])  # the first line of Keras' says where it was
        logger.info("%s is not compiled, and computed layer by layer: %s", network.name, reason)
        return call

    def compiled(images: Any) -> Any:
        try:
            return function(images)
        except tf.errors.InvalidArgumentError:
            return call(images)  # which says in Python what is wrong with these images

    return compiled


def _by_jax(network: keras.Model, call: Callable[..., Any]) -> Callable[[Any], Any]:
    """A program for each size of batch, as always in JAX."""
    import jax

    @jax.jit
    def compiled(trainable: list[Any], other: list[Any], images: Any) -> Any:
        return network.stateless_call(trainable, other, images, training=False)[0]

    def with_variables(images: Any) -> Any:
        trainable, other = network.trainable_variables, network.non_trainable_variables
        return compiled([variable.value for variable in trainable], [variable.value for variable in other], images)

    return with_variables


_COMPILERS = {"tensorflow": _by_tensorflow, "jax": _by_jax}
