"""Files of features, one row an image: written row by row beside their place, and moved there when complete."""

import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mpncov_zoo.errors import InputError, ZooError


class FeatureFile(Protocol):
    """A file being written; made with the path to write to, which is a temporary one."""

    def __init__(self, path: Path): ...

    def check(self, names: Sequence[str]) -> None:
        """Refuse paths of images that this format cannot hold."""
        ...

    def append(self, paths: Sequence[str], rows: np.ndarray) -> None:
        """Add images and their features, (images, ...)."""
        ...

    def finish(self) -> Mapping[str, Path]:
        """Complete the file and return {suffix of a file beside the target: where it lies}; "" is the target."""
        ...

    def close(self) -> None:
        """Release what is open, complete or not."""
        ...


class NpyFile:
    """The matrix as .npy, the paths as a text file beside it, one a line."""

    def __init__(self, path: Path):
        self.path = path
        self.file = path.open("xb")
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

    def finish(self) -> Mapping[str, Path]:
        self._finish_matrix()
        names = self.path.with_name(f"{self.path.name}.paths")
        with names.open("x", encoding="utf-8", errors="surrogateescape") as file:
            file.writelines(f"{name}\n" for name in self.names)
        return {".paths.txt": names, "": self.path}

    def _finish_matrix(self) -> None:
        self.file.seek(0)  # NumPy pads the header so that the number of rows can be corrected in place
        self.layout["shape"] = (len(self.names), *self.layout["shape"][1:])
        np.lib.format.write_array_header_1_0(self.file, self.layout)
        self.file.close()

    def close(self) -> None:
        self.file.close()


class NpzFile(NpyFile):
    """The arrays `paths` and `features`, uncompressed, as np.savez writes them."""

    def check(self, names: Sequence[str]) -> None:
        """Anything goes."""

    def finish(self) -> Mapping[str, Path]:
        self._finish_matrix()
        archive = self.path.with_name(f"{self.path.name}.npz")
        with zipfile.ZipFile(archive, "x") as file:
            file.write(self.path, "features.npy")
            with file.open("paths.npy", "w") as member:
                np.lib.format.write_array(member, np.array(self.names), allow_pickle=False)
        return {"": archive}


class ParquetFile:
    """The columns `path` and `features`, a list of fixed length; its metadata has the shape of one image's features."""

    def __init__(self, path: Path):
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise ZooError("Writing Parquet needs pyarrow: pip install 'mpncov-zoo[parquet]'.") from None
        self.arrow = pyarrow
        self.file = path.open("xb")
        self.path = path
        self.writer: Any = None

    def check(self, names: Sequence[str]) -> None:
        try:
            "".join(names).encode()
        except UnicodeEncodeError:
            raise InputError("A path is not UTF-8, which Parquet's text must be; write .npz instead.") from None

    def append(self, paths: Sequence[str], rows: np.ndarray) -> None:
        arrow = self.arrow
        flat = rows.reshape(len(rows), -1)
        features = arrow.FixedSizeListArray.from_arrays(arrow.array(flat.ravel()), flat.shape[1])
        metadata = {"shape": " ".join(map(str, rows.shape[1:]))}
        schema = arrow.schema(
            [arrow.field("path", arrow.string()), arrow.field("features", features.type, metadata=metadata)]
        )
        if self.writer is None:
            self.writer = arrow.parquet.ParquetWriter(self.file, schema)
        names = arrow.array(list(paths), arrow.string())
        self.writer.write_table(arrow.Table.from_arrays([names, features], schema=schema))

    def finish(self) -> Mapping[str, Path]:
        self.writer.close()
        self.file.close()
        return {"": self.path}

    def close(self) -> None:
        self.file.close()


FORMATS: Mapping[str, type[FeatureFile]] = {".npy": NpyFile, ".npz": NpzFile, ".parquet": ParquetFile}


@contextmanager
def feature_file(output: str, names: Sequence[str]) -> Iterator[FeatureFile]:
    """A file of features by its suffix; it appears complete when the context ends, and not at all after an exception.

    Args:
        output: a path that ends with .npy, .npz or .parquet; an existing file is replaced.
        names: paths of the images to come.

    Raises:
        InputError: another suffix, a path that the format cannot hold, or the place cannot be written.
        ZooError: pyarrow is missing.
    """
    target = Path(output)
    if target.suffix not in FORMATS:
        raise InputError(f"--output must end with {', '.join(FORMATS)}. Received: {output!r}.")
    if target.is_dir():
        raise InputError(f"{output!r} is a directory; give the path of a file.")
    workplace = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        workplace.mkdir()
        file = FORMATS[target.suffix](workplace / "features")
        with closing(file):
            file.check(names)
            yield file
            for suffix, complete in file.finish().items():
                complete.replace(target.with_suffix(suffix) if suffix else target)
    except OSError as error:
        raise InputError(f"{output!r} cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
