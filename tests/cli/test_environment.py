"""`mpncov-zoo --version --json`: what the packages say of themselves, and JSON whatever is broken."""

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import keras
import numpy as np
import pytest
import tensorflow as tf

import mpncov_zoo
from mpncov_zoo.cli import environment
from mpncov_zoo.errors import InputError
from tests.command_line import Capture, run

MAIN = "import sys; from mpncov_zoo.cli import main; "


@pytest.mark.parametrize("arguments", [("--version", "--json"), ("--json", "--version")])
def test_it_states_what_is_installed(capsys: Capture, arguments: tuple[str, str]) -> None:
    code, out, err = run(capsys, *arguments)
    facts = json.loads(out)
    assert (code, err, facts["error"]) == (0, "", None)
    assert (facts["mpncov-zoo"], facts["python"]) == (mpncov_zoo.__version__, platform.python_version())
    expected = {"tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__}
    assert expected.items() <= facts["packages"].items()
    assert facts["machine"] == os.uname().machine and os.uname().release in facts["system"]
    assert facts["keras_backend"] == keras.backend.backend() and "/physical_device:CPU:0" in facts["devices"]


def test_packages_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        raise PackageNotFoundError

    monkeypatch.setattr(environment, "version", version)
    assert environment.environment()["packages"] == dict.fromkeys(("tensorflow", "keras", "numpy", "huggingface-hub"))


@pytest.mark.parametrize(
    ("before", "backend", "reason"),
    [
        ("", "nosuch", "ValueError: Unable to import backend : nosuch"),
        ("sys.modules['tensorflow'] = None; ", "tensorflow", "ModuleNotFoundError: No module named 'tensorflow."),
    ],
)
def test_a_broken_installation_is_stated(before: str, backend: str, reason: str) -> None:
    command = [sys.executable, "-c", f"{MAIN}{before}sys.exit(main(['--version', '--json']))"]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "KERAS_BACKEND": backend})
    facts = json.loads(result.stdout)
    assert (result.returncode, facts["keras_backend"], facts["devices"]) == (0, None, None)
    assert facts["error"].startswith(reason)


def test_the_reason_has_no_path_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise InputError("...") from ImportError(
            "cannot import 'a' from 'b' (/home/A B/lib/b/__init__.py)\n  File \"C:\\Users\\A B\\c.py\", line 1\n"
            "/opt/x/d.so: undefined symbol: read/write\nsee https://www.tensorflow.org/install/errors"
        )

    monkeypatch.setattr(environment, "import_tensorflow", fail)
    assert environment.environment()["error"] == (
        "ImportError: cannot import 'a' from 'b' (__init__.py)\n  File \"c.py\", line 1\n"
        "d.so: undefined symbol: read/write\nsee https://www.tensorflow.org/install/errors"
    )


def test_the_version_alone_does_not_import_tensorflow() -> None:
    shown = "import atexit; atexit.register(lambda: print({'tensorflow', 'keras'} & {*sys.modules})); "
    command = [sys.executable, "-c", f"{MAIN}{shown}main(['--version'])"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, f"mpncov-zoo {mpncov_zoo.__version__}\nset()\n")
