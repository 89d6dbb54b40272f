"""Typed documents: strict pydantic models, and JSON files read into them with errors of one or two lines."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from mpncov_zoo.errors import ManifestError

FORMAT_VERSION = 1


class StrictModel(BaseModel):
    """Frozen, without unknown fields or NaN; the base of everything that is read from a file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, data: Any) -> Any:
        """Say which fields are allowed, which pydantic's own message does not."""
        unknown = sorted(set(data) - set(cls.model_fields)) if isinstance(data, dict) else []
        if unknown:
            raise ValueError(f"unknown field {unknown[0]!r}; allowed: {', '.join(cls.model_fields)}")
        return data


Document = TypeVar("Document", bound=StrictModel)


def load_document(path: Path, document: type[Document], version_field: str) -> Document:
    """Read and validate a JSON file; the version is looked at first.

    Raises:
        ManifestError: naming file, field, what was received and what is allowed.
    """
    data = _read_json(path)
    version = data.get(version_field)
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise ManifestError(
            f"{path}: {version_field}: received {_shown(version)}, allowed: {FORMAT_VERSION}. "
            "Written by a newer mpncov_zoo? Then upgrade: pip install --upgrade mpncov-zoo"
        )
    try:
        return document.model_validate(data)
    except ValidationError as error:
        raise ManifestError(f"{path}: {first_problem(error)}") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes(), object_pairs_hook=_distinct_keys, parse_constant=_refuse_constant)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path}: not valid JSON (damaged or truncated?): {error}") from None
    if not isinstance(data, dict):
        raise ManifestError(f"{path}: received {_shown(data)}, allowed: a JSON object")
    return data


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    repeated = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if repeated:
        raise ValueError(f"field {repeated[0]!r} stands more than once in one object")
    return dict(pairs)


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def first_problem(error: ValidationError) -> str:
    """Fold pydantic's report into one line: field, what is allowed, what was received."""
    problems = error.errors(include_url=False)
    field = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in problems[0]["loc"]).removeprefix(".")
    received = problems[0]["input"]
    message = problems[0]["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(received, dict | list | BaseModel) else f"; received {_shown(received)}"
    more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{field or 'document'}: {message}{shown}{more}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
