"""On how many real images an optimized network gives the class that the network itself gives.

    python -m benchmarks.agreement MODEL --images FOLDER [--limit 1000] [--dtype bfloat16]

The images are drawn at random, by a fixed seed, from all below the folder. Images that the network was not trained on
are the harder test: it is not sure of many, and the two best classes change places easily. So the share is given once
more for those of which it is sure.
"""

import argparse
import random
from typing import Any

import numpy as np

from mpncov_zoo.quiet import import_tensorflow

SURE = 0.5  # probability of the best class
BATCH = 50


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="with pretrained weights, or the path of an artifact")
    parser.add_argument("--images", required=True, metavar="FOLDER")
    parser.add_argument("--limit", type=int, default=1000, metavar="N", help="images (default: 1000)")
    parser.add_argument("--dtype", default="bfloat16", help="of the optimized network (default: bfloat16)")
    arguments = parser.parse_args()
    import_tensorflow()
    import mpncov_zoo
    from mpncov_zoo.features.reading import find_images

    paths = find_images([arguments.images])
    random.Random(0).shuffle(paths)
    network = mpncov_zoo.load(arguments.model, pretrained=True)
    print(agreement(network, mpncov_zoo.optimize(network, arguments.dtype), paths[: arguments.limit]))


def agreement(network: Any, optimized: Any, paths: list[str]) -> str:
    """One line: the share of images with the same best class, of all and of those that the network is sure of."""
    same, sure, apart = [], [], []
    for start in range(0, len(paths), BATCH):
        images = network.preprocess(paths[start : start + BATCH])
        exact, quick = np.asarray(network(images), np.float64), np.asarray(optimized(images))
        apart.append(np.abs(exact - quick).max() / np.abs(exact).max())
        same.append(exact.argmax(1) == quick.argmax(1))
        weights = np.exp(exact - exact.max(1, keepdims=True))
        sure.append(weights.max(1) / weights.sum(1) > SURE)
    equal, certain = np.concatenate(same), np.concatenate(sure)
    of_sure = f"{100 * equal[certain].mean():.1f} %" if certain.any() else "none"
    share = f"{100 * equal.mean():.1f} % of {len(equal)} images"
    classes = f"the same class for {share}, and for {of_sure} of the {certain.sum()} that it is sure of"
    return f"{classes}; logits within {max(apart):.1e} of a batch's largest"


if __name__ == "__main__":
    main()
