"""Convert on first use: a published checkpoint becomes an artifact in the cache when it is first asked for."""

import logging

from mpncov_zoo.conversion_package import require_conversion
from mpncov_zoo.description import DESCRIPTION_FILE
from mpncov_zoo.hub.cache import Cache
from mpncov_zoo.hub.upstream import obtain
from mpncov_zoo.hub.verification import sha256
from mpncov_zoo.manifest import WeightsEntry
from mpncov_zoo.quiet import import_tensorflow

logger = logging.getLogger(__name__)


def convert_into(cache: Cache, entry: WeightsEntry, offline: bool) -> None:
    """Make the artifact of an entry that is published as a checkpoint, test it, and keep it in the cache.

    Args:
        cache: where; it remembers the artifact as "converted".
        entry: with `upstream`.
        offline: forbid to fetch the checkpoint.

    Raises:
        FetchError, OfflineError, IntegrityError: of `mpncov_zoo.hub.upstream.obtain`; the cache cannot be written.
        ConversionError: the checkpoint's tensors are not the network's.
    """
    before = cache.recall("converted", entry.name)
    with cache.lock(f"convert-{entry.name}"):
        if cache.recall("converted", entry.name) == before:  # no other process was done meanwhile
            _convert(cache, entry, offline)


def _convert(cache: Cache, entry: WeightsEntry, offline: bool) -> None:
    require_conversion()
    import_tensorflow()  # before `conversion` does, with its messages
    from conversion.converter import convert, self_check

    if entry.upstream is None:
        raise ValueError(f"{entry.name} is not published as a checkpoint")
    checkpoint = obtain(entry.name, entry.upstream, cache, offline=offline)
    logger.warning("Converting %s to an artifact in %s, once; this takes a minute or less", checkpoint, cache.root)
    with cache.scratch(entry.name) as scratch:
        convert(checkpoint, model=entry.model, output=scratch / entry.name, tag=entry.tag)
        self_check(scratch / entry.name, model=entry.model)
        digest = sha256(scratch / entry.name / DESCRIPTION_FILE)
        cache.adopt(scratch / entry.name, entry.name)
    cache.remember("converted", entry.name, digest)
