"""From an artifact on this machine to one that others load: what may be published, its card, its manifest entry."""

from mpncov_zoo.publishing.manifest_entry import Facts
from mpncov_zoo.publishing.publication import publish

__all__ = ["Facts", "publish"]
