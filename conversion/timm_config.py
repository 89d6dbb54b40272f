"""The `config.json` that timm's checkpoints on the Hugging Face Hub have beside them: preprocessing and classes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError

from mpncov_zoo.documents import first_problem
from mpncov_zoo.errors import ConversionError
from mpncov_zoo.labels import labels_of
from mpncov_zoo.specification import InputSpecification

CONFIG_FILE = "config.json"
IMAGENET = "imagenet_1k"  # the data set of tags that end with in1k


Pixels = Annotated[int, Field(ge=1, le=4096)]
Share = Annotated[float, Field(ge=0, le=1)]
Spread = Annotated[float, Field(gt=0, le=1)]
Line = Annotated[str, Field(pattern=r"^[^\r\n]+$")]


class PretrainedConfig(BaseModel):
    """timm's `pretrained_cfg`, as far as it is used here."""

    tag: str = ""
    input_size: tuple[Literal[3], Pixels, Pixels]
    crop_pct: float = Field(ge=0.1, le=1)
    crop_mode: Literal["center"] = "center"
    interpolation: Literal["bilinear", "bicubic"]
    mean: tuple[Share, Share, Share]
    std: tuple[Spread, Spread, Spread]


class Config(BaseModel):
    """timm's `config.json`, as far as it is used here."""

    architecture: str
    pretrained_cfg: PretrainedConfig
    num_classes: int
    label_names: list[Line] | None = None


@dataclass(frozen=True)
class Neighbour:
    """What the file says: how images become the input, and the names of the classes if it tells."""

    input: InputSpecification
    labels: Sequence[str] | None


def beside(checkpoint: Path, backbone: str) -> Neighbour | None:
    """Read the config.json beside a checkpoint; None where there is none, or it is no timm's.

    Args:
        checkpoint: the file.
        backbone: what it is converted to, by our name, which is timm's, too.

    Raises:
        ConversionError: it is of another network, asks for a preprocessing that there is not here, or is malformed.
    """
    path = checkpoint.with_name(CONFIG_FILE)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None
    if '"pretrained_cfg"' not in text:
        return None
    try:
        config = Config.model_validate_json(text)
    except ValidationError as error:
        raise ConversionError(
            f"{path} cannot be used: {first_problem(error)}. Without it the usual ones hold"
        ) from None
    if config.architecture != backbone:
        raise ConversionError(
            f"{path} is of {config.architecture}, not of {backbone}. Move it away, if it is no part of it"
        )
    return Neighbour(_specification(config.pretrained_cfg), _labels(config))


def _specification(config: PretrainedConfig) -> InputSpecification:
    """The short side is resized to floor(size / crop_pct) there before the centre is cut out."""
    _, height, width = config.input_size
    return InputSpecification(
        size=(height, width),
        channel_order="RGB",
        resize="short_side",
        crop_fraction=height / math.floor(height / config.crop_pct),
        interpolation=config.interpolation,
        antialias=True,
        mean=config.mean,
        std=config.std,
    )


def _labels(config: Config) -> Sequence[str] | None:
    if config.label_names is not None and len(config.label_names) == config.num_classes:
        return config.label_names
    usual = labels_of(IMAGENET) if config.pretrained_cfg.tag.endswith("in1k") else None
    return usual if usual is not None and len(usual) == config.num_classes else None
