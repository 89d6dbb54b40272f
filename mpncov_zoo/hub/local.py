"""A hub that is a directory on this machine, or an artifact directory itself."""

import os
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from mpncov_zoo.description import DESCRIPTION_FILE, parse_description
from mpncov_zoo.errors import FetchError, InputError, NoPretrainedWeights
from mpncov_zoo.manifest import Manifest, no_weights

MOST_NAMED = 20
RUN_FILE = "recipe.json"  # which every run's directory holds from its beginning


@dataclass(frozen=True)
class LocalHub:
    """A hub that is a directory of artifacts, or one artifact.

    Attributes:
        path: absolute.
    """

    path: Path

    def find(self, model: str, tag: str | None, manifest: Manifest) -> tuple[Path, str]:
        """Return the directory and the name of the artifact that is meant; nothing is verified yet.

        Raises:
            FetchError: the directory is not there or cannot be read.
            NoPretrainedWeights: it holds no such weights; the message says which.
            ManifestError: the artifact's model.json is malformed.
        """
        self._require_readable()
        if _is_artifact(self.path):
            return self.path, self._held_name(model, tag)
        name = chosen_name(self.path, artifact_names(self.path), model, tag, manifest)
        return self.path / name, name

    def _require_readable(self) -> None:
        if not self.path.is_dir():
            raise FetchError(
                f"{self.path}: no such directory. Allowed: an artifact directory (it holds {DESCRIPTION_FILE}), "
                "or a directory of <model>.<tag>/ ones"
            )
        if not os.access(self.path, os.R_OK | os.X_OK):
            raise FetchError(f"{self.path} cannot be read: permission denied")

    def _held_name(self, model: str, tag: str | None) -> str:
        """Return the name of this artifact, if it is of the model and tag that are asked for."""
        description = parse_description(self.path / DESCRIPTION_FILE)
        if description.model != model:
            raise NoPretrainedWeights(f"{self.path} holds weights of {description.model!r}, not of {model!r}")
        if tag not in (None, description.tag):
            no_weights(f"{self.path} holds other weights of {model!r}", tag, [description.tag])
        return description.name


def is_path(name: object) -> bool:
    """Whether a name means a place on this machine: it is a path, '.' or '..', begins with '~', or has a separator."""
    if isinstance(name, str):
        return (
            name in (os.curdir, os.pardir)
            or name.startswith("~")
            or any(separator in name for separator in (os.sep, os.altsep) if separator)
        )
    return isinstance(name, PathLike)


def artifact_at(name: str | PathLike[str]) -> Path:
    """Return the artifact at a path, or the only one in the run or hub there.

    Raises:
        InputError: there is none, or there are several.
    """
    path = Path(os.path.expanduser(name))
    if not path.is_dir():
        raise InputError(
            f"{path}: no such directory. Allowed: an artifact directory, or a name of mpncov-zoo list; a URL is given "
            "as hub="
        )
    if (path / DESCRIPTION_FILE).is_file():
        return path
    names = artifact_names(path)
    if len(names) == 1:
        return path / names[0]
    if not names and (path / RUN_FILE).is_file():
        raise InputError(
            f"{path} is a run that has not ended: go on with mpncov-zoo train ... --output {path} --resume"
        )
    held = f"It is a directory of artifacts; give one of {', '.join(names)}" if names else "Give one that does"
    raise InputError(f"{path} is no artifact: it holds no {DESCRIPTION_FILE}. {held}")


def artifact_names(directory: Path) -> list[str]:
    """Return the names of the artifacts that lie in a directory, sorted."""
    return sorted(child.name for child in directory.iterdir() if _is_artifact(child))


def chosen_name(hub: object, names: list[str], model: str, tag: str | None, manifest: Manifest) -> str:
    """Choose one of a hub's artifacts: the tag asked for, else the default one, else the only one of the model.

    Raises:
        NoPretrainedWeights: none is; the message says which there are.
    """
    tags = [name.partition(".")[2] for name in names if name.partition(".")[0] == model]
    if not tags:
        held = _some(names) or f"no <model>.<tag>/ directory with a {DESCRIPTION_FILE}"
        raise NoPretrainedWeights(f"{hub} holds no weights of {model!r}. It holds: {held}")
    default = manifest.default(model)
    if tag is None and default is not None and default.tag in tags:
        return default.name
    if tag is None and len(tags) == 1:
        return f"{model}.{tags[0]}"
    if tag is None:
        no_weights(f"{hub} holds several weights of {model!r}, none of them its default", tag, tags)
    return f"{model}.{tag}" if tag in tags else no_weights(f"{hub} holds other weights of {model!r}", tag, tags)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _is_artifact(directory: Path) -> bool:
    return os.path.lexists(directory / DESCRIPTION_FILE)  # what else than a file it may be is refused by who reads it
