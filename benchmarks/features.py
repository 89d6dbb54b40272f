"""Images a second from JPEG files to Parquet: this process, Ray with one worker and two, and a loop in PyTorch.

    python -m benchmarks.features [--model mpncov_resnet50] [--images 256] [--repeats 3]

The files are those of `benchmarks.pipeline`. Each side computes a quarter of them and then all, in turns with the
others; the rate is of what the second has more, so that starting is not in it, and starting is what is left of the
first. PyTorch's side is the loop that one would write by hand: a DataLoader with two workers, `torch.no_grad()`, one
file of NumPy in the end; its network is the reference of `conversion`. Weights are random, which speed does not
depend on. The first turn is not timed.
"""

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pipeline import write_photos
from benchmarks.side_by_side import Answer, peak_memory, require_torch, serve, sides

SIDES = {"local": "this process", "ray1": "Ray, 1 worker", "ray2": "Ray, 2 workers", "torch": "a loop in PyTorch"}
BATCH = 32
WORKER = "MapWorker"  # in the title of a process of Ray Data


def main() -> None:
    """Print a table, or serve one side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mpncov_resnet50", metavar="NAME", help="a ResNet; default: mpncov_resnet50")
    parser.add_argument("--images", type=int, default=256, metavar="N", help="files (default: 256)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="turns (default: 3)")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        serve(side(arguments.side, arguments.model, Path(arguments.folder)))
        return
    require_torch(parser)
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder), arguments.images)
        write_artifact(arguments.model, Path(folder))
        found = measure(arguments.model, folder, arguments.images, arguments.repeats)
    print("\n".join(table(found, arguments.images)))


def write_artifact(model: str, folder: Path) -> None:
    """The network as an artifact, `<model>.random`."""
    import mpncov_zoo
    from mpncov_zoo import artifact

    network = mpncov_zoo.build(model)
    artifact.write(network, folder / f"{model}.random", tag="random", provenance={"kind": "random"})


def measure(model: str, folder: str, images: int, repeats: int) -> dict[str, dict[str, list[float]]]:
    """Of each side, from every turn: images a second, seconds of starting, bytes of memory."""
    counts = (images // 4, images)
    commands = {
        name: [sys.executable, "-m", "benchmarks.features", "--side", name, "--model", model, "--folder", folder]
        for name in SIDES
    }
    found: dict[str, dict[str, list[float]]] = {name: {"rate": [], "start": [], "memory": []} for name in SIDES}
    with sides(commands) as ask:
        for turn in range(repeats + 1):
            for name, values in found.items():
                few, many = (ask(name, {"count": count}) for count in counts)
                if not turn:
                    continue
                rate = (counts[1] - counts[0]) / (many["seconds"] - few["seconds"])
                values["rate"].append(rate)
                values["start"].append(few["seconds"] - counts[0] / rate)
                values["memory"].append(many["memory"])
    return found


def side(name: str, model: str, folder: Path) -> Any:
    """What answers the requests of a side."""
    paths = sorted(map(str, folder.glob("*.jpg")))
    if name == "torch":
        return lambda request: in_torch(model, paths[: request["count"]])
    engine: dict[str, Any] = {} if name == "local" else {"engine": "ray", "workers": int(name[-1])}
    return lambda request: in_zoo(folder / f"{model}.random", paths[: request["count"]], engine)


def in_zoo(model: Path, paths: list[str], engine: dict[str, Any]) -> Answer:
    from mpncov_zoo.features import extract

    with tempfile.TemporaryDirectory() as output, largest_worker() as worker:
        start = time.perf_counter()
        report = extract(model, paths, f"{output}/out", batch_size=BATCH, rows_per_file=BATCH, **engine)
        seconds = time.perf_counter() - start
        assert report.images == len(paths)
    return {"seconds": seconds, "memory": worker[0] if engine else peak_memory()}


@contextmanager
def largest_worker() -> Iterator[list[int]]:
    """Within the context, looks twice a second for the largest worker of Ray, in bytes."""
    import psutil

    found, stop = [0], threading.Event()

    def look() -> None:
        while not stop.wait(0.5):
            for process in psutil.process_iter(["cmdline", "memory_info"]):
                if WORKER in " ".join(process.info["cmdline"] or []):
                    found[0] = max(found[0], process.info["memory_info"].rss)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def in_torch(model: str, paths: list[str]) -> Answer:
    import torch
    from PIL import Image

    from conversion.reference import resnet
    from conversion.reference.network import Network
    from mpncov_zoo import architectures

    class Photos(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> Any:
            image = Image.open(paths[index]).convert("RGB")
            scale = 256 / min(image.size)
            image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
            left, top = (image.width - 224) // 2, (image.height - 224) // 2
            pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) / 255
            mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
            return torch.from_numpy(((pixels - mean) / std).transpose(2, 0, 1))

    start = time.perf_counter()
    published = architectures.of_model(model)
    network = Network(resnet.upstream(published), published, 1000).eval()
    blocks = []
    with torch.no_grad(), tempfile.TemporaryDirectory() as output:
        for batch in torch.utils.data.DataLoader(Photos(), batch_size=BATCH, num_workers=2):
            blocks.append(network(batch)["representation"].numpy())
        np.save(f"{output}/features.npy", np.concatenate(blocks))
    return {"seconds": time.perf_counter() - start, "memory": peak_memory()}


def table(found: dict[str, dict[str, list[float]]], images: int) -> list[str]:
    """Medians, and the ratio to this process."""
    local = statistics.median(found["local"]["rate"])
    lines = [f"{images} files, batch {BATCH}", "", "| | images/s | of local | start (s) | memory of a worker (GB) |"]
    lines.append("|---|---|---|---|---|")
    for name, values in found.items():
        rate, start, memory = (statistics.median(values[kind]) for kind in ("rate", "start", "memory"))
        lines.append(f"| {SIDES[name]} | {rate:.1f} | {rate / local:.2f} | {start:.1f} | {memory / 1e9:.1f} |")
    return lines


if __name__ == "__main__":
    main()
