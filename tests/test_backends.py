"""The layers and networks on Keras' other backends give what they give on TensorFlow, which they don't import there.

Run as a program, `python -m tests.test_backends FILE`, this module computes with the backend that KERAS_BACKEND names.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from mpncov_zoo import architectures, cli, registry, representations
from mpncov_zoo.assembly import precision
from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.errors import InputError
from tests.numpy_networks import draw

ROOT = Path(__file__).parent.parent
PUBLISHED = "mpncov_cifar_resnet20.fashion_mnist"
OTHERS = ("jax", pytest.param("torch", marks=pytest.mark.parity))
LAYERS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("BCNN", {}),
    ("CBP", {"dimension": 64}),
    ("GAP", {}),
    *(("MPNCOV", {"form": form, "vectorize": v}) for form in ("covariance", "gram") for v in (True, False)),
    *(("MPNCOV", {"form": form, "gradient": "autodiff"}) for form in ("covariance", "gram")),
    ("MPNCOV", {"square_root": False}),
    ("MPNCOV", {"power": 0.5}),
    *(("MPNCOV", {"square_root": "pade", "gradient": gradient}) for gradient in ("analytic", "autodiff")),
    ("MPNCOV", {"dimension_reduction": 4, "dropout": 0.5}),
    ("MPNCOV", {"normalization": "frobenius"}),
    ("MPNCOV", {"normalization": None}),
)
NETWORKS: tuple[tuple[str, int, Mapping[str, Mapping[str, Any]]], ...] = (  # name, size of the image in pixels, options
    ("cifar_resnet20", 12, {"features": {"repeats": 1}}),
    ("cifar_preact_resnet164", 12, {"features": {"repeats": 1}}),
    ("mpncov_cifar_resnet20", 12, {"features": {"repeats": 1}}),
    ("resnet18", 32, {"features": {"repeats": (1, 1, 1, 1)}}),
    (
        "vgg16_bn",
        32,
        {
            "features": {"repeats": (1, 1, 1, 1, 1)},
            "representation": {"size": 1},
            "classifier": {"hidden": (16,)},
        },
    ),
    ("vgg_m", 64, {"representation": {"size": 1}, "classifier": {"hidden": (16,)}}),
)
EXACT = NETWORKS[2]
LAYER_CASES = tuple((kind, options, dtype) for kind, options in LAYERS for dtype in ("float32", "float64"))
BOUNDS = {  # of the largest deviation, relative to the largest value
    **{
        f"{kind}({options})/{dtype}": {"float32": 1e-5, "float64": 1e-12}[dtype] for kind, options, dtype in LAYER_CASES
    },
    **{name: 5e-5 for name, *_ in NETWORKS},
    "in float64": 1e-9,
}
HASHES = ("bins", "signs")  # CBP draws them with NumPy
Gradient = Callable[[Callable[[Any], Any], np.ndarray], tuple[Any, Any]]


def features() -> np.ndarray:
    """Rectified, (3, 4, 3, 6): the first image is zero everywhere, and one channel of the second."""
    x = np.maximum(np.random.default_rng(0).normal(0.5, 1, (3, 4, 3, 6)), 0)
    x[0], x[1, ..., 2] = 0, 0
    return x


def network(name: str, size: int, options: Mapping[str, Mapping[str, Any]]) -> ImageClassifier:
    return ImageClassifier(
        architectures.of_model(name, options=options),
        num_classes=3,
        input_shape=(size, size, 3),
        input_specification=registry.backbone_of(name).input,
        initialize=(),
    )


def randomize(layer: keras.layers.Layer) -> None:
    rng = np.random.default_rng(1)
    for variable in layer.weights:
        kind = variable.path.rpartition("/")[2]
        if kind not in HASHES:
            variable.assign(draw(rng, kind, tuple(variable.shape)))


def cotangent(output: Any) -> np.ndarray:
    dtype = keras.backend.standardize_dtype(output.dtype)
    return np.random.default_rng(2).normal(0, 1, tuple(output.shape)).astype(dtype)


def tensorflow_gradient(layer: Callable[[Any], Any], inputs: np.ndarray) -> tuple[Any, Any]:
    import tensorflow as tf

    x = tf.constant(inputs)
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = layer(x)
    return output, tape.gradient(output, x, tf.constant(cotangent(output)))


def torch_gradient(layer: Callable[[Any], Any], inputs: np.ndarray) -> tuple[Any, Any]:
    import torch

    x = torch.tensor(inputs, requires_grad=True)
    output = layer(x)
    output.backward(torch.tensor(cotangent(output)))
    return output.detach(), x.grad


def jax_gradient(layer: Callable[[Any], Any], inputs: np.ndarray) -> tuple[Any, Any]:
    import jax

    @jax.jit
    def both(x: Any) -> tuple[Any, Any]:
        output, pull_back = jax.vjp(layer, x)
        return output, pull_back(cotangent(output))[0]

    return both(inputs)


def tensorflow_curvature(layer: Callable[[Any], Any], inputs: np.ndarray) -> Any:
    import tensorflow as tf

    x = tf.constant(inputs)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            loss = tf.reduce_sum(layer(x) ** 2)
        along = tf.reduce_sum(inner.gradient(loss, x) * direction(inputs))
    return outer.gradient(along, x)


def torch_curvature(layer: Callable[[Any], Any], inputs: np.ndarray) -> Any:
    import torch

    x = torch.tensor(inputs, requires_grad=True)
    (gradient,) = torch.autograd.grad((layer(x) ** 2).sum(), x, create_graph=True)
    return torch.autograd.grad((gradient * torch.tensor(direction(inputs))).sum(), x)[0]


def jax_curvature(layer: Callable[[Any], Any], inputs: np.ndarray) -> Any:
    import jax

    gradient = jax.grad(lambda x: (layer(x) ** 2).sum())
    return jax.jit(jax.grad(lambda x: (gradient(x) * direction(inputs)).sum()))(inputs)


def direction(inputs: np.ndarray) -> np.ndarray:
    return np.random.default_rng(4).normal(0, 1, inputs.shape)


CURVATURES: Mapping[str, Callable[[Callable[[Any], Any], np.ndarray], Any]] = {
    "jax": jax_curvature,
    "tensorflow": tensorflow_curvature,
    "torch": torch_curvature,
}
CURVED: Mapping[str, Mapping[str, Any]] = {  # second derivatives of MPNCOV with these options
    "covariance": {"form": "covariance"},
    "gram": {"form": "gram"},
    "autodiff": {"gradient": "autodiff"},
    "power": {"power": 0.5},
}
GRADIENTS: Mapping[str, Gradient] = {
    "jax": jax_gradient,
    "tensorflow": tensorflow_gradient,
    "torch": torch_gradient,
}


def evaluate() -> dict[str, np.ndarray]:
    """Output, and gradient with respect to the input, of every case on the backend in use."""
    gradient, results = GRADIENTS[keras.backend.backend()], []
    for kind, options, dtype in LAYER_CASES:
        layer = getattr(representations, kind)(**options, dtype=dtype)
        layer.build((None, *features().shape[1:]))
        randomize(layer)
        results.append(gradient(layer, features().astype(dtype)))
    for name, size, options in NETWORKS:
        model = network(name, size, options)
        randomize(model)
        images = np.random.default_rng(3).normal(0, 1, (2, size, size, 3)).astype(np.float32)
        results.append(gradient(model, images))
    with precision("float64"):
        exact = network(*EXACT)
    randomize(exact)
    if keras.backend.backend() == "torch":  # a network is a module of PyTorch there
        assert len([*exact.parameters()]) >= len(exact.trainable_weights)
    results.append(
        gradient(exact, np.random.default_rng(3).normal(0, 1, (2, EXACT[1], EXACT[1], 3)).astype(np.float32))
    )
    curvature, dense = CURVATURES[keras.backend.backend()], np.random.default_rng(5).normal(0, 1, (2, 3, 4, 5))
    return {
        f"{case}/{part}": np.asarray(value)
        for case, values in zip(BOUNDS, results, strict=True)
        for part, value in zip(("output", "gradient"), values, strict=True)
    } | {
        f"curvature/{name}": np.asarray(curvature(representations.MPNCOV(**options, dtype="float64"), dense))
        for name, options in CURVED.items()
    }


on_tensorflow = cache(evaluate)
# JAX compiles, which is most of the time
QUICK_COMPILATION = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false"
)


@pytest.fixture(scope="module", params=OTHERS)
def elsewhere(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What another backend computed: a file, the modules that were imported for it, and what commands answered."""
    if find_spec(request.param) is None:
        pytest.skip(f"needs {request.param}")
    path = tmp_path_factory.mktemp(request.param) / "values.npz"
    environment = {**os.environ, "KERAS_BACKEND": request.param, "JAX_ENABLE_X64": "1", "XLA_FLAGS": QUICK_COMPILATION}
    command = [sys.executable, "-m", "tests.test_backends", str(path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return path, done.stdout


@pytest.mark.parametrize("case", BOUNDS)
def test_same_output_and_gradient_as_on_tensorflow(elsewhere: tuple[Path, str], case: str) -> None:
    with np.load(elsewhere[0]) as computed:
        for part in ("output", "gradient"):
            actual, expected = computed[f"{case}/{part}"], on_tensorflow()[f"{case}/{part}"]
            assert actual.dtype == expected.dtype and actual.shape == expected.shape
            scale = np.abs(expected).max()
            assert scale > 0 and np.abs(actual - expected).max() <= BOUNDS[case] * scale, part


@pytest.mark.parametrize("name", CURVED)
def test_second_derivatives(elsewhere: tuple[Path, str], name: str) -> None:
    expected = on_tensorflow()[f"curvature/{'power' if name == 'power' else 'autodiff'}"]
    with np.load(elsewhere[0]) as computed:
        for actual in (computed[f"curvature/{name}"], on_tensorflow()[f"curvature/{name}"]):
            np.testing.assert_allclose(actual, expected, rtol=1e-8, atol=1e-8)


def test_tensorflow_is_not_imported(elsewhere: tuple[Path, str]) -> None:
    modules = elsewhere[1].splitlines()[0].split()
    assert "mpncov_zoo.representations.mpncov" in modules and "mpncov_zoo.backbones.resnet" in modules
    assert "tensorflow" not in modules


def test_commands_work_or_name_the_setting(elsewhere: tuple[Path, str]) -> None:
    """What needs TensorFlow says so in one line; nothing calls intact weights damaged."""
    answers = json.loads(elsewhere[1].splitlines()[1])
    assert answers.pop("verify") == [0, ""] and answers.pop("predict") == [0, ""]
    assert set(answers) == {"train", "convert", "write"}
    for code, error in answers.values():
        assert code == 2 and "needs Keras on TensorFlow" in error and error.endswith("set KERAS_BACKEND=tensorflow\n")
        assert len(error.splitlines()) == 1


def commands() -> dict[str, tuple[int, str]]:
    """Exit code and standard error of commands in this process."""
    boot = str(ROOT / "examples" / "images" / "ankle-boot.png")
    lines = {
        "verify": ["verify", PUBLISHED, "--selftest"],
        "predict": ["predict", PUBLISHED, boot],
        "train": ["train", "fashion_mnist", "--data", "/nowhere", "--output", "/nowhere/run"],
        "convert": ["convert", boot, "--model", "resnet18", "--output", "/nowhere/converted"],
    }
    answers = {}
    for name, line in lines.items():
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()) as error:
            answers[name] = (cli.main(line), error.getvalue())
    try:
        from mpncov_zoo import artifact  # late: it imports TensorFlow

        artifact.write(network("cifar_resnet20", 12, NETWORKS[0][2]), "/nowhere/written", tag="x", provenance={})
    except InputError as error:
        answers["write"] = (2, f"{error}\n")
    return answers


if __name__ == "__main__":
    np.savez(sys.argv[1], **evaluate())
    print(*sys.modules)
    print(json.dumps(commands()))
