"""How an image becomes a network's input: size, crop, mean and standard deviation."""

from collections.abc import Sequence
from numbers import Integral
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mpncov_zoo.documents import Number, Positive, StrictModel
from mpncov_zoo.errors import InputError

InputShape = tuple[int | None, int | None, int]  # height, width, channels; None: any


class InputSpecification(StrictModel):
    """How an image becomes the array that the network was trained on.

    The image is resized to round(size / crop_fraction), its short side ("short_side") or both sides ("squash"), and
    `size` is cut from the centre. `mean` and `std` are those of values scaled to [0, 1], one per channel, in the order
    of the channels.
    """

    size: tuple[Positive, Positive] = Field(description="(height, width) in pixels")
    channel_order: Literal["RGB", "BGR", "L"]
    resize: Literal["short_side", "squash"]
    crop_fraction: Annotated[Number, Field(gt=0, le=1)]
    interpolation: Literal["bilinear", "bicubic"]
    antialias: Literal[True]
    mean: tuple[Number, ...]
    std: tuple[Annotated[Number, Field(gt=0)], ...]

    @property
    def mode(self) -> Literal["RGB", "L"]:
        """The mode in which images are read, by Pillow's name: RGB for BGR, too, whose channels are reversed last."""
        return "L" if self.channel_order == "L" else "RGB"

    @property
    def channels(self) -> int:
        """Number of colour channels: 3 for RGB and BGR, 1 for L."""
        return len(self.channel_order)

    @model_validator(mode="after")
    def _one_value_per_channel(self) -> Self:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels:
                raise ValueError(f"{name} has {len(values)} values; allowed: {self.channels} for {self.channel_order}")
        return self

    def for_shape(self, shape: InputShape) -> Self:
        """The specification of the same network for images of another shape.

        Grey images are normalised by the mean over the colours' values.

        Args:
            shape: (height, width, channels); where height or width is None, the published size stays.

        Raises:
            InputError: the number of channels is neither 1 nor that of this specification.
        """
        height, width, channels = shape
        changes: dict[str, Any] = {}
        if height is not None and width is not None:
            changes["size"] = (height, width)
        if channels == 1 and self.channels == 3:
            changes |= {"channel_order": "L", "mean": (sum(self.mean) / 3,), "std": (sum(self.std) / 3,)}
        elif channels != self.channels:
            raise InputError(f"Images have 3 channels (RGB) or 1 (grey). Received: input_shape={shape}.")
        return self.model_copy(update=changes)


def check_input_shape(shape: Sequence[int | None]) -> InputShape:
    """(height, width, channels) as a tuple; height and width may be None.

    Raises:
        InputError: it is anything else.
    """
    sizes = tuple(shape) if isinstance(shape, list | tuple) else ()
    whole = all(is_whole(size) and size > 0 for size in sizes if size is not None)
    if len(sizes) == 3 and sizes[2] is not None and whole:
        height, width = (None if size is None else int(size) for size in sizes[:2])
        return height, width, int(sizes[2])
    allowed = "(height, width, channels), whole numbers or None for height and width"
    raise InputError(f"input_shape must be {allowed}. Received: {shape!r}.")


def is_whole(number: Any) -> bool:
    """Python's integers and NumPy's; no booleans."""
    return isinstance(number, Integral) and not isinstance(number, bool)
