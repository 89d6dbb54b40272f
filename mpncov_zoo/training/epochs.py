"""How many batches an epoch has, how large they are, and what it leaves out; no TensorFlow."""

import numpy as np

from mpncov_zoo.training.recipes import Recipe

NEGLIGIBLE = 0.01  # of the images, other ones in each epoch, may be left out of it without being asked for


def batch_sizes(images: int, batch_size: int, *, all_images: bool) -> np.ndarray:
    """The sizes of an epoch's batches, int64 (steps,).

    Args:
        images: to train on.
        batch_size: of full batches.
        all_images: as many batches as hold all images, of sizes that differ by one at most, since statistics of a small
            last batch would be poor ones; else only full ones, which leave out what does not fill one.
    """
    if not all_images or images % batch_size == 0:
        return np.full(images // batch_size, batch_size, np.int64)
    steps = -(-images // batch_size)
    return np.array([images // steps + (index < images % steps) for index in range(steps)], np.int64)


def trains_all_images(recipe: Recipe, images: int, replicas: int) -> bool:
    """Does an epoch have all images, by the recipe's `remainder`? Of several replicas each needs the same number."""
    if recipe.remainder is not None or replicas > 1:
        return recipe.remainder == "train" and replicas == 1
    return images % recipe.batch_size > NEGLIGIBLE * images


def epoch_sizes(recipe: Recipe, images: int, replicas: int = 1) -> np.ndarray:
    """The sizes of the batches of an epoch by a recipe, int64 (steps,)."""
    all_images = trains_all_images(recipe, images, replicas)
    return batch_sizes(images, recipe.batch_size, all_images=all_images)
