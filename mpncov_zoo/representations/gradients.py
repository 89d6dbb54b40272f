"""Gradients written by hand, on every Keras backend, and what they need of symmetric matrices."""

from collections.abc import Callable, Hashable
from functools import cache
from typing import Any

from keras import backend, ops

Backward = Callable[[Any], Any]  # from the cotangent of a function's output to that of its input


def with_gradient(function: Callable[..., tuple[Any, Backward]], x: Any, **options: Hashable) -> Any:
    """The value of a function of a tensor and options, differentiated by the gradient that the function gives.

    Args:
        function: defined at the top of a module, since its graph is kept and shared. It returns its value and, from the
            value's cotangent, that of the tensor. It reads nothing but its arguments, no variable either, and uses
            differentiable operations, so that second derivatives exist.
        x: an eager or traced tensor.
        options: the function's other arguments, hashable.
    """
    call = _differentiable(function, **options)
    return _shared_graph(call, tuple(x.shape), x.dtype)(x) if _is_in_a_tensorflow_graph() else call(x)


@cache  # one object for each function and options, by which its graphs are found
def _differentiable(function: Callable[..., tuple[Any, Backward]], **options: Hashable) -> Callable[[Any], Any]:
    @ops.custom_gradient
    def call(x: Any) -> tuple[Any, Callable[..., Any]]:
        value, backward = function(x, **options)

        def gradient(*arguments: Any, upstream: Any = None) -> Any:
            if upstream is None:
                return backward(arguments[0])
            # PyTorch has the cotangent in `upstream`, and takes what `backward` remembers for constants: where this
            # is to be differentiated again, it is computed anew from the input.
            import torch  # pyright: ignore[reportMissingImports]

            return (function(arguments[0], **options)[1] if torch.is_grad_enabled() else backward)(upstream)

        return value, gradient

    return call


def _is_in_a_tensorflow_graph() -> bool:
    if backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.executing_eagerly()


@cache
def _shared_graph(call: Callable[[Any], Any], shape: tuple[int | None, ...], dtype: Any) -> Callable[[Any], Any]:
    """The graph of a function with a custom gradient, for one shape and dtype; all networks of a process share it.

    TensorFlow keeps the graph of every custom gradient for ever, with the variables that it holds. Inside the graph of
    a network that would be all weights; this graph holds no variable. Each shape has its own, since a tf.function that
    was traced for unknown sizes is used for all known ones, too.
    """
    import tensorflow as tf

    return tf.function(call, autograph=False)


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
