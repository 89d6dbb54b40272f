"""What an artifact says of itself (`model.json`) and what a hub lists (`index.json`); unknown fields are errors."""

import re
from collections import Counter
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from mpncov_zoo.documents import (
    FORMAT_VERSION,
    NAME,
    Document,
    Name,
    Number,
    Positive,
    Sha256,
    StrictModel,
    Text,
    load_document,
    parse_document,
)
from mpncov_zoo.specification import InputSpecification

DESCRIPTION_FILE = "model.json"
INDEX_FILE = "index.json"
DEVICES = {"CON", "PRN", "AUX", "NUL"} | {f"{port}{number}" for port in ("COM", "LPT") for number in range(10)}


def _relative_path(path: str) -> str:
    """Refuse what could name anything but a file below the artifact directory, on any operating system."""
    components = path.split("/")
    plain = all(re.fullmatch(r"[A-Za-z0-9._-]+", component) for component in components)
    if not plain or {".", ".."} & set(components):
        raise ValueError("allowed: a relative path of letters, digits, '.', '_', '-', joined by '/', without '..'")
    foreign = [name for name in components if name.endswith(".") or name.partition(".")[0].upper() in DEVICES]
    if foreign:
        raise ValueError(f"{foreign[0]!r} means something else on Windows; allowed: any other name")
    return path


RelativePath = Annotated[str, AfterValidator(_relative_path)]


Views = Literal["single", "mirror", "ten_crops"]  # what a network is shown of one image in evaluation
VIEWS: Mapping[Views, str] = {"single": "one view", "mirror": "image and mirror", "ten_crops": "ten crops"}


class Metric(StrictModel):
    """One published or measured quality, in percent, and where the number comes from."""

    name: Literal["top-1 error", "top-5 error", "top-1 accuracy", "top-5 accuracy", "balanced accuracy"]
    value: Annotated[Number, Field(ge=0, le=100, description="percent")]
    dataset: Text
    split: Text = Field(description="of the data set, as its reader names it, such as 'val'")
    views: Views | None = Field(default=None, description="of each image; null where it is not stated")
    remark: str = Field(default="", description="what else a reader must know, such as whose weights were measured")
    origin: Literal["paper", "reported by upstream", "measured here"]
    command: Text | None = Field(default=None, description="what was run; exactly where origin is 'measured here'")

    @property
    def protocol(self) -> str:
        """Split, views and remark for people: 'val, one view'."""
        return ", ".join(filter(None, (self.split, self.views and VIEWS[self.views], self.remark)))

    @model_validator(mode="before")
    @classmethod
    def _from_prose(cls, data: Any) -> Any:
        """Artifacts written before there were these fields have them in a sentence, which begins with the split."""
        if isinstance(data, dict) and isinstance(data.get("protocol"), str):
            split, _, remark = data["protocol"].partition(",")
            return {"split": split, "remark": remark.strip(), **{k: v for k, v in data.items() if k != "protocol"}}
        return data

    @model_validator(mode="after")
    def _command_where_measured(self) -> Self:
        if (self.command is not None) != (self.origin == "measured here"):
            raise ValueError(f"command is for origin 'measured here', and required there; origin is {self.origin!r}")
        return self


class FileEntry(StrictModel):
    """One file of an artifact: POSIX path below its directory, size in bytes, SHA-256."""

    path: RelativePath
    size: Annotated[int, Field(ge=0, strict=True)]
    sha256: Sha256


def _distinct_paths(files: list[FileEntry]) -> list[FileEntry]:
    """Refuse two entries that are one file, also where the file system ignores case; and a file that is a directory."""
    folded = Counter(file.path.casefold() for file in files)
    directories = {path[:end] for path in folded for end, letter in enumerate(path) if letter == "/"}
    for file in files:
        if folded[file.path.casefold()] > 1:
            raise ValueError(f"path {file.path!r} stands more than once (upper and lower case are the same here)")
        if file.path.casefold() in directories:
            raise ValueError(f"path {file.path!r} is a file, and other paths are below it")
    return files


FileList = Annotated[list[FileEntry], AfterValidator(_distinct_paths)]


class ArtifactDescription(StrictModel):
    """What an artifact's `model.json` says: how to build the network, what it expects, which files belong to it."""

    format_version: Literal[1] = FORMAT_VERSION
    model: Name
    tag: Name
    architecture: dict[str, Any] = Field(description="the ImageClassifier's configuration")
    num_classes: Annotated[int, Field(ge=0, strict=True)]
    labels_file: RelativePath | None
    input: InputSpecification
    parameters: Positive = Field(description="trainable ones, without batch-norm statistics")
    provenance: dict[str, Any]
    metrics: list[Metric] = []
    versions: dict[str, str]
    files: FileList = Field(description="every file of the artifact but model.json itself")

    @property
    def name(self) -> str:
        """`<model>.<tag>`."""
        return f"{self.model}.{self.tag}"

    @model_validator(mode="before")
    @classmethod
    def _not_an_export(cls, data: Any) -> Any:
        if isinstance(data, dict) and {"format", "check"} <= data.keys():
            made_of = data.get("weights") or "the artifact that it was made of"
            raise ValueError(f"this is an export, which its own runtime reads; load {made_of}")
        return data

    @model_validator(mode="after")
    def _consistent_files(self) -> Self:
        paths = {file.path for file in self.files}
        if DESCRIPTION_FILE in {path.casefold().partition("/")[0] for path in paths}:
            raise ValueError(f"files holds {DESCRIPTION_FILE!r}, which cannot carry its own digest")
        if self.labels_file is not None and self.labels_file not in paths:
            raise ValueError(f"files lacks labels_file {self.labels_file!r}")
        return self


class HubIndex(StrictModel):
    """The `index.json` of a hub: which `<model>.<tag>/` it holds, for servers that cannot list. It vouches for none."""

    format_version: Literal[1] = FORMAT_VERSION
    artifacts: list[Annotated[str, Field(pattern=rf"^{NAME}\.{NAME}$")]]


def parse_description(path: str | PathLike[str], data: bytes | None = None) -> ArtifactDescription:
    """Read and validate an artifact's `model.json`.

    Args:
        path: of the file, or where its content comes from.
        data: the content, if it was read already.

    Raises:
        ManifestError: naming file, field, what was received and what is allowed.
    """
    return _document(path, data, ArtifactDescription)


def parse_index(path: str | PathLike[str], data: bytes | None = None) -> HubIndex:
    """Read and validate a hub's `index.json`, as `parse_description` does.

    Raises:
        ManifestError: naming file, field, what was received and what is allowed.
    """
    return _document(path, data, HubIndex)


def _document(path: str | PathLike[str], data: bytes | None, document: type[Document]) -> Document:
    if data is None:
        return load_document(Path(path), document)
    return parse_document(data, path, document)
