"""Artifacts that were converted on this machine: how they are found in the cache, and what vouches for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mpncov_zoo.description import ArtifactDescription, FileEntry
from mpncov_zoo.errors import IntegrityError
from mpncov_zoo.hub.cache import Cache
from mpncov_zoo.manifest import Upstream, WeightsEntry


@dataclass(frozen=True)
class Conversion:
    """An artifact in the cache that was converted from a published checkpoint.

    Attributes:
        directory: of the artifact.
        description: its model.json.
        files: all of them, model.json included.
    """

    directory: Path
    description: ArtifactDescription
    files: Sequence[FileEntry]

    @property
    def source_digest(self) -> str:
        """The sha256 of the checkpoint that it was converted from; "" if its model.json does not say."""
        source = self.description.provenance.get("source")
        return str(source.get("sha256") or "") if isinstance(source, dict) else ""

    def require_made_of(self, upstream: Upstream, pinned: str | None) -> None:
        """Refuse an artifact that was converted from another checkpoint than the published or the first used one.

        Raises:
            IntegrityError: it is.
        """
        digests = [upstream.digest] if upstream.sha256 else [upstream.digest, pinned or ""]
        expected = next((digest for digest in digests if not self.source_digest.startswith(digest)), "")
        if expected or not self.source_digest:
            raise IntegrityError(
                f"{self.directory}: expected a conversion of {upstream.file_name} with sha256 {expected}, got "
                f"one of {self.source_digest or 'something else'}. Remove the directory; the next load converts again"
            )

    def trust(self, upstream: Upstream) -> str:
        """Return one sentence that says what vouches for the artifact."""
        if upstream.sha256:
            held = "which agrees with the manifest's sha256"
        elif upstream.sha256_prefix:
            held = (
                f"which agrees with the published prefix {upstream.sha256_prefix}: that finds damage, and stops no "
                "attacker; the file is pinned by its full digest since its first use here"
            )
        else:
            held = "for which no digest is published; the file is pinned by this one since its first use here"
        return (
            f"every file agrees with the digests of its conversion on this machine from {upstream.file_name} "
            f"(sha256 {self.source_digest}, {held})"
        )


def find_conversion(cache: Cache, entry: WeightsEntry) -> Conversion | None:
    """Return the converted artifact of a manifest's entry, or None if the cache does not have all of its files.

    Raises:
        ManifestError: its model.json is malformed.
    """
    digest = cache.recall("converted", entry.name)
    found = None if digest is None else cache.description(digest)
    if found is None:
        return None
    description, files = found
    directory = cache.tree(entry.name, files)
    if not directory.is_dir():
        if not all(cache.holds(file) for file in files):
            return None
        cache.materialise(entry.name, files)
    return Conversion(directory, description, files)
