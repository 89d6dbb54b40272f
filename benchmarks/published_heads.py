"""The published iSQRT-COV layers again, operation by operation, to measure against: in PyTorch and in TensorFlow.

Both compute the covariance by an N x N centring matrix, iterate on the d x d covariance and differentiate by hand, as
published; tests/benchmarks holds them against the published values.
"""

# pyright: reportMissingImports=false
# (torch is installed only where it is measured against)

from typing import Any

import numpy as np


def pytorch() -> Any:
    """The function (batch, d, height, width) -> (batch, d (d + 1) / 2), differentiable."""
    import torch

    def eye(size: int, like: Any) -> Any:
        return torch.eye(size, device=like.device)

    class Covariance(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: Any) -> Any:
            batch, d, height, width = x.shape
            n = height * width
            x = x.reshape(batch, d, n)
            centring = (eye(n, x) / n - torch.ones(n, n, device=x.device) / n / n).repeat(batch, 1, 1)
            context.save_for_backward(x, centring)
            context.shape = (batch, d, height, width)
            return x.bmm(centring).bmm(x.transpose(1, 2))

        @staticmethod
        def backward(context: Any, *cotangents: Any) -> Any:
            x, centring = context.saved_tensors
            both = cotangents[0] + cotangents[0].transpose(1, 2)
            return both.bmm(x).bmm(centring).reshape(context.shape)

    class SquareRoot(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: Any, iterations: int) -> Any:
            batch, d, _ = x.shape
            identity3 = 3 * eye(d, x).repeat(batch, 1, 1)
            trace = x.mul(identity3).sum((1, 2)).div(3).reshape(batch, 1, 1)
            a = x / trace
            y = torch.zeros(batch, iterations, d, d, device=x.device)
            z = eye(d, x).repeat(batch, iterations, 1, 1)
            y[:, 0], z[:, 0] = a.bmm(0.5 * (identity3 - a)), 0.5 * (identity3 - a)
            for k in range(1, iterations - 1):
                step = 0.5 * (identity3 - z[:, k - 1].bmm(y[:, k - 1]))
                y[:, k], z[:, k] = y[:, k - 1].bmm(step), step.bmm(z[:, k - 1])
            last = 0.5 * y[:, -2].bmm(identity3 - z[:, -2].bmm(y[:, -2]))
            context.save_for_backward(x, a, last, trace, y, z)
            return last * trace.sqrt()

        @staticmethod
        def backward(context: Any, *cotangents: Any) -> Any:
            x, a, last, trace, y, z = context.saved_tensors
            batch, iterations, d, _ = y.shape
            identity3 = 3 * eye(d, x).repeat(batch, 1, 1)
            through = cotangents[0] * trace.sqrt()
            through_root = (cotangents[0] * last).sum((1, 2)) / (2 * trace.sqrt().reshape(batch))
            by, bz = y[:, -2], z[:, -2]
            dy = 0.5 * (through.bmm(identity3 - by.bmm(bz)) - bz.bmm(by).bmm(through))
            dz = -0.5 * by.bmm(through).bmm(by)
            for k in range(iterations - 3, -1, -1):
                by, bz = y[:, k], z[:, k]
                yz, zy = identity3 - by.bmm(bz), bz.bmm(by)
                dy, dz = (
                    0.5 * (dy.bmm(yz) - bz.bmm(dz).bmm(bz) - zy.bmm(dy)),
                    0.5 * (yz.bmm(dz) - by.bmm(dy).bmm(by) - dz.bmm(zy)),
                )
            da = (0.5 * (dy.bmm(identity3 - a) - dz - a.bmm(dy))).transpose(1, 2)
            gradient = da / trace
            through_trace = (da * x).sum((1, 2))
            for k in range(batch):
                gradient[k] += (through_root[k] - through_trace[k] / trace[k, 0, 0] ** 2) * eye(d, x)
            return gradient, None

    class Triangle(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: Any) -> Any:
            batch, d, _ = x.shape
            context.places = torch.ones(d, d, device=x.device).triu().reshape(d * d).nonzero()[:, 0]
            context.shape = x.shape
            return x.reshape(batch, d * d)[:, context.places]

        @staticmethod
        def backward(context: Any, *cotangents: Any) -> Any:
            batch, d, _ = context.shape
            gradient = torch.zeros(batch, d * d, device=cotangents[0].device)
            gradient[:, context.places] = cotangents[0]
            return gradient.reshape(batch, d, d)

    return lambda x: Triangle.apply(SquareRoot.apply(Covariance.apply(x), 5))


def tensorflow() -> Any:
    """The function (batch, height, width, d) -> (batch, d (d + 1) / 2), differentiable; sizes are static."""
    import tensorflow as tf

    @tf.custom_gradient
    def covariance(x: Any) -> Any:
        batch, height, width, d = x.shape
        n = height * width
        rows = tf.reshape(x, (batch, n, d))
        centring = tf.tile((tf.eye(n) / n - tf.ones((n, n)) / n / n)[None], (batch, 1, 1))

        def gradient(cotangent: Any) -> Any:
            both = cotangent + tf.transpose(cotangent, (0, 2, 1))
            return tf.reshape(tf.matmul(centring, tf.matmul(rows, both)), x.shape)

        return tf.matmul(tf.matmul(tf.transpose(rows, (0, 2, 1)), centring), rows), gradient

    @tf.custom_gradient
    def square_root(x: Any) -> Any:
        batch, d, _ = x.shape
        identity3 = tf.tile(3 * tf.eye(d)[None], (batch, 1, 1))
        trace = tf.reshape(tf.reduce_sum(x * identity3, (1, 2)) / 3, (batch, 1, 1))
        a = x / trace
        step = 0.5 * (identity3 - a)
        ys, zs = [tf.matmul(a, step)], [step]
        for _ in range(3):
            step = 0.5 * (identity3 - tf.matmul(zs[-1], ys[-1]))
            ys, zs = [*ys, tf.matmul(ys[-1], step)], [*zs, tf.matmul(step, zs[-1])]
        last = 0.5 * tf.matmul(ys[-1], identity3 - tf.matmul(zs[-1], ys[-1]))

        def gradient(cotangent: Any) -> Any:
            through = cotangent * tf.sqrt(trace)
            through_root = tf.reduce_sum(cotangent * last, (1, 2), keepdims=True) / (2 * tf.sqrt(trace))
            y, z = ys[-1], zs[-1]
            dy = tf.matmul(through, identity3 - tf.matmul(y, z)) - tf.matmul(tf.matmul(z, y), through)
            dy, dz = 0.5 * dy, -0.5 * tf.matmul(tf.matmul(y, through), y)
            for y, z in zip(ys[-2::-1], zs[-2::-1], strict=True):
                yz, zy = identity3 - tf.matmul(y, z), tf.matmul(z, y)
                dy, dz = (
                    0.5 * (tf.matmul(dy, yz) - tf.matmul(tf.matmul(z, dz), z) - tf.matmul(zy, dy)),
                    0.5 * (tf.matmul(yz, dz) - tf.matmul(tf.matmul(y, dy), y) - tf.matmul(dz, zy)),
                )
            da = tf.transpose(0.5 * (tf.matmul(dy, identity3 - a) - dz - tf.matmul(a, dy)), (0, 2, 1))
            through_trace = tf.reduce_sum(da * x, (1, 2), keepdims=True)
            return da / trace + (through_root - through_trace / trace**2) * tf.eye(d)

        return last * tf.sqrt(trace), gradient

    def triangle(x: Any) -> Any:
        batch, d, _ = x.shape
        places = np.flatnonzero(np.triu(np.ones((d, d))))
        return tf.gather(tf.reshape(x, (batch, d * d)), places, axis=1)

    return lambda x: triangle(square_root(covariance(x)))
