"""Ray computes what this process computes; workers, a node and the driver are killed, and every image stands once."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mpncov_zoo.errors import InputError
from mpncov_zoo.features import extract, on_ray
from mpncov_zoo.features.on_ray import share
from tests.command_line import Capture, assert_refused, run
from tests.parquet import rows_of

NAME = "mpncov_cifar_resnet20"
SAMPLE = Path(__file__).parents[2] / "examples" / "fashion_mnist_sample.npz"
COUNT = 400
TWO = ("00000.png", "broken.png")
HOW: dict[str, Any] = {"engine": "ray", "workers": 2, "rows_per_file": 10}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All different, and one that is not an image."""
    folder = tmp_path_factory.mktemp("photos")
    with np.load(SAMPLE) as sample:
        pixels = sample["pixels"][..., 0]
    for number in range(COUNT):
        image = np.roll(pixels[number % len(pixels)], number // len(pixels), axis=1)
        Image.fromarray(image).save(folder / f"{number:05}.png")
    (folder / "broken.png").write_text("<html>")
    return folder


@pytest.fixture(scope="module")
def here(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """What this process computes."""
    output = tmp_path_factory.mktemp("here") / "out"
    extract(NAME, [photos], output)
    return rows_of(output)


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two nodes of one core each, on this machine."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")  # it would kill workers for what other processes hold
        patch.setenv("RAY_health_check_period_ms", "300")  # a node that is gone is noticed after five checks
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        nodes.add_node(num_cpus=1)
        yield nodes
        nodes.shutdown()


def wait_for(output: Path, parts: int, running: Any) -> None:
    while len([*output.glob("part-*")]) < parts and running():
        time.sleep(0.005)
    assert running()


def test_the_driver_a_worker_and_a_node_are_killed(
    cluster: Any, photos: Path, here: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """When the second driver begins, workers of the first may still write."""
    import psutil

    output, reports = tmp_path / "out", []
    command = [sys.executable, "-m", "mpncov_zoo", "features", NAME, str(photos), "--output", str(output)]
    command += ["--engine", "ray", "--address", cluster.address, "--workers", "1", "--rows-per-file", "10"]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(output, 4, lambda: driver.poll() is None)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    before = len([*output.glob("part-*")])
    assert 4 <= before < COUNT / 10
    thread = threading.Thread(
        target=lambda: reports.append(extract(NAME, [photos], output, address=cluster.address, **HOW)), daemon=True
    )
    thread.start()
    wait_for(output, before + 8, thread.is_alive)
    commands = {each: " ".join(each.info["cmdline"] or []) for each in psutil.process_iter(["cmdline"])}
    next(process for process, command in commands.items() if "MapWorker" in command).kill()
    wait_for(output, before + 20, thread.is_alive)
    cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)
    thread.join()
    assert (reports[0].images, reports[0].unreadable) == (COUNT, 1) and 0 < reports[0].added < COUNT
    rows = rows_of(output)
    assert rows.keys() == here.keys() and len(rows) == COUNT
    worst = max(float(np.abs(rows[path] - here[path]).max()) for path in rows)
    assert worst <= 1e-5 * max(float(np.abs(row).max()) for row in here.values())
    assert not [name for name in os.listdir(output) if name.startswith(".")]


def test_a_packed_hub_without_network(artifact_hub: Path, photos: Path, tmp_path: Path) -> None:
    """On a new cluster of this machine; Ray itself says nothing."""
    environment = {**os.environ, "MPNCOV_ZOO_OFFLINE": "1", "MPNCOV_ZOO_CACHE": str(tmp_path / "cache")}
    for name in ("TF_CPP_MIN_LOG_LEVEL", "RAY_BACKEND_LOG_LEVEL"):  # where they are set, messages are asked for
        environment.pop(name, None)
    command = [
        sys.executable,
        "-m",
        "mpncov_zoo",
        "features",
        NAME,
        str(photos / "00000.png"),
        str(photos / "broken.png"),
    ]
    command += ["--output", str(tmp_path / "out"), "--engine", "ray", "--hub", str(artifact_hub), "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '"images": 1' in done.stdout and done.stdout.count("\n") == 1
    lines = [line for line in done.stderr.replace("\r", "\n").splitlines() if line.strip() and "%|" not in line]
    assert lines == [f"mpncov-zoo: left out: 1 images, {tmp_path / 'out' / '_errors.parquet'} says why"]


def test_no_cluster_at_the_address(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    arguments = ["features", NAME, photos / "00000.png", "--output", tmp_path / "out", "--engine", "ray"]
    for address in ("127.0.0.1:9", "auto"):
        result = run(capsys, *arguments, "--address", address)
        assert_refused(result, f"No Ray cluster at {address}: ")


def test_default_workers() -> None:
    def shares(machines: list[dict[str, float]], *how: Any) -> tuple[int, int]:
        nodes = [{"Alive": True, "Resources": machine} for machine in machines]
        return on_ray._shares(SimpleNamespace(nodes=lambda: nodes), *how)

    assert shares([{"CPU": 2}, {"CPU": 16}, {"CPU": 16}], None, 0) == (2, 16)
    head, node = {"CPU": 64}, {"CPU": 8, "GPU": 4}
    assert shares([head, node], None, 1) == (4, 2) and shares([head, node], None, 0.5) == (8, 1)
    assert shares([head, node], 2, 2) == (2, 4)
    with pytest.raises(InputError, match="No machine of the cluster has 8 GPUs"):
        shares([head, node, node], None, 8)


def test_shares_of_cores() -> None:
    assert [share([16], 2), share([4, 8], 2), share([4, 8], 3), share([2, 2], 4), share([0, 3], 2)] == [8, 4, 4, 1, 1]
    with pytest.raises(InputError, match="3 workers need a core each; the cluster has 2"):
        share([1, 1], 3)
