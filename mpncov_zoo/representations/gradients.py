"""Gradients written by hand, on every Keras backend, and what they need of symmetric matrices."""

from collections.abc import Callable, Hashable
from functools import cache
from typing import Any

from keras import backend, ops

Backward = Callable[[Any], Any]  # from the cotangent of a function's output to that of its input


def with_gradient(function: Callable[..., tuple[Any, Backward]], x: Any, **options: Hashable) -> Any:
    """The first of what a function of one tensor returns, differentiated by the second.

    Args:
        function: one of a module. It returns its value and, from the value's cotangent, that of the input; written with
            differentiable operations, so that second derivatives exist, and reads no tensors but its argument.
        x: an eager or traced tensor.
        options: of the function.
    """
    call = _differentiable(function, **options)
    return _in_a_graph_of_its_own(call, tuple(x.shape), x.dtype)(x) if _is_in_a_graph() else call(x)


@cache
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


def _is_in_a_graph() -> bool:
    if backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.executing_eagerly()


@cache
def _in_a_graph_of_its_own(
    call: Callable[[Any], Any], shape: tuple[int | None, ...], dtype: Any
) -> Callable[[Any], Any]:
    """A function with a custom gradient as one of a graph, which all networks share.

    TensorFlow keeps the graph of each custom gradient for ever, and with it the variables that the graph holds, which
    would be all weights of a network. This one holds none. There is one for each shape: TensorFlow would take the one
    for any shape, if there were one, for all of them.
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
