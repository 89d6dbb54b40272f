"""Parity and speed on a GPU in one run of minutes, on JAX and on PyTorch, written to one JSON file.

    python -m benchmarks.accelerator --output accelerator.json [--budget 60]
    python -m benchmarks.accelerator --output rehearsal.json --rehearse

Call it from the root of the repository; nothing is fetched, and TensorFlow is not needed. The machine needs Python 3.11
or later, PyTorch or JAX (better both) with CUDA, and the packages keras, h5py, numpy, pillow, pydantic, platformdirs,
filelock, requests, huggingface-hub, tqdm and ml_dtypes. The published network is measured against where pytorchcv is
installed, too; its absence is an entry of the file. Without a network bring what is missing as wheels, with the
packages that these need.

- seeds: seeded checkpoints, and what each network computes from them in float64 on the CPU, against the published code.
- rates: multiplications a second of a large product, which the floors are counted with.
- heads, networks: seconds of a batch, medians of turns that the sides take in one run, and ratios of the medians to the
  published PyTorch layer and network on the same card.
- parity: this package on the device against float64, stage by stage, relative to the largest value; in float32, with
  TF32, and in bfloat16. Where the published code's own values are known, against those.

Each part has a budget; what no longer fits is skipped, which its entry says, and what is under way is finished. The
file is written anew after every measurement, so that a run that is cut off leaves what it has. `--rehearse` does all of
it on the CPU with tiny networks.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

from benchmarks.accelerator_sides import GOLDEN, MODES, SIDES, Result, worker
from benchmarks.side_by_side import Request, serve, sides

Ask = Callable[[str, Request], Result]
Step = tuple[tuple[str, ...], Callable[[], Result]]  # where its result belongs, and what gives it
GOALS = {"head": 3.0, "network": 1.0}  # times as fast as the published one
OURS = ("jax", "torch")
ABSENT = "its library is not installed"


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes:
        device: "gpu", or "cpu" for a rehearsal.
        models: of parity, each with its architecture's options.
        size: of images, in pixels.
        classes: length of the logits.
        batch: images a call.
        heads: height and width of the features, and channels.
        modes: in which networks are timed, the most important first.
        matrix: rows of the square matrices whose product gives the rate.
        repeats: turns of every side.
        calls: that follow one another in a turn.
    """

    device: str
    models: dict[str, dict[str, Any]]
    size: int = 224
    classes: int = 1000
    batch: int = 64
    heads: tuple[tuple[int, int], ...] = ((14, 256), (7, 256), (28, 256))
    modes: tuple[str, ...] = ("tf32", "bfloat16", "float32")
    matrix: int = 8192
    repeats: int = 7
    calls: int = 5


MODELS = ("mpncov_resnet50", "mpncov_resnet101", "mpncov_vgg16_bn", "efficientnet_lite0")
FULL = Scale("gpu", {model: {} for model in MODELS})
REHEARSAL = Scale(
    "cpu",
    {
        "mpncov_resnet18": {"features": {"repeats": (1, 1, 1, 1)}, "representation": {"dimension_reduction": 8}},
        "efficientnet_lite0": {"features": {"width": 0.25, "depth": 0.1}},
    },
    size=48,
    classes=3,
    batch=2,
    heads=((4, 8),),
    modes=("bfloat16",),
    matrix=64,
    repeats=2,
    calls=1,
)


@dataclass
class Record:
    """The file, which is complete at any time."""

    path: Path
    content: dict[str, Any] = field(default_factory=dict)
    lock: Any = field(default_factory=Lock)

    def put(self, value: Any, *keys: str) -> None:
        """Set the value under these keys and write the file."""
        with self.lock:
            place = self.content
            for key in keys[:-1]:
                place = place.setdefault(key, {})
            place[keys[-1]] = value
            partial = self.path.with_name(f"{self.path.name}.partial")
            partial.write_text(f"{json.dumps(self.content, indent=1)}\n")
            partial.replace(self.path)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, metavar="FILE", default=Path("accelerator.json"))
    parser.add_argument("--budget", type=float, default=60, metavar="SECONDS", help="for each part (default: 60)")
    parser.add_argument("--rehearse", action="store_true", help="tiny networks, on the CPU")
    parser.add_argument("--worker", nargs=3, metavar=("SIDE", "DEVICE", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.worker:
        side, device, folder = given.worker
        serve(worker(side, device, Path(folder)))
        return
    if not any(map(find_spec, OURS)):
        parser.error("Neither JAX nor PyTorch is installed, of which Keras needs one.")
    measure(Record(given.output), REHEARSAL if given.rehearse else FULL, given.budget)


def measure(record: Record, scale: Scale, budget: float) -> None:
    """Every part, one after the other."""
    there = [side for side in SIDES if find_spec({"reference": "keras", "published": "torch"}.get(side, side))]
    for side in {*SIDES} - {*there}:
        record.put({"error": ABSENT}, "sides", side)
    record.put({"budget_s": budget, "rehearsal": scale.device == "cpu", "batch": scale.batch}, "run")
    with tempfile.TemporaryDirectory() as folder:
        module = [sys.executable, "-m", "benchmarks.accelerator", "--worker"]
        commands = {side: [*module, side, scale.device, folder] for side in there}
        with sides(commands) as started:
            ask = forgiving(started, there)
            for side in there:
                record.put(ask(side, {"do": "facts"}), "sides", side)
            for name, steps in PARTS.items():
                take(record, name, list(steps(ask, scale, record)), budget)


def forgiving(ask: Ask, there: list[str]) -> Ask:
    """`ask`, which answers with an error where a side is not there or has ended."""
    gone = {side: ABSENT for side in SIDES if side not in there}

    def asked(side: str, request: Request) -> Result:
        if side not in gone:
            try:
                return ask(side, request)
            except (RuntimeError, OSError, ValueError) as error:
                gone[side] = f"its process has ended: {error}"
        return {"error": gone[side]}

    return asked


def take(record: Record, part: str, steps: list[Step], budget: float) -> None:
    """The steps of a part, until its budget is spent; those of several first keys side by side, if it is parity."""
    start = time.monotonic()
    spent = {"skipped": f"the {budget:g} s of this part were spent"}

    def follow(mine: list[Step]) -> None:
        for keys, work in mine:
            result = spent if time.monotonic() - start >= budget else work()
            record.put(result, part, *keys)

    first = [*dict.fromkeys(keys[0] for keys, _ in steps)] if part == "parity" else [None]
    with ThreadPoolExecutor(max(1, len(first))) as pool:
        for done in [pool.submit(follow, [s for s in steps if one in (None, s[0][0])]) for one in first]:
            done.result()
    record.put(round(time.monotonic() - start, 1), "seconds", part)
    print(f"{part}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


def seeds(ask: Ask, scale: Scale, record: Record) -> Iterator[Step]:
    for model in scale.models:
        yield (model,), lambda model=model: ask("reference", {"do": "seed", **network(scale, model)})


def rates(ask: Ask, scale: Scale, record: Record) -> Iterator[Step]:
    for side in filter(find_spec, OURS):
        for mode in MODES:
            request = {"do": "rate", "mode": mode, "size": scale.matrix}
            yield (side, mode), lambda side=side, request=request: ask(side, request)


def heads(ask: Ask, scale: Scale, record: Record) -> Iterator[Step]:
    for mode in ("tf32", "float32"):
        for size, channels in scale.heads:
            for backward in (True, False):
                request = {"what": "head", "size": size, "channels": channels, "mode": mode, "backward": backward}
                keys = (f"{size}x{size}x{channels}", mode, direction(backward))
                yield keys, lambda request=request: compare(ask, scale, record, request)


def networks(ask: Ask, scale: Scale, record: Record) -> Iterator[Step]:
    model = next(iter(scale.models))
    for mode in scale.modes:
        for backward in (False, True):
            request = {**network(scale, model), "what": "network", "mode": mode, "backward": backward}
            yield (model, mode, direction(backward)), lambda request=request: compare(ask, scale, record, request)


def parity(ask: Ask, scale: Scale, record: Record) -> Iterator[Step]:
    for side in filter(find_spec, OURS):
        for model in scale.models:
            for mode in MODES:
                request = {"do": "parity", **network(scale, model), "mode": mode}
                yield (side, model, mode), lambda side=side, request=request: ask(side, request)


PARTS = {"seeds": seeds, "rates": rates, "heads": heads, "networks": networks, "parity": parity}


def network(scale: Scale, model: str) -> Request:
    golden = scale is FULL and model in GOLDEN
    return {
        "model": model,
        "options": scale.models[model],
        "size": scale.size,
        "classes": scale.classes,
        "golden": golden,
    }


def direction(backward: bool) -> str:
    return "forward + backward" if backward else "forward"


def compare(ask: Ask, scale: Scale, record: Record, request: Request) -> Result:
    """Medians of the sides' seconds, their ratios to the published one, and the floor."""
    what = {"do": "timed", **request, "batch": scale.batch, "calls": scale.calls, "warm_ups": 2}
    first = {side: ask(side, what) for side in (*OURS, "published")}
    able = [side for side, answer in first.items() if "seconds" in answer]
    turns = [{side: ask(side, what) for side in able} for _ in range(scale.repeats)]
    able = [side for side in able if all("seconds" in turn[side] for turn in turns)]
    answers = [(side, answer) for turn in (first, *turns) for side, answer in turn.items()]
    errors = {side: answer["error"] for side, answer in answers if answer.get("error", ABSENT) != ABSENT}
    seconds = {side: statistics.median(turn[side]["seconds"] for turn in turns) for side in able}
    theirs = seconds.get("published")
    return {
        "seconds": seconds,
        "images_per_s": {side: scale.batch / value for side, value in seconds.items()},
        "goal": GOALS[request["what"]],
        "times_as_fast_as_published": {s: theirs / seconds[s] for s in OURS if s in seconds} if theirs else {},
        "floor_s": floor(ask, scale, record, request),
        "errors": errors,
    }


def floor(ask: Ask, scale: Scale, record: Record, request: Request) -> float | None:
    """Seconds that the multiplications alone would take at the best measured rate of this mode."""
    found = [record.content.get("rates", {}).get(side, {}).get(request["mode"], {}) for side in OURS]
    rates = [entry["multiplications_per_s"] for entry in found if "multiplications_per_s" in entry]
    counts = (ask(side, {"do": "multiplications", **request}) for side in OURS)
    count = next((answer["multiplications"] for answer in counts if "multiplications" in answer), None)
    return scale.batch * count / max(rates) if rates and count else None


if __name__ == "__main__":
    main()
