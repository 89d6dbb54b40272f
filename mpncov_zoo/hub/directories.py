"""Hubs in directories: `<model>.<tag>/` artifacts, and the `index.json` that lists them where a server cannot."""

import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from pydantic import ValidationError

from mpncov_zoo.complete import complete
from mpncov_zoo.description import DESCRIPTION_FILE, INDEX_FILE, FileEntry, HubIndex, parse_index
from mpncov_zoo.errors import InputError, IntegrityError
from mpncov_zoo.hub.verification import describe_files


def add_artifact(directory: Path, name: str, hub: Path) -> Path:
    """Copy a verified artifact into a hub, and list it there; both appear complete or not at all.

    Args:
        directory: the artifact, its files already verified.
        name: `<model>.<tag>`.
        hub: the hub's directory; it is made if it does not exist.

    Returns:
        The artifact's place in the hub. The same files may be there already, others may not.

    Raises:
        InputError: the hub holds other files under that name, lies in an artifact or is one, or cannot be written.
        IntegrityError: the copy is not what was copied, or something in a directory is no regular file.
        ManifestError: the hub's `index.json` is malformed.

    Example:
        >>> add_artifact(Path("runs/fashion/mpncov_cifar_resnet20.mine"), "mpncov_cifar_resnet20.mine", Path("hub"))
        PosixPath('hub/mpncov_cifar_resnet20.mine')
    """
    require_hub(hub, directory)
    index_text([name])
    files = describe_files(directory, exclude=())
    target = hub / name
    with _locked(hub):
        text = index_text({*_listed(hub), name})
        if os.path.lexists(target):
            _require_same(target, files)
        else:
            _copy(directory, files, target)
        replace_text(hub / INDEX_FILE, text)
    return target


def require_hub(hub: Path, directory: Path) -> None:
    """Refuse a hub inside an artifact, whose files would then not be the listed ones any more.

    Args:
        hub: the place.
        directory: the artifact that is to be copied there.

    Raises:
        InputError: it is an artifact, lies in this one, or is a file.
    """
    if (hub / DESCRIPTION_FILE).exists() or hub.resolve().is_relative_to(directory.resolve()):
        raise InputError(f"{hub}: an artifact holds its own files alone. Give a directory beside it, or a new one")
    if hub.exists() and not hub.is_dir():
        raise InputError(f"{hub}: expected a directory or a new path, got a file")


def index_text(names: Collection[str]) -> str:
    """Return the content of an `index.json` that lists these artifacts.

    Raises:
        InputError: one is no `<model>.<tag>`.
    """
    try:
        index = HubIndex(artifacts=sorted(names))
    except ValidationError as error:
        raise InputError(f"{error.errors()[0]['input']!r}: expected <model>.<tag>, in lower case") from None
    return f"{index.model_dump_json(indent=2)}\n"


@contextmanager
def _locked(hub: Path) -> Iterator[None]:
    """Keep other processes out of the hub: two that write the index at once would lose an entry."""
    try:
        hub.mkdir(parents=True, exist_ok=True)
        with FileLock(hub / f".{INDEX_FILE}.lock"):
            yield
    except OSError as error:
        raise InputError(f"{hub} cannot be written: {error.strerror or error}. Give another directory") from error


def _listed(hub: Path) -> list[str]:
    path = hub / INDEX_FILE
    return parse_index(path).artifacts if path.exists() else []


def _require_same(target: Path, files: Sequence[FileEntry]) -> None:
    if describe_files(target, exclude=()) != list(files):
        raise InputError(f"{target} exists already with other files. Remove it, or give the artifact another tag")


def _copy(directory: Path, files: Sequence[FileEntry], target: Path) -> None:
    """Copy an artifact's files; the copy is verified before it takes the target's place."""
    with complete(target) as partial:
        for file in files:
            place = partial / file.path
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(directory / file.path, place)
        if describe_files(partial, exclude=()) != list(files):
            raise IntegrityError(f"{directory} changed while it was copied to {target}, or the disk is damaged")


def replace_text(path: Path, text: str) -> None:
    """Write a text file; it appears complete or not at all.

    Raises:
        InputError: it cannot be written.
    """
    with complete(path) as partial:
        partial.write_text(text, encoding="utf-8")
