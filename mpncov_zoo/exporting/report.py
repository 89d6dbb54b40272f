"""What an export says of itself, in the `model.json` beside it."""

from typing import Annotated, Literal

from pydantic import Field

from mpncov_zoo.description import FileList
from mpncov_zoo.documents import FORMAT_VERSION, Number, Positive, StrictModel, Text
from mpncov_zoo.specification import InputSpecification


class Comparison(StrictModel):
    """One batch that the format's runtime computed beside the network."""

    images: tuple[Positive, Positive, Positive, Positive] = Field(description="(batch, height, width, channels)")
    difference: Number = Field(description="the largest one between two outputs, relative to the largest output")
    same_class: Annotated[Number, Field(ge=0, le=1)] | None = Field(
        description="share of images with the same first class; null without classes"
    )


class ExportReport(StrictModel):
    """What goes in and comes out, where the weights are from, and how the file was checked."""

    format_version: Literal[1] = FORMAT_VERSION
    format: Text
    dtype: Text
    model: Text
    weights: str | None = Field(description="name of the weights set that it holds bit for bit; null for any others")
    trust: str | None = Field(description="what these weights were verified against when they were loaded")
    input_name: Text
    input_shape: tuple[int | None, ...] = Field(description="(batch, height, width, channels), float32; null for any")
    input: InputSpecification
    outputs: tuple[Text, ...]
    labels: tuple[str, ...] | None = Field(description="in the order of the logits")
    check: tuple[Comparison, ...]
    versions: dict[str, str]
    files: FileList = Field(description="every file of the export but model.json itself")
