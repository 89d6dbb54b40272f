"""Publish an artifact: checked, copied to a hub, read back from there, and described as an entry for the manifest."""

import logging
import os
import tempfile
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path

from mpncov_zoo import architectures, registry
from mpncov_zoo.description import DESCRIPTION_FILE, ArtifactDescription, parse_description
from mpncov_zoo.errors import InputError, IntegrityError, ZooError
from mpncov_zoo.hub.directories import add_artifact, replace_text, require_hub
from mpncov_zoo.hub.resolve import resolve
from mpncov_zoo.hub.upload import require_repository, upload
from mpncov_zoo.hub.verification import describe_files
from mpncov_zoo.manifest import Manifest, WeightsEntry, load_manifest
from mpncov_zoo.publishing.admission import measure, require_publishable, require_same_source, self_test
from mpncov_zoo.publishing.manifest_entry import Facts, describe, plain
from mpncov_zoo.publishing.model_card import model_card

HUGGING_FACE = "hf:"
COMMIT = "<40-hex commit>"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Publication:
    """An artifact that may be published.

    Attributes:
        directory: the artifact.
        target: `owner/name` of a Hugging Face repository, or the directory of a hub.
        description: the artifact's model.json.
        entry: for the manifest; its source is the artifact itself until it is published.
        private: of a repository.
    """

    directory: Path
    target: str | Path
    description: ArtifactDescription
    entry: WeightsEntry
    private: bool = False

    @property
    def card(self) -> str:
        """Its model card."""
        hub = "<this folder, or its URL>" if isinstance(self.target, Path) else f"{HUGGING_FACE}{self.target}@{COMMIT}"
        return model_card(self.entry, self.description, hub=hub)

    def source(self, commit: str = COMMIT) -> dict[str, str]:
        """Where it is going to be; of a repository at which commit, which nobody knows before."""
        if isinstance(self.target, Path):
            return {"kind": "file", "path": str(self.target)}
        return {"kind": "huggingface", "repo": self.target, "revision": commit}


def publish(
    directory: str | PathLike[str],
    to: str | PathLike[str],
    *,
    facts: Facts | None = None,
    data: str | PathLike[str] | None = None,
    private: bool = False,
    manifest: Manifest | None = None,
) -> WeightsEntry:
    """Check an artifact, publish it, read it back, and describe it.

    Args:
        directory: the artifact.
        to: `hf:owner/name`, or the directory of a hub.
        facts: what the artifact does not know of itself; required where the manifest does not know it either.
        data: directory of the data set, to measure the accuracy on its test images.
        private: create a private repository.
        manifest: the published weights; by default this installation's.

    Returns:
        Its entry for the manifest.

    Raises:
        InputError: the artifact must not be published, a fact is missing, or the target is none or holds other weights.
        IntegrityError: files are not those of the artifact, it does not compute what it should, or what was published
            does not come back.
        FetchError, OfflineError: of a repository that cannot be written; the message says what to do.
        ManifestError: the artifact's model.json or a hub's index.json is malformed.
        ConversionError: the certificate of a conversion is.

    Example:
        >>> publish("runs/fashion/mpncov_cifar_resnet20.mine", "hf:owner/name", facts=Facts(citation="..."))
    """
    publication = prepare(directory, to, facts=facts, measured=data is not None, private=private, manifest=manifest)
    return send(examine(publication, data))


def prepare(
    directory: str | PathLike[str],
    to: str | PathLike[str],
    *,
    facts: Facts | None = None,
    measured: bool = False,
    private: bool = False,
    manifest: Manifest | None = None,
) -> Publication:
    """The checks of `publish` that need neither TensorFlow nor the network; `measured`: that `examine` gets data."""
    path, manifest = Path(os.path.expanduser(directory)).absolute(), manifest or load_manifest()
    target = _target(to, path, private)
    if not (path / DESCRIPTION_FILE).is_file():
        raise InputError(f"{path}: expected an artifact directory, which holds {DESCRIPTION_FILE}")
    description = parse_description(path / DESCRIPTION_FILE)
    if description.architecture.get("backbone") == architectures.ATTACHED:
        raise InputError(
            f"{path}: {description.model} stands on a Keras model, which has no name that others could load. Hand on "
            "the directory itself, which mpncov_zoo.load takes by its path"
        )
    if not description.num_classes:
        raise InputError(
            f"{path}: {description.model} has no classifier, and published weights tell classes apart. Hand on the "
            "directory itself, which mpncov_zoo.load takes by its path"
        )
    registry.canonical_name(description.model)
    files, known = describe_files(path, exclude=()), manifest.get(description.name)
    if known is not None and known.files and sorted(known.files, key=lambda file: file.path) != files:
        raise InputError(f"{known.name} is published with other files. Give these weights another tag")
    if known is not None and known.upstream is not None:
        require_same_source(description, known.upstream)
    resolve(description.model, description.tag, hub=path, manifest=manifest)
    entry = describe(path, description, files, facts or Facts(), manifest)
    require_publishable(path, description, entry, measured=measured)
    return Publication(path, target, description, entry, private)


def examine(publication: Publication, data: str | PathLike[str] | None = None) -> Publication:
    """The checks that need TensorFlow: weights, self-test and, with a data set's directory, the accuracy."""
    entry = publication.entry
    self_test(publication.directory, entry.model)
    logger.info("%s passes its self-test", entry.name)
    if data is None:
        return publication
    metrics = measure(publication.directory, entry, Path(data))
    measured = {(metric.name, metric.dataset, metric.split, metric.views) for metric in metrics}
    others = [m for m in entry.metrics if (m.name, m.dataset, m.split, m.views) not in measured]
    return replace(publication, entry=entry.model_copy(update={"metrics": [*metrics, *others]}))


def send(publication: Publication) -> WeightsEntry:
    """Publish, and read back what was published."""
    target, entry = publication.target, publication.entry
    if describe_files(publication.directory, exclude=()) != sorted(entry.files, key=lambda file: file.path):
        raise IntegrityError(f"{publication.directory} was changed while it was examined. Nothing was published")
    if isinstance(target, Path):
        hub, source = str(target), publication.source()
        add_artifact(publication.directory, entry.name, target)
        replace_text(target / f"{entry.name}.md", publication.card)
    else:
        commit = upload(target, entry.name, publication.directory, publication.card, private=publication.private)
        hub, source = f"{HUGGING_FACE}{target}@{commit}", publication.source(commit)
    logger.info("%s is at %s", entry.name, hub)
    published = WeightsEntry.model_validate({**plain(entry), "sources": [source]})
    _read_back(published, hub)
    logger.info("%d files were read back from there, and verified", len(entry.files))
    return published


def _target(to: str | PathLike[str], directory: Path, private: bool) -> str | Path:
    text = fspath(to)
    scheme, colon, rest = text.partition(":")
    if text[: len(HUGGING_FACE)].lower() == HUGGING_FACE:
        return require_repository(rest)
    if colon and rest.startswith("//"):
        raise InputError(f"{text}: allowed: hf:owner/name, or a directory, whose files any {scheme} server can serve")
    if private:
        raise InputError(f"--private is of Hugging Face repositories. Received: {text}")
    hub = Path(os.path.expanduser(text)).absolute()
    require_hub(hub, directory)
    return hub


def _read_back(entry: WeightsEntry, hub: str) -> None:
    """Fetch what was published as its users will, and hold it to the entry."""
    manifest = Manifest(schema_version=1, entries=[entry.model_copy(update={"default": True})])
    try:
        with tempfile.TemporaryDirectory() as cache:
            resolve(entry.model, entry.tag, hub=hub, manifest=manifest, cache_dir=cache)
    except ZooError as error:
        raise type(error)(f"{hub} was written, but does not come back as it should; publish again: {error}") from error
