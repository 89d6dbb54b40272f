"""The nearest neighbours of an image among those of a features file, by the cosine of their representations."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np

from mpncov_zoo.errors import InputError
from mpncov_zoo.features.extraction import Extract
from mpncov_zoo.features.tables import import_parquet

SUFFIXES = (".npy", ".npz", ".parquet")
TOLERANCE = 1e-3  # of the cosine between a row of the file and the same image computed now


class Represented(Protocol):
    """What is asked of a network; `networks.Network` is one."""

    name: str
    length: int
    representation_extractor: Any


@dataclass(frozen=True)
class Neighbour:
    """An image of the file.

    Attributes:
        path: of the image.
        cosine: of the angle between both representations; 1 for the same direction.
    """

    path: str
    cosine: float


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Images and their representations, to look for the nearest ones.

    Attributes:
        paths: of the images.
        directions: their representations as vectors of length 1, float32 (images, values).
    """

    paths: tuple[str, ...]
    directions: np.ndarray

    def nearest(self, representation: np.ndarray, count: int) -> list[Neighbour]:
        """The images whose representations point most nearly in the direction of this one, (values,), nearest first."""
        cosines = self.directions @ _directions(representation[np.newaxis])[0]
        best = np.argsort(-cosines, kind="stable")[:count]
        return [Neighbour(self.paths[index], float(cosines[index])) for index in best]


def read_features(path: str) -> Neighbours:
    """Read what `mpncov-zoo features` wrote.

    Args:
        path: a file that ends with .npz, .npy or .parquet, or a directory of Parquet files.

    Raises:
        InputError: it is missing or no such file, or holds other features than one vector an image.
        ZooError: pyarrow is missing.
    """
    file = Path(path)
    if file.suffix not in SUFFIXES and not file.is_dir():
        raise InputError(f"--neighbours must end with {', '.join(SUFFIXES)}, or be a directory. Received: {path!r}.")
    try:
        names, features = (_read_parquet if file.is_dir() else _READERS[file.suffix])(file)
        features = np.asarray(features)
    except FileNotFoundError as error:
        raise InputError(f"No file {str(error.filename or path)!r}: `mpncov-zoo features` writes it.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile) as error:
        raise InputError(f"{path!r} is no file of `mpncov-zoo features`: {error}.") from None
    if features.ndim != 2 or len(features) != len(names) or features.dtype.kind != "f" or not len(names):
        shape = "x".join(map(str, features.shape))
        raise InputError(f"{path!r} holds features of {shape} for {len(names)} images: one vector an image is needed.")
    return Neighbours(tuple(map(str, names)), _directions(features))


def belongs_to(neighbours: Neighbours, network: Represented) -> bool:
    """Whether a file is of a network's representation: as long, and equal where it is computed anew.

    The first image of the file that can be read is computed.

    Raises:
        InputError: none of the images can be read, so that nothing can be compared or shown.
    """
    if neighbours.directions.shape[1] != network.length:
        return False
    extract = Extract(network.representation_extractor)
    for path, direction in zip(neighbours.paths, neighbours.directions, strict=True):
        rows = extract.rows([path])
        if rows.read:
            again = _directions(rows.features["representation"])[0]
            return bool(abs(1 - again @ direction) < TOLERANCE)
    raise InputError(
        f"--neighbours: none of the {len(neighbours.paths)} images can be read, such as {neighbours.paths[0]!r}. Start "
        "the demo in the folder in which `mpncov-zoo features` was run."
    )


def match(neighbours: Neighbours, networks: Sequence[Represented]) -> set[str]:
    """The names of the networks to which the file belongs.

    Raises:
        InputError: there is none.
    """
    found = {network.name for network in networks if belongs_to(neighbours, network)}
    if not found:
        names = ", ".join(f"{network.name} ({network.length} values)" for network in networks)
        values = neighbours.directions.shape[1]
        raise InputError(f"--neighbours: its features, of {values} values, are of none of the networks: {names}.")
    return found


def _directions(features: np.ndarray) -> np.ndarray:
    """Vectors (images, values) -> float32 of length 1; zeros stay zeros."""
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    return (features / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _read_npz(path: Path) -> tuple[Sequence[str], np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return file["paths"].tolist(), file["features"]


def _read_npy(path: Path) -> tuple[Sequence[str], np.ndarray]:
    features = np.load(path, allow_pickle=False)
    names = path.with_suffix(".paths.txt").read_text(encoding="utf-8", errors="surrogateescape")
    return names.removesuffix("\n").split("\n"), features


def _read_parquet(path: Path) -> tuple[Sequence[str], np.ndarray]:
    table = import_parquet().read_table(path, columns=["path", "features"])
    column = table.column("features").combine_chunks()
    features = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    return table.column("path").to_pylist(), features.reshape(len(column), -1)


_READERS = {".npz": _read_npz, ".npy": _read_npy, ".parquet": _read_parquet}
