"""What a run says it is going to do: numbers by hand, and a clock that is turned by the test."""

import logging
import re
from pathlib import Path

import numpy as np
import pytest

from mpncov_zoo.training import networks, overview
from mpncov_zoo.training.datasets import Images
from mpncov_zoo.training.overview import Estimate, warnings
from mpncov_zoo.training.recipes import load_recipe

TINY = ["options.features.repeats=1", "options.representation.dimension_reduction=8", "precision=float32"]


def images(count: int) -> Images:
    return Images(np.zeros((count, 2, 2, 1), np.uint8), (np.arange(count) % 2).astype(np.int32), ("a", "b"))


def test_the_table_counts_what_is_frozen_fresh_and_left_out(artifact_hub: Path) -> None:
    """A stage for the classifier alone, then all but the first two stages; weights of the trunk from a path."""
    artifact = artifact_hub / "mpncov_cifar_resnet20.test"
    recipe = load_recipe(
        "fashion_mnist",
        [*TINY, f"pretrained={artifact}", "freeze=stage2", "batch_size=4", "epochs=3", "optimizer.schedule=step",
         "optimizer.step_epochs=[2]", "optimizer.warmup_epochs=1", "optimizer.accumulate=2", "first_stage.epochs=1",
         "first_stage.optimizer.learning_rate=0.5", "first_stage.optimizer.schedule=constant"],
    )  # fmt: skip
    model = networks.build(recipe, ("a", "b"))
    networks.assign_pretrained(model, recipe)
    splits = {"train": images(10), "test": images(3)}
    table = overview.overview(recipe, model, splits, np.array([4, 4]), 0, Path("runs/x"))
    lines = [(line[2:16].strip(), line[17:]) for line in table.splitlines()]
    classifier = 2 * (8 * 9 // 2) + 2
    everything = sum(int(np.prod(v.shape)) for v in model.learned_variables().values())
    assert lines[:4] == [
        ("network", "mpncov_cifar_resnet20"),
        ("train", "10 images, 2 classes of 5 to 5"),
        ("test", "3 images, 2 classes of 1 to 2: not looked at"),
        ("batches", "2 an epoch, of 4 images; each epoch leaves out 2 images, others each time (--set remainder=train: "
         "none)"),
    ]  # fmt: skip
    assert lines[4:6] == [
        ("epochs", "stage 1: 1, together 2 steps"),
        ("learning rate", "stage 1: constant, 0.5 at step 1 (epoch 1)"),
    ]
    assert lines[6][1].endswith(f"{everything - classifier:,} of {everything:,} parameters")
    assert lines[7:9] == [
        ("epochs", "stage 2: 3, together 6 steps; 2 of them make one change of the weights"),
        (
            "learning rate",
            "stage 2: step, 0 at step 1 (epoch 1), 0.2 at step 3 (epoch 2), 0.02 at step 5 (epoch 3)",
        ),
    ]
    assert lines[9][1].startswith("stage 2: up to stage2: ")
    fresh = [value for name, value in model.learned_variables().items() if not name.startswith("features/")]
    parameters = sum(int(np.prod(value.shape)) for value in fresh)
    assert lines[10][1] == (
        f"classifier, representation: {len(fresh)} variables, {parameters:,} parameters; "
        "all else is of mpncov_cifar_resnet20.test"
    )
    assert lines[-1] == ("output", "runs/x")


def test_batches_of_two_sizes_are_said() -> None:
    assert overview._batches(images(45), np.array([23, 22])) == (
        "2 an epoch, of 22 or 23 images; all images are in each epoch"
    )


@pytest.mark.parametrize(
    ("settings", "steps", "expected"),
    [
        (["epochs=3", "optimizer.warmup_epochs=1"], 1, ["the learning rate is 0 in all of epoch 1, .*warmup_epochs=0"]),
        (["epochs=3", "optimizer.warmup_epochs=1"], 2, []),
        (["epochs=2", "optimizer.warmup_epochs=0"], 1, []),
        (
            ["epochs=5", "optimizer.schedule=step", "optimizer.step_epochs=[2, 5, 9]", "optimizer.warmup_epochs=0"],
            3,
            [r"the learning rate never falls after epochs 5, 9: there are 5"],
        ),
    ],
)
def test_schedules_that_are_probably_not_meant_are_said(settings: list[str], steps: int, expected: list[str]) -> None:
    found = list(warnings(load_recipe("fashion_mnist", settings), steps))
    assert len(found) == len(expected)
    for text, pattern in zip(found, expected, strict=True):
        assert re.search(pattern, text)


@pytest.mark.parametrize(
    ("steps", "told_after", "expected"),
    [
        (1001, 11, "about 33 minutes to go: 990 steps of 2 s"),
        (100_000, 11, "about 55.5 hours to go: 99,989 steps of 2 s"),
        (12, 6, "about 12 s to go: 6 steps of 2 s"),
        (3, 2, "about 2 s to go: 1 step of 2 s"),
    ],
)
def test_the_time_is_told_after_some_steps(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, steps: int, told_after: int, expected: str
) -> None:
    now = [1000.0]
    monkeypatch.setattr(overview.time, "monotonic", lambda: now[0])
    estimate = Estimate(steps, measured=0)
    with caplog.at_level(logging.INFO, "mpncov_zoo"):
        for step in range(1, min(steps, 30) + 1):
            now[0] += 60 if step == 1 else 2  # the first one is traced
            estimate.on_train_batch_end(step - 1)
            assert bool(caplog.messages) == (step >= told_after)
    assert caplog.messages == [expected]


def test_a_run_of_one_or_two_steps_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mpncov_zoo"):
        for steps in (1, 2):
            estimate = Estimate(steps, measured=0)
            for step in range(steps):
                estimate.on_train_batch_end(step)
    assert caplog.messages == []
