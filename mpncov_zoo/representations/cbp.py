"""Compact bilinear pooling (Gao, Beijbom, Zhang, Darrell, CVPR 2016), tensor-sketch version."""

from typing import Any

import keras
import numpy as np
from keras import KerasTensor, layers, ops

from mpncov_zoo.backbones.blocks import full_precision
from mpncov_zoo.plausibility import check_layout
from mpncov_zoo.representations.bcnn import flat_outer_products, normalize_signed_sqrt


def cbp(features: KerasTensor, *, dimension: int = 8192, suffix: str = "") -> dict[str, KerasTensor]:
    """The endpoint representation, (batch, dimension), of a layer whose name ends with the suffix."""
    return {"representation": CBP(dimension, name=f"cbp{suffix}")(features)}


@keras.saving.register_keras_serializable(package="mpncov_zoo")
class CBP(layers.Layer):
    """Tensor sketch of X'X, signed square root, L2 normalisation; in float32 or better.

    X'X is the sum over positions, as published; after the L2 normalisation a mean would differ only by the 1e-8 under
    the root.
    The sketch is linear, and the circular convolution of two count sketches is the count sketch of the outer product
    under (h1(i) + h2(j)) mod dimension and s1(i) s2(j). Summed over positions it is therefore a signed histogram of the
    entries of X'X. The published FFTs of every position give the same, but need more time and memory (unless 2,048
    channels meet few positions, 7x7). Empty bins are zeros here, where an FFT leaves rounding that the root would
    magnify.
    The drawn hashes are non-trainable weights, so that a reloaded model computes the same.

    Args:
        dimension: length of the sketch.
        seed: of the hash functions.

    Input shape: (batch, height, width, d); height and width may be unknown.
    Output shape: (batch, dimension).

    Example:
        >>> CBP(1024)(keras.random.normal((2, 28, 28, 64))).shape
        TensorShape([2, 1024])
    """

    def __init__(self, dimension: int = 8192, *, seed: int = 0, name: str | None = None, dtype: str | None = None):
        super().__init__(name=name, dtype=full_precision(dtype))
        if dimension < 1:
            raise ValueError(f"dimension must be at least 1. Received: dimension={dimension}")
        self.dimension = dimension
        self.seed = seed
        self.table: np.ndarray | None = None
        self.input_spec = layers.InputSpec(ndim=4)

    def build(self, input_shape: tuple[int, ...]) -> None:
        """Draw the hashes: bins (2, d) in [0, dimension) and signs (2, d) of +-1, as float32."""
        check_layout(input_shape)
        rng = np.random.default_rng(self.seed)
        shape = (2, input_shape[-1])
        self.bins = self._constant("bins", rng.integers(0, self.dimension, shape))
        self.signs = self._constant("signs", rng.choice((-1, 1), shape))

    def call(self, inputs: KerasTensor) -> KerasTensor:
        """(batch, height, width, d) -> (batch, dimension)."""
        bins, signs = ops.cast(self.bins, "int32"), ops.cast(self.signs, inputs.dtype)
        entries = ops.transpose(flat_outer_products(inputs * signs[0], inputs * signs[1]))
        if self.table is not None:
            none = ops.zeros_like(entries[:1])
            sketch = ops.sum(ops.take(ops.concatenate([entries, none]), self.table, axis=0), axis=1)
            return normalize_signed_sqrt(ops.transpose(sketch))
        target = ops.reshape((bins[0][:, None] + bins[1][None, :]) % self.dimension, (-1, 1))
        empty = ops.zeros((self.dimension, ops.shape(inputs)[0]), inputs.dtype)
        # not segment_sum: Keras computes that in float32 on PyTorch, whatever the dtype
        sketch = ops.scatter_update(empty, target, entries, reduction="add")
        return normalize_signed_sqrt(ops.transpose(sketch))

    def entries_of_bins(self) -> np.ndarray:
        """As `table`, the sketch adds what it gathers for each bin, instead of scattering the entries.

        That is for runtimes which scatter on several threads, and lose sums where two meet in one bin; the table holds
        for the hashes of this moment.

        Returns:
            int32 (dimension, largest number of entries in a bin): places in the flat X'X; d^2 stands for none.
        """
        bins = ops.convert_to_numpy(self.bins).astype(np.int64)
        target = np.ravel((bins[0][:, None] + bins[1][None, :]) % self.dimension)
        order, counts = np.argsort(target, kind="stable"), np.bincount(target, minlength=self.dimension)
        place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)  # of an entry within its bin
        table = np.full((self.dimension, counts.max()), len(target), np.int32)
        table[target[order], place] = order
        return table

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, dimension)."""
        return input_shape[0], self.dimension

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name, "dtype": self.dtype_policy.name, "dimension": self.dimension, "seed": self.seed}

    def _constant(self, name: str, values: np.ndarray) -> keras.Variable:
        """A non-trainable weight; float32 holds every bin below 2^24 exactly and works on any device."""
        return self.add_weight(
            name=name,
            shape=values.shape,
            dtype="float32",
            trainable=False,
            initializer=lambda shape, dtype: ops.convert_to_tensor(values, dtype),
        )
