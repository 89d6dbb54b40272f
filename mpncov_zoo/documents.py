"""Typed documents: strict pydantic models, and JSON files read into them with errors of one or two lines."""

import json
import re
import stat
from collections import Counter
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, NoReturn, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from mpncov_zoo.errors import ManifestError, ZooError

FORMAT_VERSION = 1
LARGEST = 2**24  # bytes

NAME = r"[a-z0-9][a-z0-9_-]*"
Name = Annotated[str, Field(pattern=rf"^{NAME}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[int, Field(gt=0, strict=True)]
Number = Annotated[float, Field(strict=True)]


def _repository(text: str) -> str:
    """The rules of huggingface_hub's `validate_repo_id`, for names with an owner."""
    word = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
    if not re.fullmatch(f"{word}/{word}", text) or "--" in text or ".." in text or text.endswith(".git"):
        raise ValueError("allowed: owner/name, of letters, digits, '-', '_', '.', without '--' and '..'")
    return text


Repository = Annotated[str, AfterValidator(_repository)]
_REPOSITORY = TypeAdapter(Repository)


def is_repository(text: str) -> bool:
    """Whether a text is the id of a repository of the Hugging Face Hub, `owner/name`."""
    try:
        return bool(_REPOSITORY.validate_python(text))
    except ValidationError:
        return False


class StrictModel(BaseModel):
    """Frozen, without unknown fields or NaN, and a number is a number; the base of everything read from a file.

    Attributes:
        refusal: the error that a file gets which is no such document.
        version_field: where its version stands.
    """

    refusal: ClassVar[type[ZooError]] = ManifestError
    version_field: ClassVar[str] = "format_version"
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, data: Any) -> Any:
        """Say which fields are allowed, which pydantic's own message does not."""
        unknown = sorted(set(data) - set(cls.model_fields)) if isinstance(data, dict) else []
        if unknown:
            matches = get_close_matches(unknown[0], cls.model_fields, n=1)
            close = "".join(f". Did you mean {name!r}?" for name in matches)
            raise ValueError(f"unknown field {unknown[0]!r}; allowed: {', '.join(cls.model_fields)}{close}")
        return data

    @model_validator(mode="before")
    @classmethod
    def _numbers_as_such(cls, data: Any) -> Any:
        """Neither `true` nor "1", which pydantic takes for 1; its strict mode would refuse lists for tuples, too."""
        for name, field in cls.model_fields.items() if isinstance(data, dict) else ():
            if field.annotation in (int, float) and isinstance(data.get(name), bool | str):
                raise ValueError(f"{name} must be a number; received {_shown(data[name])}")
        return data


Document = TypeVar("Document", bound=StrictModel)


def load_document(path: Path, document: type[Document]) -> Document:
    """Read and validate a JSON file.

    Raises:
        ZooError: of the kind that the document states, naming file, field, what was received and what is allowed.
    """
    return parse_document(_read(path, document.refusal), path, document)


def parse_document(data: bytes, source: object, document: type[Document]) -> Document:
    """Validate JSON; the version is looked at first.

    Args:
        data: the text.
        source: where it comes from, for messages.
        document: what it has to be.

    Raises:
        ZooError: of the kind that the document states, naming source, field, what was received and what is allowed.
    """
    values = _parsed(data, source, document.refusal)
    version = values.get(document.version_field)
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise document.refusal(
            f"{source}: {document.version_field}: received {_shown(version)}, allowed: {FORMAT_VERSION}. "
            "Written by a newer mpncov_zoo? Then upgrade: pip install --upgrade mpncov-zoo"
        )
    try:
        return document.model_validate(values)
    except ValidationError as error:
        raise document.refusal(f"{source}: {first_problem(error)}") from None


def _read(path: Path, refusal: type[ZooError]) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise refusal(f"{path}: expected a regular file, got a directory, pipe or device")
        if status.st_size > LARGEST:
            raise refusal(f"{path}: expected at most {LARGEST:,} bytes, got {status.st_size:,}")
        return path.read_bytes()
    except OSError as error:
        raise refusal(f"{path}: cannot be read: {error.strerror}") from None


def _parsed(data: bytes, source: object, refusal: type[ZooError]) -> dict[str, Any]:
    try:
        values = json.loads(data, object_pairs_hook=_distinct_keys, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise refusal(f"{source}: not valid JSON (damaged or truncated?): {error}") from None
    if not isinstance(values, dict):
        raise refusal(f"{source}: received {_shown(values)}, allowed: a JSON object")
    return values


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    repeated = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if repeated:
        raise ValueError(f"field {repeated[0]!r} stands more than once in one object")
    return dict(pairs)


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def first_problem(error: ValidationError, *, document: str = "document") -> str:
    """Fold pydantic's report into one line: field, what is allowed, what was received.

    Args:
        error: pydantic's report.
        document: what to name where the document as a whole is wrong; "" where the caller names it.
    """
    problems = error.errors(include_url=False)
    field = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in problems[0]["loc"]).removeprefix(".")
    received = problems[0]["input"]
    message = problems[0]["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(received, dict | list | BaseModel) else f"; received {_shown(received)}"
    more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    where = field or document
    return f"{where}{': ' if where else ''}{message}{shown}{more}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
