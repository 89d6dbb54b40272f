"""Epochs: how many batches they have, and when they leave images out."""

import pytest

from mpncov_zoo.training.epochs import batch_sizes, epoch_sizes, trains_all_images
from mpncov_zoo.training.recipes import load_recipe


@pytest.mark.parametrize(
    ("images", "batch_size", "sizes"),
    [
        (45, 32, [23, 22]),
        (33, 32, [17, 16]),
        (64, 32, [32, 32]),
        (7, 7, [7]),
        (23, 5, [5, 5, 5, 4, 4]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_all_images_are_in_batches_that_differ_by_one(images: int, batch_size: int, sizes: list[int]) -> None:
    assert batch_sizes(images, batch_size, all_images=True).tolist() == sizes
    assert sum(sizes) == images


def test_full_batches_leave_out_what_does_not_fill_one() -> None:
    assert batch_sizes(45, 32, all_images=False).tolist() == [32]


@pytest.mark.parametrize(
    ("settings", "images", "replicas", "expected"),
    [
        ([], 45, 1, True),
        (["remainder=skip"], 45, 1, False),
        ([], 45, 2, False),
        ([], 3232, 1, False),  # 32 of 3,232 are left out: one in a hundred would be too many
        ([], 3231, 1, False),
        (["remainder=train"], 3231, 1, True),
        ([], 3199, 1, False),
    ],
)
def test_a_small_remainder_may_be_left_out(settings: list[str], images: int, replicas: int, expected: bool) -> None:
    recipe = load_recipe("fashion_mnist", ["batch_size=32", *settings])
    assert trains_all_images(recipe, images, replicas) == expected


def test_the_runs_of_shipped_recipes_have_full_batches_as_before() -> None:
    """So their results stay what they are, bit by bit."""
    counts = {"fashion_mnist": 60000, "elpv": 1676, "cub_mpncov_resnet50": 5994, "aircraft_mpncov_vgg16_bn": 6667,
              "cars_mpncov_resnet50": 8144, "cars_mpncov_vgg16_bn": 8144, "cifar100_gap": 50000,
              "imagenet_mpncov_resnet50": 1281167}  # fmt: skip
    for name, images in counts.items():
        sizes = epoch_sizes(load_recipe(name), images)
        assert {*sizes.tolist()} == {load_recipe(name).batch_size} and len(sizes) == images // sizes[0], name
