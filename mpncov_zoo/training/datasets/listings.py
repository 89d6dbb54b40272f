"""What the readers of published archives share: they find an archive's folder, and read its tables and images."""

from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from mpncov_zoo.errors import InputError
from mpncov_zoo.training.datasets.splits import Files

SHOWN = 5  # names in a message


def require_split(title: str, split: str, allowed: Collection[str]) -> None:
    """Refuse a split that a data set does not have.

    Raises:
        InputError: saying which it has.
    """
    if split not in allowed:
        raise InputError(f"{title} has the splits {', '.join(allowed)}. Received: {split!r}.")


def unpacked(directory: Path, folder: str, member: str) -> Path:
    """The folder that an archive unpacks into, whether that, one above it or one in between was given.

    Args:
        directory: given by the user.
        folder: the archive's own, such as "archive/data".
        member: path of a file or folder in it, by which it is recognised.

    Raises:
        InputError: it is not there.
    """
    parts = PurePosixPath(folder).parts
    for skipped in range(len(parts) + 1):
        root = directory.joinpath(*parts[skipped:])
        if (root / member).exists():
            return root
    raise InputError(f"{directory} holds neither {folder}/{member} nor {member}: unpack the archive there.")


def read_text(path: Path) -> str:
    """A file's text.

    Raises:
        InputError: it is missing, unreadable or no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: was the archive unpacked completely?") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error


def read_table(path: Path, columns: int) -> list[list[str]]:
    """The lines of a text file in columns, parted by spaces; the last one may hold spaces.

    Raises:
        InputError: it cannot be read, or a line has fewer columns.
    """
    rows = [line.split(maxsplit=columns - 1) for line in read_text(path).splitlines() if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) != columns:
            raise InputError(f"{path}, line {number}: {len(row)} columns instead of {columns}: {' '.join(row)!r}.")
    return [[cell.strip() for cell in row] for row in rows]


def files(root: Path, paths: Sequence[str], labels: Sequence[int], class_names: Sequence[str]) -> Files:
    """The images that an archive's own list names.

    Raises:
        InputError: one is not there, or has a class that is not.
    """
    missing = [path for path in paths if not (root / path).is_file()]
    if missing:
        shown = ", ".join(missing[:SHOWN])
        raise InputError(
            f"{root} lacks {len(missing)} of {len(paths)} listed images: {shown}. Unpack the archive again."
        )
    numbers = np.asarray(labels, np.int32).reshape(-1)
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(class_names):
        raise InputError(
            f"{root}: classes {numbers.min()} to {numbers.max()} are listed, but {len(class_names)} named."
        )
    return Files(root, tuple(paths), numbers, tuple(class_names))
