"""Finds the verified artifact directory of a model and a tag, without TensorFlow, which sees no unverified byte.

If a hub is given, it is the only place to look. Otherwise MPNCOV_ZOO_HUB is tried first, then the manifest's sources in
their order. Wherever files come from, the manifest of this installation decides whether they are the right ones.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path

from mpncov_zoo.description import DESCRIPTION_FILE, ArtifactDescription, FileEntry, parse_description
from mpncov_zoo.documents import NAME
from mpncov_zoo.errors import (
    FetchError,
    IntegrityError,
    ManifestError,
    NoPretrainedWeights,
    OfflineError,
    ZooError,
)
from mpncov_zoo.hub.cache import Cache, cache_root
from mpncov_zoo.hub.conversions import find_conversion
from mpncov_zoo.hub.local import LocalHub, chosen_name
from mpncov_zoo.hub.locations import HUB_VARIABLE, Location, locate, of_source
from mpncov_zoo.hub.remote import RemoteHub
from mpncov_zoo.hub.transport import is_offline
from mpncov_zoo.hub.verification import OBTAIN_AGAIN, REPAIR, verify_digests, verify_files
from mpncov_zoo.manifest import BundledSource, Manifest, Upstream, WeightsEntry

BUNDLED = Path(__file__).resolve().parent.parent / "bundled"
TRUST_MANIFEST = "every file agrees with the digests in mpncov_zoo's weights_manifest.json"
TRUST_OWN = "every file agrees with the artifact's own model.json; mpncov_zoo's manifest has no digests for it"
Converter = Callable[[Cache, WeightsEntry, bool], None]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResolvedArtifact:
    """An artifact directory whose files have been verified: all of them, or all but `pending`.

    Attributes:
        directory: the artifact directory, absolute.
        entry: the manifest's entry that the files were checked against; None where only model.json vouches for them.
        trust: one sentence that says what the files were checked against.
        description: the artifact's `model.json`.
        pending: files whose digests `verify_pending` still has to check, before anything reads them.
        remedy: what to do if one of them is another.
    """

    directory: Path
    entry: WeightsEntry | None
    trust: str
    description: ArtifactDescription
    pending: tuple[FileEntry, ...] = ()
    remedy: str = OBTAIN_AGAIN

    def verify_pending(self) -> None:
        """Check the digests that were put off.

        Raises:
            IntegrityError: a file is not the one that was published.
        """
        verify_digests(self.directory, self.pending, remedy=self.remedy)


def resolve(
    model: str,
    tag: str | None,
    *,
    hub: str | PathLike[str] | None = None,
    manifest: Manifest,
    cache_dir: str | PathLike[str] | None = None,
    offline: bool | None = None,
    put_off_variables: bool = False,
    convert: Converter | None = None,
) -> ResolvedArtifact:
    """Find the weights of a model, fetch what is not here, and verify every file.

    Args:
        model: canonical name of the model.
        tag: which weights; None for the default ones, or for whatever the artifact `hub` holds.
        hub: the only place to look: an artifact directory, a directory of them (`<model>.<tag>/`), an https URL or
            `hf:owner/name@<40-hex commit>` of such; None for MPNCOV_ZOO_HUB, then what the manifest names.
        manifest: the published weights.
        cache_dir: where what is fetched is kept; None for MPNCOV_ZOO_CACHE or the platform's place.
        offline: forbid the network; MPNCOV_ZOO_OFFLINE and HF_HUB_OFFLINE do, too.
        put_off_variables: leave the digests of variables/ to `verify_pending`, so that a caller can do it in parallel.
        convert: makes the artifact of an entry that is published as a checkpoint, in the cache; None refuses those.

    Returns:
        The verified artifact.

    Raises:
        NoPretrainedWeights: there are no weights of that model and tag; the message lists those there are.
        FetchError, OfflineError: there are, but they cannot be had; the message says where and what to do.
        IntegrityError: the files are not the ones that were published.
        ManifestError: the artifact's `model.json` is malformed.
        InputError: an argument or variable is not one that is allowed.

    Example:
        >>> artifact = resolve("mpncov_resnet50", None, hub="exported", manifest=load_manifest())
        >>> print(artifact.directory, artifact.trust)
    """
    search = _Search(manifest, Cache(cache_root(cache_dir)), is_offline(offline), put_off_variables, convert)
    if hub is not None:
        return search.in_hub(locate(hub), model, tag)
    entry = manifest.find(model, tag)
    attempts: list[Callable[[], ResolvedArtifact]] = []
    site = os.environ.get(HUB_VARIABLE)
    if site:
        attempts.append(lambda: search.in_hub(_of_site(site), model, entry.tag if entry else tag))
    if entry is not None or not site:
        attempts += search.published(manifest.published(model, tag))
    if not attempts:
        raise NoPretrainedWeights(
            f"only the trunk of {model!r} has pretrained weights ({entry and entry.trunk}), which is no whole network. "
            f"Take that, or mpncov_zoo.load({model!r}, pretrained=True) and train the rest"
        )
    return _first(attempts)


def _of_site(site: str) -> Location | Path:
    try:
        return locate(site)
    except ZooError as error:
        raise type(error)(f"{HUB_VARIABLE}: {error}") from None


def _first(attempts: Sequence[Callable[[], ResolvedArtifact]]) -> ResolvedArtifact:
    """Return what the first successful attempt gives; if all fail, the error says what each of them met."""
    problems: list[ZooError] = []
    for attempt in attempts:
        try:
            return attempt()
        except (FetchError, IntegrityError, ManifestError, NoPretrainedWeights) as error:
            problems.append(error)
            if len(problems) < len(attempts):
                logger.warning("%s. Trying the next source", str(error).rstrip("."))
    if len(problems) == 1:
        raise problems[0]
    worst = next(
        kind
        for kind in (IntegrityError, ManifestError, OfflineError, FetchError, NoPretrainedWeights)
        if any(isinstance(problem, kind) for problem in problems)
    )
    raise worst("No source has it. " + "; ".join(f"({n}) {problem}" for n, problem in enumerate(problems, 1)))


@dataclass(frozen=True)
class _Search:
    """The ways of finding an artifact, and what all of them need."""

    manifest: Manifest
    cache: Cache
    offline: bool
    put_off_variables: bool
    convert: Converter | None

    def published(self, entry: WeightsEntry) -> Iterator[Callable[[], ResolvedArtifact]]:
        """List the attempts for an entry of the manifest, in its order."""
        if entry.upstream is not None:
            yield partial(self._converted, entry, entry.upstream)
        for source in entry.sources:
            if isinstance(source, BundledSource):
                yield partial(self._bundled, entry)
            else:
                yield partial(self.in_hub, of_source(source), entry.model, entry.tag)

    def in_hub(self, hub: Location | Path, model: str, tag: str | None) -> ResolvedArtifact:
        """Return the verified artifact of a hub."""
        if isinstance(hub, Path):
            directory, name = LocalHub(hub).find(model, tag, self.manifest)
            return self._verified(directory, name)
        remote = RemoteHub(hub, self.cache, self.offline)
        if tag is not None and not re.fullmatch(NAME, tag):  # it becomes part of a URL
            raise NoPretrainedWeights(f"{hub} holds no weights of {model!r} with tag {tag!r}, which is no name of any")
        name = f"{model}.{tag}" if tag else self._remote_name(remote, model)
        entry = self.manifest.get(name)
        known = entry is not None and bool(entry.files)
        files = entry.files if entry is not None and known else remote.files(name)
        trust = TRUST_MANIFEST if known else f"{TRUST_OWN}. It came from {hub}"
        return self._checked(remote.directory(name, files), name, files, trust, entry if known else None, REPAIR)

    def _remote_name(self, remote: RemoteHub, model: str) -> str:
        default = self.manifest.default(model)
        names = None if self.offline else remote.names()
        if names is not None:
            return chosen_name(remote.location, names, model, None, self.manifest)
        if default is None:
            raise NoPretrainedWeights(
                f"{remote.location} does not say which weights of {model!r} it has: ask for '{model}.<tag>'"
            )
        return default.name

    def _bundled(self, entry: WeightsEntry) -> ResolvedArtifact:
        directory = BUNDLED / entry.name
        if not directory.is_dir():
            raise FetchError(f"{directory} is missing, so this installation is incomplete. Reinstall mpncov-zoo")
        return self._verified(directory, entry.name)

    def _verified(self, directory: Path, name: str) -> ResolvedArtifact:
        """Verify a directory that is used where it lies."""
        entry = self.manifest.get(name)
        if entry is not None and entry.files:
            return self._checked(directory, name, entry.files, TRUST_MANIFEST, entry, OBTAIN_AGAIN)
        description = _description(directory, name)
        later = self._pending(description.files)
        verify_files(directory, description.files, ignore=(DESCRIPTION_FILE,), later=later)
        return ResolvedArtifact(directory, None, TRUST_OWN, description, later)

    def _checked(
        self,
        directory: Path,
        name: str,
        files: Sequence[FileEntry],
        trust: str,
        entry: WeightsEntry | None,
        remedy: str,
    ) -> ResolvedArtifact:
        """Verify a directory that has to hold exactly these files, model.json among them."""
        later = self._pending(files)
        verify_files(directory, files, later=later, remedy=remedy)
        return ResolvedArtifact(directory, entry, trust, _description(directory, name), later, remedy)

    def _pending(self, files: Sequence[FileEntry]) -> tuple[FileEntry, ...]:
        return tuple(file for file in files if self.put_off_variables and file.path.startswith("variables/variables."))

    def _converted(self, entry: WeightsEntry, upstream: Upstream) -> ResolvedArtifact:
        """Return the artifact that this machine converted from the published checkpoint, converting it if need be."""
        if find_conversion(self.cache, entry) is None:
            if self.convert is None:
                raise FetchError(
                    f"{entry.name} is published as {upstream.file_name} at {' or '.join(upstream.locations)}, which "
                    f"was not converted here yet: mpncov-zoo cache prefetch {entry.name}"
                )
            self.convert(self.cache, entry, self.offline)
        found = find_conversion(self.cache, entry)
        if found is None:
            raise IntegrityError(f"{entry.name} was converted, and is not in the cache {self.cache.root}. {REPAIR}")
        found.require_made_of(upstream, self.cache.recall("checkpoints", upstream.file_name))
        return self._checked(found.directory, entry.name, found.files, found.trust(upstream), entry, REPAIR)


def _description(directory: Path, name: str) -> ArtifactDescription:
    description = parse_description(directory / DESCRIPTION_FILE)
    if description.name != name:
        raise IntegrityError(f"{directory}: expected weights {name!r}, got {description.name!r} in {DESCRIPTION_FILE}")
    return description
