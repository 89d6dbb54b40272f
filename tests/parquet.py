"""What `extract` wrote, as a user of pyarrow reads it."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq


def rows_of(output: Path | str) -> dict[str, np.ndarray]:
    """The features of a directory or a file by path; asserts that each path stands once."""
    files = [str(output)] if Path(output).is_file() else sorted(map(str, Path(output).glob("part-*.parquet")))
    found: dict[str, np.ndarray] = {}
    for file in files:
        table = pq.read_table(file)
        shape = [int(size) for size in table.schema.field("features").metadata[b"shape"].split()]
        column = table["features"].combine_chunks()
        values = column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), *shape)
        for path, row in zip(table["path"].to_pylist(), values, strict=True):
            assert path not in found
            found[path] = row
    return found
