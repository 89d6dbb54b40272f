"""Make the Fashion-MNIST sample that ships with the repository: 100 images of each class out of the official test set.

    python examples/make_sample.py /usr/share/datasets/fashion-mnist

The draw is seeded. Writes fashion_mnist_sample.npz (pixels, labels, positions in the test set) and one PNG a class.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from mpncov_zoo.training.datasets import fashion_mnist

HERE = Path(__file__).parent
PER_CLASS = 100


def main(directory: str) -> None:
    test = fashion_mnist(directory, "test")
    rng = np.random.default_rng(0)
    by_class = [rng.choice(np.flatnonzero(test.labels == label), PER_CLASS, replace=False) for label in range(10)]
    positions = np.sort(np.concatenate(by_class))
    sample = test.take(positions)
    np.savez_compressed(
        HERE / "fashion_mnist_sample.npz", pixels=sample.pixels, labels=sample.labels, positions=positions
    )
    folder = HERE / "images"
    folder.mkdir(exist_ok=True)
    for label, name in enumerate(test.class_names):
        first = sample.pixels[np.flatnonzero(sample.labels == label)[0], :, :, 0]
        Image.fromarray(first).save(folder / f"{name.lower().replace('/', '-').replace(' ', '-')}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
