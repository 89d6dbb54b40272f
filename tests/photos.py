"""Photo-like images, made on the spot: smooth random fields with noise, seeded by their size."""

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image


def photo(height: int, width: int, channels: int = 3) -> np.ndarray:
    """uint8 (height, width, channels)."""
    rng = np.random.default_rng((height, width, channels))
    planes = rng.integers(0, 256, (channels, 6, 6), dtype=np.uint8)
    smooth = [Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC) for plane in planes]
    noisy = np.stack([np.asarray(plane) for plane in smooth], axis=-1) + rng.normal(0, 8, (height, width, channels))
    return noisy.clip(0, 255).astype(np.uint8)


def photo_image(height: int, width: int, mode: str = "RGB") -> Image.Image:
    """A photo of any mode that Pillow can convert RGBA to; its alpha channel, where it has one, is not trivial."""
    image = Image.fromarray(photo(height, width, 4))
    return image if mode == "RGBA" else image.convert(mode)


def encode(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()
