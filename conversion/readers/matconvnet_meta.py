"""What a MatConvNet file says of images and classes: `meta.normalization` and `meta.classes`.

MatConvNet subtracts a mean from values in 0..255, and divides by nothing.
"""

import re

import numpy as np
from pydantic import ValidationError

from conversion.readers.matlab_values import Struct
from conversion.readers.reading import Refused
from mpncov_zoo.documents import first_problem
from mpncov_zoo.specification import InputSpecification

USUAL_SIZE = (224, 224)  # of every network in MatConvNet's `examples/imagenet` that the zoo has
WHITE = 255
WORDNET = re.compile(r"n\d{8}")
LARGEST = 4096  # pixels
AVERAGED = (
    "The file subtracts an average image; its mean colour is subtracted instead, which is the same for images of "
    "every size, and differs a little."
)
NO_AVERAGE = "The file has no average image: nothing is subtracted from the values in 0..255."
REORDERED = "The classes were put into the order of their WordNet identifiers, which is that of all other weights."
UNNAMED = "The file does not name its classes as WordNet does: their order is the file's, and was not checked."


def metadata(network: Struct) -> Struct:
    """The struct `meta`; before 1.0-beta17 its parts lay beside the layers."""
    if "meta" in network:
        return network.struct("meta")
    return Struct({key: network.values[key] for key in ("normalization", "classes") if key in network}, "the network")


def image_size(meta: Struct) -> tuple[int, int]:
    """(height, width) of the images in pixels.

    Raises:
        Refused: it is none.
    """
    normalization = meta.struct("normalization")
    if "imageSize" not in normalization:
        return USUAL_SIZE
    numbers = normalization.wholes("imageSize")
    if len(numbers) not in (2, 3, 4) or not all(1 <= number <= LARGEST for number in numbers[:2]):
        raise Refused(f"{normalization.where}: imageSize is {list(numbers[:4])}")
    return numbers[0], numbers[1]


def input_of(meta: Struct) -> tuple[InputSpecification, tuple[str, ...]]:
    """How images become the network's input, and notes.

    Raises:
        Refused: the file asks for a preparation that there is not here.
    """
    normalization = meta.struct("normalization")
    mean, notes = _mean(normalization)
    size = image_size(meta)
    keeps = normalization.numbers("keepAspect", (1.0,))[:1] != (0.0,)
    try:
        return InputSpecification(
            size=size,
            channel_order="RGB",
            resize="short_side" if keeps else "squash",
            crop_fraction=_crop(normalization, size),
            interpolation=normalization.text("interpolation", "bicubic"),  # pyright: ignore[reportArgumentType]
            antialias=True,
            mean=tuple(value / WHITE for value in mean),
            std=(1 / WHITE,) * 3,
        ), notes
    except ValidationError as error:
        raise Refused(f"{normalization.where} cannot be used: {first_problem(error)}") from None


def _mean(normalization: Struct) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Red, green and blue in 0..255, of three numbers or of an image (height, width, 3); 0 where there is none."""
    if "averageImage" not in normalization or not normalization.array("averageImage").size:
        return (0.0, 0.0, 0.0), (NO_AVERAGE,)
    average = normalization.array("averageImage").astype(np.float64)
    if not np.isfinite(average).all() or average.min() < 0 or average.max() > WHITE:
        raise Refused(f"{normalization.where}: averageImage is not of values in 0..{WHITE}")
    if average.size == 3:
        return tuple(average.ravel().tolist()), ()
    if average.ndim != 3 or average.shape[2] != 3:
        raise Refused(f"{normalization.where}: averageImage has the shape {average.shape}, not (height, width, 3)")
    return tuple(average.mean((0, 1)).tolist()), (AVERAGED,)


def _crop(normalization: Struct, size: tuple[int, int]) -> float:
    """The share of the short side that is cut out; older files say how many pixels are not."""
    if "cropSize" in normalization:
        shares = normalization.numbers("cropSize")
    else:
        border = normalization.numbers("border", (0.0, 0.0))
        shares = tuple(side / (side + pixels) for side, pixels in zip(size, (border[0], border[-1]), strict=True))
    if len({*shares}) != 1:
        raise Refused(f"{normalization.where}: cropSize is {[f'{share:g}' for share in shares[:4]]}")
    return shares[0]


def classes_of(meta: Struct, count: int) -> tuple[np.ndarray, tuple[str, ...] | None, tuple[str, ...]]:
    """The order that the logits get, the names of the classes in that order, and notes.

    Args:
        meta: the file's.
        count: of the logits.

    Returns:
        The file's number, from 0, of each class; the names, None where the file has not one for each class; and notes.
    """
    classes = meta.struct("classes")
    names, described = (classes.texts(key) if key in classes else () for key in ("name", "description"))
    order = np.arange(count)
    wordnet = len({*names}) == len(names) == count and all(WORDNET.fullmatch(name) for name in names)
    if wordnet:
        order = np.argsort(np.array(names), kind="stable")
    notes = (UNNAMED,) if not wordnet else (REORDERED,) if (order != np.arange(count)).any() else ()
    texts = next((texts for texts in (described, names) if len(texts) == count), None)
    labels = None if texts is None else tuple(" ".join(texts[index].split()) for index in order)
    return order, labels if labels is not None and all(labels) else None, notes
