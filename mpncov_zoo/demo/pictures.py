"""Arrays as small pictures inside a page: heat maps, maps of channels over an image, and data addresses."""

import base64
from io import BytesIO

import numpy as np
from PIL import Image

# From "below" over "zero" to "above"; distinguishable also with red-green blindness.
_BLUE, _WHITE, _RED = (33, 102, 172), (247, 247, 247), (178, 24, 43)
_SMALL = 64  # pixels a side, up to which a picture is kept exactly and its pixels are shown as squares
_OPACITY = 0.85  # of a map's largest value over an image


def diverging(values: np.ndarray, limit: float | None = None) -> np.ndarray:
    """Colours of signed values: blue below zero, white at zero, red above.

    Args:
        values: (height, width).
        limit: the size of a value that gets the full colour; by default the largest one's.

    Returns:
        uint8 (height, width, 3).
    """
    scaled = _scaled(values, limit)[..., None]
    ends = np.where(scaled < 0, _BLUE, _RED)
    return np.rint(_WHITE + np.abs(scaled) * (ends - np.asarray(_WHITE))).astype(np.uint8)


def heat_map(matrix: np.ndarray) -> np.ndarray:
    """A symmetric matrix as colours: (d, d) -> uint8 (d, d, 3).

    The full colour is that of the largest entry beside the diagonal, which would else drown the others.
    """
    beside = np.abs(matrix - np.diag(np.diag(matrix)))
    return diverging(matrix, float(beside.max()) or None)


def overlay(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A map over the image that it was computed from, which is grey below it.

    Args:
        pixels: of the image, uint8 (height, width, 1 or 3).
        values: of the map, signed, (rows, columns); enlarged to the image's size.

    Returns:
        uint8 (height, width, 3).
    """
    height, width = pixels.shape[:2]
    grey = pixels.astype(np.float64).mean(axis=-1, keepdims=True)
    scaled = Image.fromarray(_scaled(values).astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    large = np.asarray(scaled, np.float64)
    opacity = _OPACITY * np.abs(large)[..., None]
    colours = np.where(large[..., None] < 0, _BLUE, _RED)
    return np.rint((1 - opacity) * grey + opacity * colours).astype(np.uint8)


def data_address(pixels: np.ndarray, *, exact: bool = False) -> str:
    """A picture as the address of an <img>, so that the page fetches nothing for it.

    Args:
        pixels: uint8 (height, width, 1 or 3).
        exact: keep every pixel as it is, also of a large picture.
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    kind = "png" if exact or is_small(pixels) else "jpeg"
    stream = BytesIO()
    image.save(stream, kind, **({"optimize": True} if kind == "png" else {"quality": 88}))
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def is_small(pixels: np.ndarray) -> bool:
    """Whether the pixels of a picture are to be seen one by one."""
    return max(pixels.shape[:2]) <= _SMALL


def _scaled(values: np.ndarray, limit: float | None = None) -> np.ndarray:
    """Signed values over their limit, by default the largest, cut off at -1 and 1; zeros stay zeros."""
    size = limit or float(np.abs(values).max()) or 1.0
    return np.clip(values / size, -1, 1)
