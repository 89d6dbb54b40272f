"""Loading mpncov_resnet101 from a local artifact, against building a PyTorch twin and loading its state_dict.

    python -m benchmarks.load [--repeats 9]

Two processes, both warm, take turns; the figures are medians and the ratio of the medians. Peak memory is that of the
first load in its process, above the imported framework, in units of the parameters' bytes (Linux). Needs torch.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.side_by_side import Answer, Request, peak_memory, require_torch, serve, sides

MODEL, PARAMETER_BYTES = "mpncov_resnet101", 4 * 75_921_960
Loader = Callable[[], float]  # loads once; returns the seconds of it that went into verification


def tensorflow_side(folder: Path) -> Loader:
    """Write the artifact if it is not there; return the load."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import mpncov_zoo.zoo  # with TensorFlow, whose import is no part of a load
    from mpncov_zoo import artifact
    from mpncov_zoo.hub import verification

    directory = folder / f"{MODEL}.random"
    if not directory.exists():
        artifact.write(mpncov_zoo.build(MODEL), directory, tag="random", provenance={"kind": "random"})
    files = verification.describe_files(directory)

    def load() -> float:
        mpncov_zoo.load(MODEL, pretrained=True, hub=directory)
        start = time.perf_counter()
        for file in files:
            verification.sha256(directory / file.path)
        return time.perf_counter() - start

    return load


def pytorch_side(folder: Path) -> Loader:
    """Write the checkpoint if it is not there; return the load."""
    import torch

    from conversion.reference.network import Network
    from conversion.reference.resnet import upstream
    from mpncov_zoo import architectures

    path, published = folder / f"{MODEL}.pth", architectures.of_model(MODEL)
    if not path.exists():
        torch.save(Network(upstream(published), published, 1000).state_dict(), path)

    def load() -> float:
        Network(upstream(published), published, 1000).load_state_dict(torch.load(path, weights_only=True))
        return 0.0

    return load


SIDES = {"mpncov_zoo": tensorflow_side, "PyTorch": pytorch_side}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9, help="timed loads of each side (default: 9)")
    parser.add_argument("--worker", nargs=2, metavar=("SIDE", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        side, folder = arguments.worker
        answer_requests(SIDES[side](Path(folder)))
        return
    require_torch(parser)
    with tempfile.TemporaryDirectory() as folder:
        commands = {side: [sys.executable, "-m", "benchmarks.load", "--worker", side, folder] for side in SIDES}
        for command in commands.values():  # once, so that the files are there and no writing counts as memory
            subprocess.run(command, stdin=subprocess.DEVNULL, check=True)
        with sides(commands) as ask:  # the first is cold, the second settles the allocators
            turns = [{side: ask(side, {}) for side in SIDES} for _ in range(arguments.repeats + 2)]
    report({side: [turn[side] for turn in turns] for side in SIDES})


def answer_requests(load: Loader) -> None:
    """For each request load once and answer seconds, seconds of verification, and peak memory."""
    imported = peak_memory()

    def answer(_: Request) -> Answer:
        start = time.perf_counter()
        verifying = load()  # the load verified by itself; the second time, which is not counted, is for the clock
        seconds = time.perf_counter() - start - verifying
        return {"seconds": seconds, "verifying": verifying, "memory": (peak_memory() - imported) / PARAMETER_BYTES}

    serve(answer)


def report(answers: dict[str, list[Answer]]) -> None:
    ours, twin = (
        {key: statistics.median(answer[key] for answer in rows[2:]) for key in rows[0]} for rows in answers.values()
    )
    cold = [rows[0] for rows in answers.values()]
    print(f"{MODEL}, medians of {len(answers['PyTorch']) - 2}{'mpncov_zoo':>20}{'PyTorch':>12}{'ratio':>8}")
    rows = (
        ("load, verification included (s)", ours["seconds"], twin["seconds"]),
        ("first load of the process (s)", cold[0]["seconds"], cold[1]["seconds"]),
        ("peak memory / parameters", cold[0]["memory"], cold[1]["memory"]),
    )
    for label, a, b in rows:
        print(f"{label:<34}{a:>14.2f}{b:>12.2f}{a / b:>8.2f}")
    print(f"{'sha256 alone, hidden in the load (s)':<34}{ours['verifying']:>12.2f}")


if __name__ == "__main__":
    main()
