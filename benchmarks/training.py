"""Training steps: of each representation, and of mpncov_resnet50 against a PyTorch twin.

    python -m benchmarks.training [--repeats 15]

A step is forward, backward and update: SGD with momentum and coupled weight decay on every learned variable. Ours is
compiled as `mpncov_zoo.training.train` compiles it; the twin is the published network with the published head. Every
side is a process of its own; they take turns on the same batch, each after some untimed steps, and the figures are
medians. Peak memory is that of the process above the imported framework, after all its steps (Linux). Needs torch.
"""

# pyright: reportMissingImports=false
# (torch is installed only where it is measured against)

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from benchmarks import published_heads
from benchmarks.side_by_side import Answer, Request, peak_memory, require_torch, serve, sides
from mpncov_zoo.quiet import import_tensorflow

LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 1e-4
WARM_UPS = 3
OURS, PYTORCH = "mpncov_zoo", "PyTorch"


class Case(NamedTuple):
    """What is trained: images are (batch, size, size, 3); precision is a dtype policy of Keras."""

    model: str
    size: int
    batch: int
    classes: int
    precision: str = "float32"
    options: Mapping[str, Any] = {}


class Trained(NamedTuple):
    """A network in training: one step on the same batch, which returns the loss."""

    network: Any
    step: Callable[[], float]


REPRESENTATIONS = ("gap", "mpncov", "bcnn", "cbp")
BACKBONES = (Case("resnet18", 224, 8, 200), Case("cifar_resnet20", 32, 128, 100))
TWINS = (Case("mpncov_resnet50", 224, 8, 1000), Case("mpncov_resnet50", 224, 8, 1000, "mixed_bfloat16"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="timed steps of each side (default: 15)")
    parser.add_argument("--only", choices=PARTS, help="one of the two tables (default: both)")
    parser.add_argument("--worker", nargs=2, metavar=("FRAMEWORK", "CASE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        framework, case = arguments.worker
        serve(worker(framework, Case(*json.loads(case))))
        return
    if arguments.only != "representations":
        require_torch(parser)
    for part in [arguments.only] if arguments.only else PARTS:
        PARTS[part](arguments.repeats)


def compare_twins(repeats: int) -> None:
    """Ours against PyTorch's, in both precisions."""
    print(head(TWINS[0]))
    turns = measure({(name, case.precision): (name, case) for case in TWINS for name in FRAMEWORKS}, repeats)
    for (name, precision), answers in turns.items():
        print(row(f"{name}, {precision}", answers))
    for case in TWINS:
        print(ratio(case.precision, *(turns[name, case.precision] for name in FRAMEWORKS)), flush=True)


def compare_representations(repeats: int) -> None:
    """On each backbone."""
    for backbone in BACKBONES:
        print(f"\n{head(backbone)}")
        cases = {kind: (OURS, backbone._replace(model=named(kind, backbone))) for kind in REPRESENTATIONS}
        for kind, answers in measure(cases, repeats).items():
            print(row(kind, answers), flush=True)


PARTS = {"twin": compare_twins, "representations": compare_representations}


def head(case: Case) -> str:
    what = f"{case.model}, batch {case.batch}, {case.size}x{case.size}, {case.classes} classes"
    return f"| {what} | s a step (least to most) | peak memory, MB |\n|---|---|---|"


def named(representation: str, backbone: Case) -> str:
    """The model's name in the registry."""
    return backbone.model if representation == "gap" else f"{representation}_{backbone.model}"


def measure(cases: Mapping[Any, tuple[str, Case]], repeats: int) -> dict[Any, list[Answer]]:
    """The answers of every side, in turns."""
    commands = {
        side: [sys.executable, "-m", "benchmarks.training", "--worker", framework, json.dumps(case)]
        for side, (framework, case) in cases.items()
    }
    with sides(commands) as ask:
        for side in cases:
            ask(side, {"steps": WARM_UPS})
        turns = [{side: ask(side, {"steps": 2}) for side in cases} for _ in range(repeats)]  # the first is to wake up
    return {side: [turn[side] for turn in turns] for side in cases}


def row(label: str, answers: list[Answer]) -> str:
    seconds = sorted(answer["seconds"] for answer in answers)
    memory = max(answer["memory"] for answer in answers) / 2**20
    return f"| {label} | {statistics.median(seconds):.3f} ({seconds[0]:.3f} to {seconds[-1]:.3f}) | {memory:,.0f} |"


def ratio(label: str, ours: list[Answer], theirs: list[Answer]) -> str:
    """Of the medians, and the quartiles of the ratio by turn."""
    a, b = ([answer["seconds"] for answer in side] for side in (ours, theirs))
    turns = [x / y for x, y in zip(a, b, strict=True)]
    low, _, high = statistics.quantiles(turns, n=4) if len(turns) > 1 else turns * 3
    memory = [max(answer["memory"] for answer in side) for side in (ours, theirs)]
    value = statistics.median(a) / statistics.median(b)
    return f"| ratio, {label} | **{value:.2f}** (quartiles {low:.2f} to {high:.2f}) | {memory[0] / memory[1]:.2f} |"


def worker(framework: str, case: Case) -> Callable[[Request], Answer]:
    """Takes steps: seconds and loss of the last one, and the peak memory so far, bytes above the imported framework."""
    if framework == PYTORCH:
        import conversion.reference.resnet  # noqa: F401
    else:
        import_tensorflow()
        import mpncov_zoo.zoo  # noqa: F401
    imported = peak_memory()
    step = FRAMEWORKS[framework](case, *batch(case)).step

    def answer(what: Request) -> Answer:
        for _ in range(what["steps"] - 1):
            step()
        start = time.perf_counter()
        loss = step()
        return {"seconds": time.perf_counter() - start, "loss": loss, "memory": peak_memory() - imported}

    return answer


def batch(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Images float32 (batch, size, size, 3) and labels int32 (batch,)."""
    generator = np.random.default_rng(0)
    images = generator.normal(0, 1, (case.batch, case.size, case.size, 3)).astype(np.float32)
    return images, generator.integers(0, case.classes, case.batch, dtype=np.int32)


def keras_side(case: Case, images: np.ndarray, labels: np.ndarray) -> Trained:
    """Our network, as a recipe trains it."""
    import mpncov_zoo
    from mpncov_zoo.assembly import precision
    from mpncov_zoo.training.optimization import compile_for
    from mpncov_zoo.training.recipes import Optimizer, Recipe

    with precision(case.precision):
        shape = (case.size, case.size, 3)
        model = mpncov_zoo.build(case.model, num_classes=case.classes, input_shape=shape, options=case.options)
    optimizer = Optimizer(
        learning_rate=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, schedule="constant"
    )
    recipe = Recipe(
        model=case.model,
        tag="benchmark",
        dataset="folders",
        input=model.input_specification,
        epochs=1,
        batch_size=case.batch,
        optimizer=optimizer,
    )
    compile_for(model, recipe, steps=1)
    return Trained(model, lambda: float(model.train_on_batch(images, labels)[0]))


def pytorch_side(case: Case, images: np.ndarray, labels: np.ndarray) -> Trained:
    """The published network with the published head; under a 16-bit policy the head is in float32, as ours is."""
    import torch

    from conversion.reference.network import Network
    from conversion.reference.resnet import upstream
    from mpncov_zoo import architectures

    half = torch.autocast("cpu", torch.bfloat16, enabled=case.precision == "mixed_bfloat16")
    head = published_heads.pytorch()

    def represent(x: Any) -> dict[str, Any]:
        with torch.autocast("cpu", enabled=False):
            return {"representation": head(x.to(torch.get_default_dtype()))}

    published = architectures.of_model(case.model, options=case.options)
    network = Network(upstream(published), published, case.classes).train()
    network.head.represent = represent
    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    inputs = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(torch.get_default_dtype())
    targets = torch.from_numpy(labels).long()

    def step() -> float:
        optimizer.zero_grad()
        with half:
            loss = torch.nn.functional.cross_entropy(network(inputs)["logits"], targets)
        loss.backward()
        optimizer.step()
        return loss.item()

    return Trained(network, step)


def published_names(architecture: Any) -> Callable[[str], str]:
    """A tensor's name in the published files -> its name in the network of PyTorch's side."""
    from conversion.reference.resnet import upstream

    return upstream(architecture).tensor


FRAMEWORKS = {OURS: keras_side, PYTORCH: pytorch_side}


if __name__ == "__main__":
    main()
