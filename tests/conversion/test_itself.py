"""Parity of a network with itself in float64, on every backend of Keras; without TensorFlow on PyTorch and JAX."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from conversion import parity
from conversion.certificate import Parity, StageErrors
from conversion.itself import Itself
from conversion.preparation import prepare
from conversion.writers.safetensors import write_safetensors
from mpncov_zoo import architectures
from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.errors import InputError
from tests import networks
from tests.conversion.checkpoints import CLASSES, MODEL, tensors
from tests.test_backends import QUICK_COMPILATION, ROOT

ODD_SIZES = ((2, (33, 47)),)
OPTIONS = {"features": {"repeats": (1, 1, 1, 1)}}
WITHOUT_TENSORFLOW = f"""
import sys
sys.modules["tensorflow"] = None  # from here on, its import is an ImportError
from conversion import parity
from mpncov_zoo import build, cli
parity.ODD_SIZES = {ODD_SIZES}
build("mpncov_cifar_resnet20", num_classes=2)
code = cli.main(["convert", sys.argv[1], "--model", "{MODEL}", "--parity", "--reference", "itself", "--json"])
sys.exit(code or sys.modules["tensorflow"] is not None)
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "net.safetensors"
    write_safetensors(tensors(), path)
    return path


@pytest.mark.parametrize("backend", ["jax", pytest.param("torch", marks=pytest.mark.parity)])
def test_parity_does_without_tensorflow(checkpoint: Path, backend: str) -> None:
    if find_spec(backend) is None:
        pytest.skip(f"needs {backend}")
    environment = {**os.environ, "KERAS_BACKEND": backend, "XLA_FLAGS": QUICK_COMPILATION}
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, str(checkpoint)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    checked = Parity.model_validate(json.loads(done.stdout))
    assert (checked.backend, checked.first_drift) == (backend, None)
    errors = [errors.ours for case in checked.cases for errors in case.stages]
    assert min(errors) > 1e-8 and max(errors) < 2e-5  # those of float32, and not of float64 or TF32


@pytest.mark.parity
def test_a_network_on_another_backend_is_held_to_its_source_network(checkpoint: Path) -> None:
    pytest.importorskip("pytorchcv", reason="needs pytorchcv")
    code = WITHOUT_TENSORFLOW.replace('"--reference", "itself", ', "")
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    command = [sys.executable, "-c", code, str(checkpoint)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    checked = Parity.model_validate(json.loads(done.stdout))
    assert checked.first_drift is None and checked.reference.startswith("pytorchcv's network")


def test_it_computes_in_float64() -> None:
    model = networks.of_architecture(architectures.of_model(MODEL, options=OPTIONS), CLASSES, (32, 32, 3))
    networks.randomize(model)
    twin = Itself(model)
    twin.fill(model)
    stages = twin.stages(networks.images(model))
    assert tuple(stages) == model.stages and {values.dtype for values in stages.values()} == {np.dtype(np.float64)}
    assert (stages["stage4"] != stages["stage4"].astype(np.float32)).any()


def test_a_stage_that_a_device_computes_wrongly_is_named(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the twin's weights are changed instead: what counts is the difference."""
    fill = Itself.fill

    def other(self: Itself, model: ImageClassifier) -> None:
        fill(self, model)
        gamma = self.network.named_variables()["features/stage3_block1_bn2/gamma"]
        gamma.assign(gamma.value * 1.01)

    monkeypatch.setattr(parity, "ODD_SIZES", ODD_SIZES)
    monkeypatch.setattr(Itself, "fill", other)
    drift = parity.measure(prepare(checkpoint, MODEL), reference="itself").first_drift
    assert drift is not None and drift.startswith("stage3 differs by ")


def test_another_reference_is_refused(checkpoint: Path) -> None:
    with pytest.raises(InputError, match=r"reference must be 'pytorch' or 'itself'\. Received: 'published'"):
        parity.check(checkpoint, model=MODEL, reference="published")


def test_errors_of_older_certificates_are_read() -> None:
    older = {"stage": "stem", "pytorch": 1e-6, "tensorflow": 2e-6, "tensorflow_tf32": 3e-4, "bound": 4.2e-5}
    read = StageErrors.model_validate(older)
    assert (read.ours, read.ours_tf32) == (2e-6, 3e-4)
    assert StageErrors.model_validate(read.model_dump()) == read
