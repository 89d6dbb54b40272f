"""What `mpncov-zoo --version --json` prints: versions, system and devices, which is what a report of a fault needs."""

import argparse
import json
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mpncov_zoo.quiet import import_tensorflow
from mpncov_zoo.version import __version__

REQUIRED = ("tensorflow", "keras", "numpy", "huggingface-hub")
OPTIONAL = (
    "tensorflow-hub",
    "torch",
    "jax",
    "onnx",
    "onnxruntime",
    "openvino",
    "tf2onnx",
    "ai-edge-litert",
    "pyarrow",
    "scikit-learn",
)
# An absolute path up to its last separator, but no URL; its folders may have spaces in their names.
FOLDERS = re.compile(r"""(?<![\w/:])(?:[A-Za-z]:)?[\\/](?:[^\\/\n'"():]+[\\/])+""")


def run(args: argparse.Namespace) -> int:
    """Print the environment as one JSON object."""
    print(json.dumps(environment(), indent=2))
    return 0


def environment() -> dict[str, Any]:
    """Versions (None: a required package is missing), the system, Keras' backend and the devices, without any path.

    `keras_backend` and `devices` are None, and `error` says why, where TensorFlow or the backend cannot be imported.
    """
    found = {name: _installed(name) for name in (*REQUIRED, *OPTIONAL)}
    facts = {
        "mpncov-zoo": __version__,
        "python": platform.python_version(),
        "packages": {name: number for name, number in found.items() if number or name in REQUIRED},
        "system": platform.platform(),
        "machine": platform.machine(),
    }
    try:
        import_tensorflow()
        import keras
        import tensorflow as tf

        devices = [device.name for device in tf.config.list_physical_devices()]
        return facts | {"keras_backend": keras.backend.backend(), "devices": devices, "error": None}
    except Exception as error:  # whatever a broken installation raises is what the report is about
        cause = error.__cause__ or error
        reason = FOLDERS.sub("", f"{type(cause).__name__}: {cause}")
        return facts | {"keras_backend": None, "devices": None, "error": reason}


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
