"""The names of the classes of published data sets, which README.md in this folder describes."""

from pathlib import Path

FOLDER = Path(__file__).parent  # <data set>.txt, a class a line


def labels_of(dataset: str) -> tuple[str, ...] | None:
    """The names of a data set's classes, in the order of the logits; None where this package has none.

    Example:
        >>> labels_of("imagenet_1k")[207]
        'golden retriever'
    """
    path = FOLDER / f"{dataset}.txt"
    return read_labels(path) if path.is_file() else None


def read_labels(path: Path) -> tuple[str, ...]:
    """The names of a file, one a line.

    Raises:
        OSError, UnicodeDecodeError: the file cannot be read, or is not text.
    """
    return tuple(path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n"))
