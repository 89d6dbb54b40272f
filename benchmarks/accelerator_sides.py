"""The sides of `benchmarks.accelerator`: what each of its processes computes when it is asked.

`reference` seeds weights and computes in float64 on the CPU, `jax` and `torch` are this package on these backends of
Keras, `published` is the published network in PyTorch.
"""

# pyright: reportMissingImports=false
# (of the backends only those that are installed are measured)

import gc
import json
import os
import time
import traceback
import zlib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import accelerator_calls
from benchmarks.side_by_side import Request
from mpncov_zoo import architectures
from tests import published

MODES = {"float32": ("float32", False), "tf32": ("float32", True), "bfloat16": ("mixed_bfloat16", True)}
SIDES = ("reference", "jax", "torch", "published")
SHAPE = (2, 3, 224, 224)  # of the images that the golden values are of
_TRUNK = {f"layer{number}": f"stage{number}" for number in range(1, 5)}
GOLDEN: Mapping[str, tuple[str, Mapping[str, str]]] = {  # model -> the published network, and its stages by our names
    "mpncov_resnet50": ("mpncovresnet50", {**_TRUNK, "layer_reduce_relu": "reduction"}),
    "mpncov_resnet101": ("mpncovresnet101", {**_TRUNK, "layer_reduce_relu": "reduction"}),
    "mpncov_vgg16_bn": ("mpncovvgg16_bn", {"features": "stage5", "representation.conv_dr_block": "reduction"}),
}
Result = dict[str, Any]


def worker(side: str, device: str, folder: Path) -> Callable[[Request], Result]:
    """Answers requests; what fails is answered, too, so that the next request finds the side alive."""
    backend = {"reference": "torch" if find_spec("torch") else "jax", "published": "torch"}.get(side, side)
    os.environ |= {"KERAS_BACKEND": backend, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if side == "reference":
        os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
    held: dict[str, Any] = {}

    def answer(what: Request) -> Result:
        try:
            return ANSWERS[what["do"]](side, "cpu" if side == "reference" else device, folder, what, held)
        except Exception as error:
            traceback.print_exc()
            return {"error": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}

    return answer


def facts(side: str, device: str, folder: Path, what: Request, held: dict[str, Any]) -> Result:
    """The card and the versions of the libraries."""
    import keras

    from conversion.devices import require_device

    backend = keras.backend.backend()
    require_device(device, backend)
    found = {"keras": keras.__version__, "backend": backend}
    if backend == "jax":
        import jax

        return {**found, "jax": jax.__version__, "device": jax.devices()[0].device_kind}
    import torch

    card = torch.cuda.get_device_name() if device == "gpu" else "cpu"
    return {**found, "torch": torch.__version__, "cuda": torch.version.cuda, "device": card}


def seed(side: str, device: str, folder: Path, what: Request, held: dict[str, Any]) -> Result:
    """Write a network's seeded checkpoint, and what every stage computes in float64.

    Returns:
        How far that is from what the published code computed from the same weights, where this is known.
    """
    from conversion.itself import Itself
    from conversion.writers.safetensors import write_safetensors

    model = what["model"]
    write_safetensors(seeded_tensors(what), folder / model)
    network = accelerator_calls.network(folder, what, "float32", None)
    twin = Itself(network)
    twin.fill(network)
    shape = (SHAPE[0], SHAPE[1], what["size"], what["size"])
    images = published.seeded_images(GOLDEN.get(model, (model,))[0], shape).transpose(0, 2, 3, 1)
    stages = twin.stages(images)
    np.savez(folder / f"{model}.npz", images=images, **stages)
    return {"published": published_errors(model, stages)} if what["golden"] else {}


def parity(side: str, device: str, folder: Path, what: Request, held: dict[str, Any]) -> Result:
    """The error of every stage in one mode, over the largest value in float64; and against the published code."""
    from conversion.devices import on, tf32
    from conversion.itself import computed
    from conversion.parity import relative_error

    policy, allowed = MODES[what["mode"]]
    with np.load(folder / f"{what['model']}.npz") as archive:
        exact = dict(archive)
    images = exact.pop("images")
    with on(device), tf32(allowed):
        extract = _kept(held, [what["model"], policy], lambda: _extractor(folder, what, policy))
        stages = {name: value.astype(np.float64) for name, value in computed(extract, images).items()}
    errors = {name: relative_error(stages[name], exact[name]) for name in extract.stages}
    return {"errors": errors, **({"published": published_errors(what["model"], stages)} if what["golden"] else {})}


def rate(side: str, device: str, folder: Path, what: Request, held: dict[str, Any]) -> Result:
    """Multiplications a second of a large square product: the fastest of some."""
    from keras import ops

    from conversion.devices import on, tf32

    policy, allowed = MODES[what["mode"]]
    with on(device), tf32(allowed):
        numbers = np.random.default_rng(0).normal(0, 1, (what["size"], what["size"]))
        matrix = ops.cast(numbers.astype(np.float32), policy.removeprefix("mixed_"))
        seconds = min(_seconds(lambda: ops.matmul(matrix, matrix), calls=10) for _ in range(4))
    return {"multiplications_per_s": what["size"] ** 3 / seconds}


def timed(side: str, device: str, folder: Path, what: Request, held: dict[str, Any]) -> Result:
    """Seconds of one call, on average over some that follow one another; the first request warms up, too."""
    from conversion.devices import gradients_off, on, tf32

    policy, allowed = MODES[what["mode"]]
    make = TIMED["published" if side == "published" else "ours", what["what"]]
    gradients = nullcontext() if what["backward"] else gradients_off()
    with on(device), tf32(allowed), gradients:
        new = json.dumps(what) not in held
        call = _kept(held, what, lambda: make(folder, what, policy, device))
        if new:
            _seconds(call, what["warm_ups"])
        return {"seconds": _seconds(call, what["calls"])}


def multiplications(side: str, device: str, folder: Path, what: Request, held: dict[str, Any]) -> Result:
    """How many numbers the convolutions and products of one image multiply; a gradient takes those of two more."""
    from benchmarks import head, inference

    if what["what"] == "head":
        return {"multiplications": head.multiplications((what["size"], what["channels"], 1, what["backward"]))}
    network = accelerator_calls.network(folder, what, "float32", what["size"])
    return {"multiplications": inference.multiplications_of(network) * (3 if what["backward"] else 1)}


TIMED = {
    ("ours", "head"): accelerator_calls.our_head,
    ("ours", "network"): accelerator_calls.our_network,
    ("published", "head"): accelerator_calls.published_head,
    ("published", "network"): accelerator_calls.published_network,
}
ANSWERS = {
    "facts": facts,
    "seed": seed,
    "parity": parity,
    "rate": rate,
    "timed": timed,
    "multiplications": multiplications,
}


def seeded_tensors(what: Request) -> dict[str, np.ndarray]:
    """A checkpoint by its published names: the golden files' seeds, and elsewhere kernels by fan-in."""
    from conversion.maps import INVERSES, families_of
    from tests import networks

    architecture = architectures.of_model(what["model"], options=what["options"], stages=())
    steps = next(family for family in families_of(architecture) if family.naming.written).steps(architecture)
    variables = networks.of_architecture(architecture, what["classes"], (None, None, 3)).named_variables()
    shapes = {
        step.source: INVERSES[step.transform](np.broadcast_to(np.float32(0), variables[step.target].shape)).shape
        for step in steps
    }
    return {name: _seeded(what["model"], name, shape) for name, shape in shapes.items()}


def _seeded(model: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Where no golden file is: kernels by fan-in, and what ends a block small, as there; else ReLU6 would be flat."""
    if model in GOLDEN or len(shape) < 2:
        return published.seeded_tensor(name.replace("._bn2.", ".bn2."), shape)
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    return generator.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)


def published_errors(model: str, stages: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Against the published code in float64: logits, and a corner of every stage of which one is known."""
    if model not in GOLDEN:
        return {}
    net, names = GOLDEN[model]
    facts = published.golden(net, SHAPE)
    corners = {ours: facts[f"{theirs}/corner"] for theirs, ours in names.items()}
    errors = {
        stage: published.relative_error(stages[stage].transpose(0, 3, 1, 2)[:, :8, :4, :4], corner)
        for stage, corner in corners.items()
    }
    return {**errors, "logits": published.relative_error(stages["logits"], facts["logits"])}


def _kept(held: dict[str, Any], key: Any, make: Callable[[], Any]) -> Any:
    """What was made for the last key, or is made now, when the last one's memory is free again."""
    name = json.dumps(key)
    if name not in held:
        held.clear()
        gc.collect()
        held[name] = make()
    return held[name]


def _extractor(folder: Path, what: Request, policy: str) -> Any:
    from mpncov_zoo.classifier import FeatureExtractor

    network = accelerator_calls.network(folder, what, policy, None)
    return FeatureExtractor(network, network.stages)


def _seconds(call: accelerator_calls.Call, calls: int) -> float:
    """Of one of some calls that follow one another; the device is waited for at the end."""
    _wait(call())
    start = time.perf_counter()
    for _ in range(calls):
        result = call()
    _wait(result)
    return (time.perf_counter() - start) / calls


def _wait(result: Any) -> None:
    import keras

    if keras.backend.backend() == "jax":
        import jax

        jax.block_until_ready(result)
        return
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
