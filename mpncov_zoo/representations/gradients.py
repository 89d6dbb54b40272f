"""Gradients written by hand, on every Keras backend, and what they need of symmetric matrices."""

from collections.abc import Callable
from typing import Any

from keras import backend, ops

Backward = Callable[[Any], Any]  # from the cotangent of a function's output to that of its input


def with_gradient(function: Callable[[Any], tuple[Any, Backward]], x: Any) -> Any:
    """The first of what a function of one tensor returns, differentiated by the second.

    Args:
        function: returns its value and, from the value's cotangent, that of the input; written with differentiable
            operations, so that second derivatives exist, and reads no variables and no tensors but its argument.
        x: an eager or traced tensor.
    """

    @ops.custom_gradient
    def call(x: Any) -> tuple[Any, Callable[..., Any]]:
        value, backward = function(x)

        def gradient(*arguments: Any, upstream: Any = None) -> Any:
            if upstream is None:
                return backward(arguments[0])
            # PyTorch has the cotangent in `upstream`, and takes what `backward` remembers for constants: where this
            # is to be differentiated again, it is computed anew from the input.
            import torch  # pyright: ignore[reportMissingImports]

            return (function(arguments[0])[1] if torch.is_grad_enabled() else backward)(upstream)

        return value, gradient

    return _in_a_graph_of_its_own(call, x) if backend.backend() == "tensorflow" else call(x)


def _in_a_graph_of_its_own(call: Callable[[Any], Any], x: Any) -> Any:
    """What a function with a custom gradient makes of x; where a graph is traced, as a function within that graph.

    TensorFlow keeps the graph of each custom gradient for ever, and with it the variables that the graph holds, which
    would be all weights of a network. This one holds none.
    """
    import tensorflow as tf

    return call(x) if tf.executing_eagerly() else tf.function(call, autograph=False)(x)


def square_matrices(x: Any) -> Any:
    """The tensor itself.

    Raises:
        ValueError: it is not of shape (batch, d, d).
    """
    if len(x.shape) != 3 or x.shape[1] != x.shape[2]:
        raise ValueError(f"Square matrices are (batch, d, d). Received: shape {tuple(x.shape)}")
    return x


def transpose(x: Any) -> Any:
    """Of the last two axes."""
    return ops.swapaxes(x, -1, -2)


def plus_transpose(x: Any) -> Any:
    """X + X', twice the symmetric part."""
    return x + transpose(x)


def identity_like(matrix: Any) -> Any:
    """The identity of a square matrix' size and dtype, (d, d), by operations that every runtime has."""
    index = ops.arange(matrix.shape[-1] or ops.shape(matrix)[-1], dtype="int32")
    return ops.cast(index[:, None] == index[None, :], matrix.dtype)


def frobenius_norm(matrix: Any) -> Any:
    """Of positive semi-definite matrices: (batch, d, d) -> (batch, 1, 1); 1 for a matrix of zeros, to divide by."""
    largest = ops.max(matrix, axis=(1, 2), keepdims=True)  # of all entries; its square may overflow
    largest = ops.stop_gradient(ops.where(largest > 0, largest, ops.ones_like(largest)))
    squared = ops.sum(ops.square(matrix / largest), axis=(1, 2), keepdims=True)
    norm = largest * ops.sqrt(ops.where(squared > 0, squared, ops.ones_like(squared)))
    return ops.where(norm > 0, norm, ops.ones_like(norm))
