"""How an accuracy is measured, in words: the views of an image, and what the manifest calls views, data and splits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mpncov_zoo.errors import InputError

Views = Literal["single", "mirror", "ten_crops"]


@dataclass(frozen=True)
class Kind:
    """What an evaluation shows a network of one image.

    Attributes:
        count: how many views.
        words: what the command line calls them.
        stated: pieces of a protocol in the manifest, in lower case and without hyphens, that mean these views.
    """

    count: int
    words: str
    stated: tuple[str, ...]


VIEWS: Mapping[Views, Kind] = {
    "single": Kind(1, "one view", ("single crop", "one view")),
    "mirror": Kind(2, "image and mirror", ("mirror",)),
    "ten_crops": Kind(10, "ten crops", ("ten crop", "10 crop")),
}
IMAGENET = "imagenet_1k"
DATASET_NAMES: Mapping[str, str] = {"imagenet": IMAGENET}  # of a reader: what the manifest calls its data
SPLIT_NAMES: Mapping[str, str] = {"validation": "val"}  # of the manifest: what the readers call the split


def require_views(kind: str) -> None:
    """Refuse views that do not exist.

    Raises:
        InputError: saying which do.
    """
    if kind not in VIEWS:
        raise InputError(f"received the views {kind!r}; allowed: {', '.join(VIEWS)}")


def split_and_views(protocol: str) -> tuple[str, list[str]]:
    """Of the manifest's "validation, 224 single crop": "val" and ["single"]."""
    split, _, how = protocol.partition(",")
    words = how.lower().replace("-", " ")
    kinds: list[str] = [name for name, kind in VIEWS.items() if any(phrase in words for phrase in kind.stated)]
    return SPLIT_NAMES.get(split, split), kinds
