"""From a name to a verified artifact directory. No TensorFlow: nothing is opened by it before all digests agree.

Known here: the weights bundled in the wheel, directories (`hub=`), and what was converted from a published checkpoint.
Other downloads are refused with what to do instead.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path

from mpncov_zoo.errors import FetchError, IntegrityError, ManifestError, NoPretrainedWeights
from mpncov_zoo.hub.verification import OBTAIN_AGAIN, sha256, verify_digests, verify_files
from mpncov_zoo.manifest import (
    DESCRIPTION_FILE,
    ArtifactDescription,
    BundledSource,
    FileEntry,
    Manifest,
    Upstream,
    WeightsEntry,
    no_weights,
    parse_description,
)

BUNDLED = Path(__file__).resolve().parent.parent / "bundled"
REMOTE_SCHEMES = frozenset({"http", "https", "hf", "gs", "s3", "ftp"})
TRUST_MANIFEST = "every file agrees with the digests in mpncov_zoo's weights_manifest.json"
TRUST_OWN = "every file agrees with the artifact's own model.json; mpncov_zoo's manifest has no digests for it"


@dataclass(frozen=True)
class ResolvedArtifact:
    """An artifact directory whose files have been verified: all of them, or all but `pending`.

    Attributes:
        directory: the artifact directory, absolute.
        entry: the manifest's entry that the files were checked against; None where only model.json vouches for them.
        trust: one sentence that says what the files were checked against.
        description: the artifact's `model.json`.
        pending: files whose digests `verify_pending` still has to check, before anything reads them.
    """

    directory: Path
    entry: WeightsEntry | None
    trust: str
    description: ArtifactDescription
    pending: tuple[FileEntry, ...] = ()

    def verify_pending(self) -> None:
        """Check the digests that were put off.

        Raises:
            IntegrityError: a file is not the one that was published.
        """
        verify_digests(self.directory, self.pending)


def resolve(
    model: str,
    tag: str | None,
    *,
    hub: str | PathLike[str] | None = None,
    manifest: Manifest,
    put_off_variables: bool = False,
    convert: Callable[[WeightsEntry], Path] | None = None,
) -> ResolvedArtifact:
    """Find the weights of a model and verify every file of them.

    Args:
        model: canonical name of the model.
        tag: which weights; None for the default ones, or for whatever the artifact directory `hub` holds.
        hub: an artifact directory, or a directory of them (`<model>.<tag>/`); None for this installation's own.
        manifest: the published weights.
        put_off_variables: leave the digests of variables/ to `verify_pending`, so that a caller can do it in parallel.
        convert: makes or finds the artifact of an entry that is published as a checkpoint; without it such are refused.

    Returns:
        The verified artifact.

    Raises:
        NoPretrainedWeights: there are no weights of that model and tag; the message lists those there are.
        FetchError: there are, but not on this machine; the message says where and what to do.
        IntegrityError: the files are not the ones that were published.
        ManifestError: the artifact's `model.json` is malformed.

    Example:
        >>> artifact = resolve("mpncov_resnet50", None, hub="exported", manifest=load_manifest())
        >>> print(artifact.directory, artifact.trust)
    """
    if hub is None:
        entry = manifest.published(model, tag)
        if entry.upstream is not None:
            return _converted(entry, entry.upstream, manifest, put_off_variables, convert)
        return _verified(_bundled_directory(entry), entry.name, manifest, put_off_variables)
    directory = _local_directory(hub)
    if _is_artifact(directory):
        return _verified(directory, _held_name(directory, model, tag), manifest, put_off_variables)
    name = _listed_name(directory, model, tag, manifest)
    return _verified(directory / name, name, manifest, put_off_variables)


def _verified(directory: Path, name: str, manifest: Manifest, put_off_variables: bool) -> ResolvedArtifact:
    def pending(files: Sequence[FileEntry]) -> tuple[FileEntry, ...]:
        return tuple(file for file in files if put_off_variables and file.path.startswith("variables/"))

    entry = manifest.get(name)
    if entry is not None and entry.files:
        later = pending(entry.files)
        verify_files(directory, entry.files, later=later)
        return ResolvedArtifact(directory, entry, TRUST_MANIFEST, _description(directory, name), later)
    description = _description(directory, name)
    later = pending(description.files)
    verify_files(directory, description.files, ignore=(DESCRIPTION_FILE,), later=later)
    return ResolvedArtifact(directory, None, TRUST_OWN, description, later)


def _description(directory: Path, name: str) -> ArtifactDescription:
    description = parse_description(directory / DESCRIPTION_FILE)
    if description.name != name:
        raise IntegrityError(f"{directory}: expected weights {name!r}, got {description.name!r} in {DESCRIPTION_FILE}")
    return description


def _bundled_directory(entry: WeightsEntry) -> Path:
    if not any(isinstance(source, BundledSource) for source in entry.sources):
        kinds = ", ".join(source.kind for source in entry.sources)
        raise FetchError(
            f"{entry.name} is published as {kinds}, and this version of mpncov_zoo does not download. "
            "Download the artifact directory and pass hub=DIRECTORY"
        )
    directory = BUNDLED / entry.name
    if not directory.is_dir():
        raise FetchError(f"{directory} is missing, so this installation is incomplete. Reinstall mpncov-zoo")
    return directory


def _converted(
    entry: WeightsEntry,
    upstream: Upstream,
    manifest: Manifest,
    put_off_variables: bool,
    convert: Callable[[WeightsEntry], Path] | None,
) -> ResolvedArtifact:
    """What was made of a published checkpoint, by this package and for this machine, if it was made of that one."""
    if convert is None:
        raise FetchError(
            f"{entry.name} is published as {upstream.file_name} at {' or '.join(upstream.locations)}, which is to be "
            "converted: mpncov-zoo convert"
        )
    directory = convert(entry)
    try:
        _verify_description(directory)
        found = _verified(directory, entry.name, manifest, put_off_variables)
    except (IntegrityError, ManifestError) as error:
        reason = str(error).removesuffix(f". {OBTAIN_AGAIN}")
        raise IntegrityError(f"{reason}. Remove {directory}; the next load converts again") from None
    source = found.description.provenance.get("source")
    digest = str(source.get("sha256")) if isinstance(source, dict) else ""
    if not digest or not digest.startswith(upstream.digest):
        raise IntegrityError(
            f"{found.directory}: expected a conversion of {upstream.file_name} with sha256 {upstream.digest}, "
            f"got one of {digest or 'something else'}. Remove the directory; the next load converts again"
        )
    agrees = "the manifest's sha256" if upstream.sha256 else f"the published prefix {upstream.sha256_prefix}"
    held = f"which agrees with {agrees}" if upstream.digest else "for which no digest is published"
    trust = (
        f"every file agrees with the digests of its conversion on this machine from {upstream.file_name} "
        f"(sha256 {digest}, {held})"
    )
    return replace(found, entry=entry, trust=trust)


def digest_file(directory: Path) -> Path:
    """Where the sha256 of a converted artifact's model.json stands, which vouches for all its other files."""
    return directory.with_name(f"{directory.name}.sha256")


def _verify_description(directory: Path) -> None:
    path = digest_file(directory)
    expected = path.read_text() if path.is_file() else "the one recorded by its conversion"
    found = sha256(directory / DESCRIPTION_FILE) if (directory / DESCRIPTION_FILE).is_file() else "no such file"
    if found != expected:
        raise IntegrityError(f"{directory}: {DESCRIPTION_FILE!r}: expected sha256 {expected}, got {found}")


def _local_directory(hub: str | PathLike[str]) -> Path:
    scheme, colon, _ = fspath(hub).partition(":")
    if colon and scheme.lower() in REMOTE_SCHEMES:
        raise FetchError(
            f"hub={fspath(hub)!r}: this version of mpncov_zoo does not support remote hubs. "
            "Download the artifact directory and pass hub=DIRECTORY"
        )
    directory = Path(hub).expanduser().absolute()
    if not directory.is_dir():
        raise FetchError(
            f"hub={fspath(hub)!r}: no such directory. Allowed: an artifact directory (it holds {DESCRIPTION_FILE}), "
            "or a directory of <model>.<tag>/ ones"
        )
    if not os.access(directory, os.R_OK | os.X_OK):
        raise FetchError(f"{directory} cannot be read: permission denied")
    return directory


def _is_artifact(directory: Path) -> bool:
    return (directory / DESCRIPTION_FILE).is_file()


def _held_name(directory: Path, model: str, tag: str | None) -> str:
    """The name of the one artifact, if it is of the model and tag asked for."""
    description = parse_description(directory / DESCRIPTION_FILE)
    if description.model != model:
        raise NoPretrainedWeights(f"{directory} holds weights of {description.model!r}, not of {model!r}")
    if tag not in (None, description.tag):
        no_weights(f"{directory} holds other weights of {model!r}", tag, [description.tag])
    return description.name


def _listed_name(directory: Path, model: str, tag: str | None, manifest: Manifest) -> str:
    """Which of the directory's artifacts is meant: the tag asked for, else the default one, else the only one."""
    names = sorted(child.name for child in directory.iterdir() if _is_artifact(child))
    tags = [name.partition(".")[2] for name in names if name.partition(".")[0] == model]
    if not tags:
        held = ", ".join(names) or f"no <model>.<tag>/ directory with a {DESCRIPTION_FILE}"
        raise NoPretrainedWeights(f"{directory} holds no weights of {model!r}. It holds: {held}")
    return f"{model}.{_chosen_tag(directory, model, tag, tags, manifest)}"


def _chosen_tag(directory: Path, model: str, tag: str | None, tags: list[str], manifest: Manifest) -> str:
    if tag is not None:
        return tag if tag in tags else no_weights(f"{directory} holds other weights of {model!r}", tag, tags)
    default = manifest.default(model)
    if default is not None and default.tag in tags:
        return default.tag
    if len(tags) == 1:
        return tags[0]
    no_weights(f"{directory} holds several weights of {model!r}, none of them its default", tag, tags)
