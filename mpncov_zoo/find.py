"""The one way from a name to verified weights: tags, trunks, paths, hubs, and conversion on first use.

`load`, `verify`, `cache`, recipes and the `mpncov://` handles all come through here. A conversion needs TensorFlow,
nothing else does.
"""

import os
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from mpncov_zoo.catalog import split_name
from mpncov_zoo.description import DESCRIPTION_FILE, parse_description
from mpncov_zoo.errors import InputError, UnknownModel
from mpncov_zoo.first_use import convert_into
from mpncov_zoo.hub.local import artifact_at, is_path
from mpncov_zoo.hub.resolve import ResolvedArtifact, resolve
from mpncov_zoo.manifest import load_manifest


@dataclass(frozen=True)
class Found:
    """The weights that a name stands for.

    Attributes:
        model: canonical name of the model asked for.
        artifact: the verified directory that holds its weights, or those of its trunk.
    """

    model: str
    artifact: ResolvedArtifact

    @property
    def is_trunk(self) -> bool:
        """Whether only the trunk of the model has weights: the artifact is of another model with the same features."""
        return self.artifact.description.model != self.model


def find(
    name: str | PathLike[str],
    pretrained: bool | str = True,
    *,
    hub: str | PathLike[str] | None = None,
    cache_dir: str | PathLike[str] | None = None,
    offline: bool | None = None,
    trunk: bool = True,
    convert: bool = True,
    put_off_variables: bool = False,
) -> Found:
    """Find the weights of a name, fetch or convert what is not here, and verify every file.

    Args:
        name: a model, an alias, `<model>.<tag>`, or the path of an artifact or of a run, which `is_path` tells.
        pretrained: True for the default weights, or a tag.
        hub: the only place to look, as `mpncov_zoo.load` takes it.
        cache_dir: where what is fetched and converted is kept; None for MPNCOV_ZOO_CACHE or the platform's place.
        offline: forbid the network; MPNCOV_ZOO_OFFLINE and HF_HUB_OFFLINE do, too.
        trunk: take the weights of its trunk for a model that has no others; False refuses them.
        convert: convert published checkpoints on their first use; False refuses what was not converted yet.
        put_off_variables: leave the digests of variables/ to `ResolvedArtifact.verify_pending`.

    Raises:
        UnknownModel, NoPretrainedWeights: no such model or weights.
        FetchError, OfflineError, IntegrityError, ManifestError: of `mpncov_zoo.hub.resolve.resolve`.
        ConversionError: a published checkpoint, converted on its first use, is not of this network.
        InputError: an argument cannot be used, or a path leads to no artifact.

    Example:
        >>> find("mpncov_cifar_resnet20").artifact.directory.name
        'mpncov_cifar_resnet20.fashion_mnist'
    """
    manifest = load_manifest()
    if is_path(name):
        if hub is not None or isinstance(pretrained, str):
            raise InputError(f"{fspath(name)} is a path, which says all: leave out hub and the tag.")
        hub = artifact_at(name)
        description = parse_description(hub / DESCRIPTION_FILE)
        model, tag = description.model, description.tag
    else:
        model, tag = _split(name, pretrained)
    held = manifest.held_by(model, tag) if trunk and hub is None else (model, tag)
    artifact = resolve(
        *held,
        hub=hub,
        manifest=manifest,
        cache_dir=cache_dir,
        offline=offline,
        put_off_variables=put_off_variables,
        convert=convert_into if convert else None,
    )
    return Found(model, artifact)


def _split(name: Any, pretrained: bool | str) -> tuple[str, str | None]:
    """The model and the tag that a name asks for; if it is a folder's name, the error says how to write that."""
    try:
        return split_name(name, pretrained)
    except UnknownModel as error:
        if not Path(name).is_dir():
            raise
        raise UnknownModel(
            f"{error} The folder of that name here is written {os.path.join(os.curdir, name)!r}."
        ) from None
