"""The published layers that are measured against compute the published values and gradients."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import published_heads

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "head.golden.npz")
GROUPS = ("wide", "tall", "few")


def golden(group: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Input and gradient (batch, d, height, width), vector and its cotangent, float32."""
    vector = GOLDEN[f"{group}/iter5/vector"]
    cotangent = np.random.default_rng(int(GOLDEN[f"{group}/iter5/cotangent_seed"])).normal(0, 1, vector.shape)
    arrays = (GOLDEN[f"{group}/x_nchw"], GOLDEN[f"{group}/iter5/gradient_nchw"], vector, cotangent)
    x, gradient, vector, cotangent = (array.astype(np.float32) for array in arrays)
    return x, gradient, vector, cotangent


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("group", GROUPS)
def test_tensorflow(group: str) -> None:
    x, gradient, vector, cotangent = golden(group)
    images = tf.constant(x.transpose(0, 2, 3, 1))
    with tf.GradientTape() as tape:
        tape.watch(images)
        computed = published_heads.tensorflow()(images)
    assert_close(computed.numpy(), vector)
    assert_close(tape.gradient(computed, images, cotangent).numpy().transpose(0, 3, 1, 2), gradient)


@pytest.mark.parity
@pytest.mark.parametrize("group", GROUPS)
def test_pytorch(group: str) -> None:
    import torch

    x, gradient, vector, cotangent = golden(group)
    images = torch.tensor(x, requires_grad=True)
    computed = published_heads.pytorch()(images)
    computed.backward(torch.tensor(cotangent))
    assert_close(computed.detach().numpy(), vector)
    assert_close(images.grad.numpy(), gradient)
