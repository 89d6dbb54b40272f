"""Files of features, one row an image: written batch by batch, and in their place when they are complete."""

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mpncov_zoo.complete import replacing
from mpncov_zoo.errors import InputError
from mpncov_zoo.features.tables import COMPRESSION, feature_table, import_parquet, require_text


class FeatureFile(Protocol):
    """A file being written; made with the paths to write to, which are temporary ones."""

    def check(self, names: Sequence[str]) -> None:
        """Refuse paths of images that this format cannot hold."""
        ...

    def append(self, paths: Sequence[str], rows: np.ndarray) -> None:
        """Add images and their features, (images, ...)."""
        ...

    def finish(self) -> None:
        """Complete the file."""
        ...

    def close(self) -> None:
        """Release what is open, complete or not."""
        ...


class NpyFile:
    """The matrix as .npy, the paths as a text file beside it, one a line."""

    def __init__(self, matrix: Path, names_file: Path):
        self.matrix, self.names_file = matrix, names_file
        self.file = matrix.open("xb")
        self.names: list[str] = []
        self.layout: dict[str, Any] = {}

    def check(self, names: Sequence[str]) -> None:
        broken = next((name for name in names if "\n" in name), None)
        if broken is not None:
            raise InputError(f"{broken!r} has a line break, which a list of paths cannot hold; write .npz instead.")

    def append(self, paths: Sequence[str], rows: np.ndarray) -> None:
        if not self.layout:
            self.layout = {"descr": rows.dtype.str, "fortran_order": False, "shape": rows.shape}
            np.lib.format.write_array_header_1_0(self.file, self.layout)
        self.names += paths
        self.file.write(rows.tobytes())

    def finish(self) -> None:
        self._finish_matrix()
        with self.names_file.open("x", encoding="utf-8", errors="surrogateescape") as file:
            file.writelines(f"{name}\n" for name in self.names)

    def _finish_matrix(self) -> None:
        _require_rows(self.names)
        self.file.seek(0)  # NumPy pads the header so that the number of rows can be corrected in place
        self.layout["shape"] = (len(self.names), *self.layout["shape"][1:])
        np.lib.format.write_array_header_1_0(self.file, self.layout)
        self.file.close()

    def close(self) -> None:
        self.file.close()


class NpzFile(NpyFile):
    """The arrays `paths` and `features`, uncompressed, as np.savez writes them."""

    def __init__(self, path: Path):
        super().__init__(path.with_name("features.npy"), names_file=path)

    def check(self, names: Sequence[str]) -> None:
        """Anything goes."""

    def finish(self) -> None:
        self._finish_matrix()
        with zipfile.ZipFile(self.names_file, "x") as file:
            file.write(self.matrix, "features.npy")
            with file.open("paths.npy", "w") as member:
                np.lib.format.write_array(member, np.array(self.names), allow_pickle=False)


class ParquetFile:
    """The columns `path` and `features`, as `feature_table` has them."""

    def __init__(self, path: Path):
        self.parquet = import_parquet()
        self.file = path.open("xb")
        self.writer: Any = None

    def check(self, names: Sequence[str]) -> None:
        require_text(names)

    def append(self, paths: Sequence[str], rows: np.ndarray) -> None:
        table = feature_table(paths, rows)
        if self.writer is None:
            self.writer = self.parquet.ParquetWriter(self.file, table.schema, compression=COMPRESSION)
        self.writer.write_table(table)

    def finish(self) -> None:
        _require_rows(self.writer)
        self.writer.close()
        self.file.close()

    def close(self) -> None:
        self.file.close()


def _require_rows(written: object) -> None:
    if not written:
        raise InputError("A file of features has at least one row; received none.")


FORMATS: Mapping[str, Callable[..., FeatureFile]] = {".npy": NpyFile, ".npz": NpzFile, ".parquet": ParquetFile}
BESIDE: Mapping[str, tuple[str, ...]] = {".npy": (".paths.txt",)}  # suffixes of the files beside the one that is named


@contextmanager
def feature_file(output: str, names: Sequence[str], *, argument: str = "output") -> Iterator[FeatureFile]:
    """A file of features by its suffix; it appears complete when the context ends, and not at all after an exception.

    Args:
        output: a path that ends with .npy, .npz or .parquet; an existing file is replaced.
        names: paths of the images to come.
        argument: what the caller's user knows the output as, for errors.

    Raises:
        InputError: another suffix, a path that the format cannot hold, or the place cannot be written.
        ZooError: pyarrow is missing.

    Example:
        >>> with feature_file("features.npz", paths) as file:
        ...     file.append(paths, extract({"path": paths})["representation"])
    """
    target = Path(output)
    if target.suffix not in FORMATS:
        raise InputError(f"{argument} must end with {', '.join(FORMATS)}. Received: {output!r}.")
    if target.is_dir():
        raise InputError(f"{output!r} is a directory; give the path of a file.")
    places = (target, *(target.with_suffix(suffix) for suffix in BESIDE.get(target.suffix, ())))
    try:
        with ExitStack() as stack:
            file = FORMATS[target.suffix](*(stack.enter_context(replacing(place)) for place in places))
            with closing(file):
                file.check(names)
                yield file
                file.finish()
    except OSError as error:
        raise InputError(f"{output!r} cannot be written: {error.strerror or error}.") from error
