"""How well features find images of the same class: mean average precision over directories of `mpncov-zoo features`.

    python -m benchmarks.retrieval DIRECTORY [DIRECTORY ...]

Every image is a query; the others are ranked by the cosine. The class of an image is the folder that it lies in.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

QUERIES = 500  # at once


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", nargs="+", metavar="DIRECTORY", help="of Parquet files")
    print("| features | length | images | mean average precision | nearest is of the class |\n|---|---|---|---|---|")
    for directory in parser.parse_args().directories:
        table = pq.read_table(directory)
        vectors = table["features"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)
        classes = np.unique([Path(path).parent.name for path in table["path"].to_pylist()], return_inverse=True)[1]
        precision, first = retrieval(vectors, classes)
        row = (Path(directory).name, vectors.shape[1], len(table), f"{100 * precision:.2f} %", f"{100 * first:.2f} %")
        print(f"| {' | '.join(map(str, row))} |", flush=True)


def retrieval(vectors: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    """The mean over all images of the average precision, and the share whose nearest neighbour is of their class.

    Args:
        vectors: (images, features).
        classes: (images,); one with a single image has no precision and is left out.
    """
    directions = vectors.astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    precisions, first = [], []
    for start in range(0, len(directions), QUERIES):
        queries = np.arange(start, min(start + QUERIES, len(directions)))
        cosines = directions[queries] @ directions.T
        cosines[np.arange(len(queries)), queries] = -np.inf  # an image does not find itself
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :-1]
        relevant = classes[order] == classes[queries, np.newaxis]
        ranks = np.arange(1, relevant.shape[1] + 1)
        found = relevant.sum(1)
        average = (relevant.cumsum(1) / ranks * relevant).sum(1) / np.maximum(found, 1)
        precisions.append(average[found > 0])
        first.append(relevant[found > 0, 0])
    return float(np.concatenate(precisions).mean()), float(np.concatenate(first).mean())


if __name__ == "__main__":
    main()
