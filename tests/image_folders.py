"""Small data sets of image files: a folder a class."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from mpncov_zoo.specification import InputSpecification
from tests.photos import encode, photo


def specification(size: int = 24, *, crop_fraction: float = 0.75, **changes: object) -> InputSpecification:
    """Colour photos, resized to 32 on the short side and cropped to 24."""
    return InputSpecification.model_validate(
        {
            "size": (size, size),
            "channel_order": "RGB",
            "resize": "short_side",
            "crop_fraction": crop_fraction,
            "interpolation": "bilinear",
            "antialias": True,
            "mean": (0.3, 0.4, 0.5),
            "std": (0.35, 0.3, 0.25),
            **changes,
        }
    )


def write_folders(root: Path, splits: Mapping[str, Mapping[str, int]], *, height: int = 40, width: int = 52) -> Path:
    """So many images of each class of each split, all different, JPEG and PNG in turn."""
    base, number = photo(height, width), 0
    for split, classes in splits.items():
        for name, count in classes.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                number += 1
                image = Image.fromarray(np.roll(base, 3 * number, axis=1) ^ np.uint8(number % 8))
                kind, suffix = ("PNG", "png") if index % 3 == 2 else ("JPEG", "jpg")
                (folder / f"{index:03d}.{suffix}").write_bytes(encode(image, kind))
    return root
