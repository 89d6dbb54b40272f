"""Tables of features, as Parquet has them."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpncov_zoo.errors import InputError, ZooError

SUFFIX = ".parquet"
COMPRESSION = "zstd"


def import_parquet() -> Any:
    """The module pyarrow.parquet.

    Raises:
        ZooError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise ZooError("Parquet needs pyarrow: pip install 'mpncov-zoo[features]'.") from None
    return pyarrow.parquet


def require_text(names: Sequence[str]) -> None:
    """Refuse paths that Parquet's text cannot hold.

    Raises:
        InputError: one is not UTF-8.
    """
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        raise InputError("A path is not UTF-8, which Parquet's text must be; write .npz instead.") from None


def feature_table(
    names: Sequence[str], rows: np.ndarray, labels: Sequence[Any] = (), label_type: str | None = None
) -> Any:
    """A table with the columns `path`, `label` if labels have a type, and `features`, lists of fixed length.

    The metadata of the field `features` has the shape of one image's, as "64 64".

    Args:
        names: of the images.
        rows: (images, ...), float32 or float16.
        labels: of the images, each of them or None.
        label_type: of them, "int64" or "string".

    Returns:
        A pyarrow.Table of as many rows.
    """
    import pyarrow

    flat = rows.reshape(len(rows), int(np.prod(rows.shape[1:])))
    features = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(flat.ravel()), flat.shape[1])
    metadata = {"shape": " ".join(map(str, rows.shape[1:]))}
    columns = {pyarrow.field("path", pyarrow.string()): pyarrow.array(list(names), pyarrow.string())}
    if label_type is not None:
        kind = {"int64": pyarrow.int64(), "string": pyarrow.string()}[label_type]
        columns[pyarrow.field("label", kind)] = pyarrow.array(list(labels), kind)
    columns[pyarrow.field("features", features.type, metadata=metadata)] = features
    return pyarrow.Table.from_arrays([*columns.values()], schema=pyarrow.schema([*columns]))


def to_bytes(table: Any) -> memoryview:
    """A table as the content of a file."""
    stream = io.BytesIO()
    import_parquet().write_table(table, stream, compression=COMPRESSION)
    return stream.getbuffer()
