"""An artifact's entry for the manifest: what it knows of itself, what the manifest knows, what it has to be told."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mpncov_zoo import architectures
from mpncov_zoo.description import ArtifactDescription, FileEntry, Metric
from mpncov_zoo.documents import first_problem
from mpncov_zoo.errors import InputError
from mpncov_zoo.manifest import Manifest, WeightsEntry


@dataclass(frozen=True)
class Facts:
    """What the artifact does not know of itself; None keeps what the manifest has."""

    dataset: str | None = None
    code_licence: str | None = None
    weights_licence: str | None = None
    citation: str | None = None
    notes: str | None = None


def describe(
    directory: Path,
    description: ArtifactDescription,
    files: Sequence[FileEntry],
    facts: Facts,
    manifest: Manifest,
) -> WeightsEntry:
    """The entry of an artifact, which together with the manifest's others is a valid manifest.

    Args:
        directory: the artifact, which is the entry's source until there is another.
        description: its model.json.
        files: all its files.
        facts: what the artifact does not know of itself.
        manifest: where the entry is going to stand; one of that name there lends what is not given.

    Raises:
        InputError: a fact is missing, or the artifact makes no entry.
    """
    known = manifest.get(description.name)
    values = {
        "model": description.model,
        "tag": description.tag,
        "default": manifest.default(description.model) is None if known is None else known.default,
        "dataset": None,
        "num_classes": description.num_classes,
        "labels_file": description.labels_file,
        "input": description.input,
        "parameters": description.parameters,
        **({"options": options} if (options := _options(description)) else {}),
        "metrics": _known_metrics(description, known),
        **_facts(description, known, facts, directory),
        "files": files,
        "sources": [{"kind": "file", "path": str(directory)}],
    }
    try:
        entry = WeightsEntry.model_validate(values)
        others = [other for other in manifest.entries if other.name != entry.name]
        Manifest(schema_version=manifest.schema_version, entries=[*others, entry])
    except ValidationError as error:
        raise InputError(f"{description.name} makes no entry of a manifest: {first_problem(error)}") from None
    return entry


def _facts(
    description: ArtifactDescription, known: WeightsEntry | None, facts: Facts, directory: Path
) -> dict[str, str]:
    """Each fact as it was given, else as the manifest has it; the data set also as the training's recipe has it."""
    recipe = description.provenance.get("recipe")
    trained_on = recipe.get("dataset") if isinstance(recipe, Mapping) else None
    names = [field.name for field in fields(Facts)]
    found = {name: getattr(facts, name) or getattr(known, name, None) for name in names}
    found["dataset"] = found["dataset"] or trained_on
    missing = [f"--{name.replace('_', '-')}" for name in names if not found[name] and name != "notes"]
    if missing:
        raise InputError(
            f"{description.name} is not in the manifest, so it has to be told: {', '.join(missing)}. For example: "
            f"mpncov-zoo publish {shlex.quote(str(directory))} --to hf:owner/name --dataset fashion_mnist "
            "--code-licence Apache-2.0 --weights-licence CC-BY-4.0 --citation 'A. Author: Title, 2026'"
        )
    return {name: value for name, value in found.items() if value}


def _known_metrics(description: ArtifactDescription, known: WeightsEntry | None) -> list[Metric]:
    stated = list(known.metrics) if known is not None else []
    return [*stated, *(metric for metric in description.metrics if metric not in stated)]


def _options(description: ArtifactDescription) -> dict[str, dict[str, Any]]:
    """The architecture options, by part, that differ from the registry's."""
    standard = json.loads(json.dumps(architectures.of_model(description.model).to_dict()))
    own = {part: description.architecture.get(f"{part}_options") for part in architectures.PARTS}
    changed = {
        part: {key: value for key, value in options.items() if standard[f"{part}_options"].get(key) != value}
        for part, options in own.items()
        if isinstance(options, Mapping)
    }
    return {part: options for part, options in changed.items() if options}


def plain(entry: WeightsEntry) -> dict[str, Any]:
    """An entry as it stands in the manifest's JSON."""
    return entry.model_dump(mode="json", exclude_unset=True)
