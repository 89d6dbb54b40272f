"""The certificate that a conversion leaves beside its SavedModel: `certificate.json`, as typed data."""

from os import PathLike
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mpncov_zoo.documents import FORMAT_VERSION, Sha256, StrictModel, Text, load_document
from mpncov_zoo.errors import ConversionError, ZooError

CERTIFICATE_FILE = "certificate.json"
REPORT_FILE = "report.html"

Published = Literal["sha256 matches", "sha256 prefix matches", "no digest published", "digest differs", "unknown"]
Weights = Literal["as read", "random statistics"]
Verdict = Literal["passed", "failed", "unchecked"]

PUBLISHED: dict[Published, str] = {  # Source.published, said to people
    "sha256 matches": "the published one",
    "sha256 prefix matches": "begins as the published file's name says",
    "no digest published": "no digest of this file is published",
    "digest differs": "NOT THE PUBLISHED ONE: the file has a published name, and other content",
    "unknown": "not a published file",
}

Error = Annotated[float, Field(ge=0, description="largest difference over the largest reference value")]


class Source(StrictModel):
    """The file that was converted."""

    name: Text
    format: Text
    size: Annotated[int, Field(ge=0, description="bytes")]
    sha256: Sha256
    published: Published


class StageErrors(StrictModel):
    """The errors of one stage in one case, measured against the reference in float64.

    Attributes:
        stage: name of the stage.
        pytorch: error of the source network in float32, which is rounding alone; None where it is not the reference.
        ours: error of our network in float32.
        ours_tf32: error of our network with TF32 on; None on a CPU, which has no TF32.
        bound: the largest value that `ours` may have.
    """

    stage: Text
    pytorch: Error | None
    ours: Error
    ours_tf32: Error | None = None
    bound: Error

    @model_validator(mode="before")
    @classmethod
    def _under_the_names_of_version_0_1(cls, data: Any) -> Any:
        names = {"tensorflow": "ours", "tensorflow_tf32": "ours_tf32"}
        return {names.get(name, name): value for name, value in data.items()} if isinstance(data, dict) else data

    @property
    def within(self) -> bool:
        """Whether our network is as close as it should be."""
        return self.ours <= self.bound


class Case(StrictModel):
    """What both networks computed for one input under one set of weights."""

    weights: Weights
    shape: tuple[int, int, int, int] = Field(description="(batch, height, width, channels)")
    stages: list[StageErrors]
    top5_agreement: Annotated[float, Field(ge=0, le=1)] | None = Field(
        description="share of the reference's five best classes; null without classes"
    )


class Parity(StrictModel):
    """How far our network is from its reference, on the same inputs.

    Attributes:
        device: where ours computed.
        backend: Keras' backend that ours computed on.
        reference: which network in float64, on the CPU.
        cases: what was measured for each input.
    """

    device: Text
    backend: Text = "tensorflow"
    reference: Text
    cases: list[Case]

    @property
    def first_drift(self) -> str | None:
        """The first stage past its bound, and where; None if there is none."""
        for case in self.cases:
            for errors in case.stages:
                if not errors.within:
                    return (
                        f"{errors.stage} differs by {errors.ours:.1e} of its largest value (bound "
                        f"{errors.bound:.1e}) for images {case.shape}, weights {case.weights}"
                    )
        return None


class Certificate(StrictModel):
    """What was converted, from which file and how, and whether the result computes the same.

    Attributes:
        verdict: "passed" or "failed" where parity was checked, else "unchecked".
        key: where in the file the tensors were, with dots, such as "state_dict_ema"; None where they were all that it
            held, and in older certificates.
        map_sha256: digest of the map, of every name and its variable.
    """

    refusal: ClassVar[type[ZooError]] = ConversionError
    format_version: Literal[1] = FORMAT_VERSION
    model: Text
    tag: Text
    num_classes: Annotated[int, Field(ge=0, description="0 for a network without a classifier")]
    parameters: Annotated[int, Field(gt=0)]
    source: Source
    key: str | None = None
    family: Text
    map_sha256: Sha256
    tensors: Annotated[int, Field(gt=0, description="placed, each once")]
    unused: list[str] = Field(description="names in the file that the network has no variables for")
    notes: list[str] = []
    versions: dict[str, str]
    parity: Parity | None = None
    verdict: Verdict

    @model_validator(mode="after")
    def _verdict_of_its_parity(self) -> Self:
        if self.verdict != verdict_of(self.parity):
            raise ValueError(f"verdict: received {self.verdict!r}, the parity says {verdict_of(self.parity)!r}")
        return self

    def json_text(self) -> str:
        """The content of `certificate.json`."""
        return f"{self.model_dump_json(indent=2)}\n"


def verdict_of(parity: Parity | None) -> Verdict:
    """The verdict that follows from a parity."""
    if parity is None:
        return "unchecked"
    return "failed" if parity.first_drift else "passed"


def read_certificate(directory: str | PathLike[str]) -> Certificate:
    """Read the certificate of an artifact.

    Raises:
        ConversionError: the artifact has no certificate, or it is malformed.
    """
    return load_document(Path(directory) / CERTIFICATE_FILE, Certificate)
