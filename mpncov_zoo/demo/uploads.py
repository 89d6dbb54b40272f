"""What a visitor may bring: the limits of an upload, which are checked before an image is decoded."""

import os
from pathlib import Path
from typing import Any

from PIL import Image

from mpncov_zoo.errors import InputError
from mpncov_zoo.images import ChannelOrder, count_pixels, read_image

MOST_MEGABYTES = 20  # of a file
MOST_MEGAPIXELS = 40  # which take 120 MB while they are decoded
MOST_WAITING = 20  # visitors in the queue; one is served at a time
UPLOADS = "GRADIO_TEMP_DIR"  # the variable that names the folder of uploads
LIMITS = (
    f"An image may have up to {MOST_MEGABYTES} MB and {MOST_MEGAPIXELS} megapixels. "
    f"One image is computed at a time, and up to {MOST_WAITING} wait."
)


def uploaded_path(file: Any, folder: str) -> str:
    """The path of an uploaded file, as the page's script sends it.

    Args:
        file: a mapping with "path".
        folder: of the uploads.

    Raises:
        InputError: it is anything else, or a file of another folder.
    """
    path = file.get("path") if isinstance(file, dict) else None
    if not isinstance(path, str) or not Path(path).resolve().is_relative_to(Path(folder).resolve()):
        raise InputError("The demo takes uploaded files alone.")
    return path


def read_limited(path: str, channel_order: ChannelOrder) -> Image.Image:
    """Read an image within the limits, upright; errors name the file without its folder.

    Args:
        path: of the file.
        channel_order: "RGB" or "L", which the image becomes.

    Raises:
        InputError: the file is too large, has too many pixels, or is not an image.
    """
    name = repr(os.path.basename(path))
    if os.path.isfile(path) and os.path.getsize(path) > MOST_MEGABYTES * 10**6:
        raise InputError(f"{name} is larger than {MOST_MEGABYTES} MB.")
    pixels = count_pixels(path)
    if pixels > MOST_MEGAPIXELS * 10**6:
        raise InputError(f"{name} has {pixels / 1e6:.0f} megapixels. Up to {MOST_MEGAPIXELS} are taken.")
    try:
        return read_image(path, channel_order)
    except InputError as error:
        raise InputError(str(error).replace(repr(path), name)) from None
