"""Features of image files, in images a second: the whole way, and each half of it alone, which is a floor.

    python -m benchmarks.pipeline [--model efficientnet_lite0] [--images 256] [--batch 32] [--repeats 5]

The files are JPEGs of 500 x 375 pixels, made here. Decoding and preparing them is measured alone, so is the network on
batches that are ready, and then both by `Extract.files`, on which `mpncov-zoo features` and `probe` stand. They take
turns in one process; the figures are medians. Each half uses all cores: the floor of the whole is the sum of both.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from mpncov_zoo.quiet import import_tensorflow

HEIGHT, WIDTH = 375, 500  # of most photos in ImageNet


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="efficientnet_lite0", metavar="NAME", help="default: efficientnet_lite0")
    parser.add_argument("--images", type=int, default=256, metavar="N", help="files (default: 256)")
    parser.add_argument("--batch", type=int, default=32, metavar="N", help="images at once (default: 32)")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="turns (default: 5)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_photos(Path(folder), arguments.images)
        seconds = measure(ways(arguments.model, paths, arguments.batch), arguments.repeats)
    print("\n".join(table(seconds, arguments.images)))


def write_photos(folder: Path, number: int) -> list[str]:
    """Photo-like JPEGs: smooth shapes and a little noise, some 60 kB each; returns their paths."""
    rng = np.random.default_rng(0)
    paths = [str(folder / f"{index:05}.jpg") for index in range(number)]
    for path in paths:
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float32)
        pixels = (smooth + rng.normal(0, 12, smooth.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path, quality=85)
    return paths


def ways(model: str, paths: list[str], batch: int) -> dict[str, Callable[[], None]]:
    """What takes turns; each works through all files once."""
    import_tensorflow()
    import mpncov_zoo
    from mpncov_zoo.features import Extract
    from mpncov_zoo.features.reading import read_all

    extract = Extract(mpncov_zoo.feature_extractor(mpncov_zoo.build(model), ["representation"]))
    starts = range(0, len(paths), batch)
    ready = extract.network.preprocess(paths[:batch])

    def decode() -> None:
        for start in starts:
            part = paths[start : start + batch]
            read_all(part, extract.network.preprocess, part)

    def compute() -> None:
        for start in starts:
            extract.network.predict_on_batch(ready[: len(paths[start : start + batch])])

    def files() -> None:
        for _ in extract.files(paths, batch):
            pass

    return {"decode": decode, "compute": compute, "files": files}


def measure(ways: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median seconds of each, in turns, after one untimed."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, work in ways.items():
            start = time.perf_counter()
            work()
            if turn:
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def table(seconds: dict[str, float], images: int) -> list[str]:
    """Images a second, and the whole way against its floor."""
    floor = seconds["decode"] + seconds["compute"]
    rows = {
        "decoding and preparing alone": seconds["decode"],
        "computing alone": seconds["compute"],
        "both, one after the other: the floor of work that uses all cores": floor,
        "`Extract.files`": seconds["files"],
    }
    lines = ["| | images/s |", "|---|---|", *(f"| {name} | {images / time:,.0f} |" for name, time in rows.items())]
    return [*lines, "", f"`Extract.files` takes {seconds['files'] / floor:.2f} x the time of the floor."]


if __name__ == "__main__":
    main()
