"""The command `mpncov-zoo demo`: what it refuses, before it loads anything, and what it passes on."""

import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mpncov_zoo.cli import demo
from mpncov_zoo.demo.uploads import LIMITS
from mpncov_zoo.errors import OfflineError
from tests.command_line import Capture, assert_refused, run


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr(demo, "load_network", fail)
    monkeypatch.setattr(demo, "import_tensorflow", lambda: None)


@pytest.fixture
def gradio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "require_gradio", lambda: None)


def test_help_states_the_limits(capsys: Capture) -> None:
    code, out, _ = run(capsys, "demo", "--help")
    assert code == 0 and LIMITS in " ".join(out.split()) and "127.0.0.1" in out


def test_a_taken_port(capsys: Capture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_refused(
            run(capsys, "demo", "--port", port), f"--port {port}: Address already in use", "0 for any", lines=1
        )


@pytest.mark.parametrize("port", ["-1", "70000"])
def test_a_port_that_is_none(capsys: Capture, port: str) -> None:
    assert_refused(run(capsys, "demo", "--port", port), f"--port {port}: ", lines=1)


def test_an_unknown_network(capsys: Capture) -> None:
    result = run(capsys, "demo", "--models", "mpncov_resnet50", "mpncov_cifar_resnet2")
    assert_refused(result, "mpncov_cifar_resnet20", lines=1)


def test_without_gradio(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY", "NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")  # the command sets them: the other tests have them as they were
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = run(capsys, "demo", "--port", "0")
    assert_refused(result, "The demo needs Gradio: pip install 'mpncov-zoo[demo]'.", lines=1)


@pytest.mark.usefixtures("gradio")
def test_a_features_file_that_is_none(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "features.npz"
    assert_refused(run(capsys, "demo", "--port", "0", "--neighbours", path), f"No file '{path}'", lines=1)
    np.savez(path, logits=np.zeros(3))
    assert_refused(run(capsys, "demo", "--port", "0", "--neighbours", path), "is no file of", lines=1)


@pytest.mark.usefixtures("gradio")
def test_weights_that_are_not_here(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> None:
        raise OfflineError("they would have to be downloaded")

    monkeypatch.setattr(demo, "load_network", load)
    result = run(capsys, "demo", "--port", "0", "--models", "mpncov_resnet50")
    code, out, err = result
    assert (code, out) == (2, "") and err.splitlines() == [
        "mpncov-zoo: loading mpncov_resnet50",
        "mpncov-zoo: error: they would have to be downloaded",
    ]


@pytest.mark.usefixtures("gradio")
def test_the_bundled_networks_are_shown(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Any] = []
    monkeypatch.setattr(demo, "load_network", lambda name: SimpleNamespace(name=name))
    monkeypatch.setattr(demo, "serve", lambda *given: served.append(given))
    assert run(capsys, "demo", "--port", "0")[0] == 0
    ((networks, neighbours, matched, port),) = served
    assert [network.name for network in networks] == [
        "mpncov_cifar_resnet20.fashion_mnist",
        "cifar_resnet20.fashion_mnist",
        "mpncov_cifar_resnet20.cifar100",
        "cifar_resnet20.cifar100",
    ]
    assert (neighbours, matched) == (None, set()) and port > 0


@pytest.mark.usefixtures("gradio")
def test_two_names_of_one_network(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "load_network", lambda name: SimpleNamespace(name="one.network"))
    code, out, err = run(capsys, "demo", "--port", "0", "--models", "runs/a", "runs/b")
    assert (code, out) == (2, "") and "--models names one.network twice" in err
