"""Convert on first use: a published checkpoint becomes an artifact in the cache when it is first asked for."""

import logging
import shutil
import tempfile
from os import PathLike
from pathlib import Path

from filelock import FileLock

from mpncov_zoo.errors import FetchError
from mpncov_zoo.hub.cache import CACHE_VARIABLE, cache_root
from mpncov_zoo.hub.checkpoints import obtain
from mpncov_zoo.hub.sources import digest_file
from mpncov_zoo.hub.verification import sha256
from mpncov_zoo.manifest import DESCRIPTION_FILE, WeightsEntry

logger = logging.getLogger(__name__)


def converted(entry: WeightsEntry, *, cache_dir: str | PathLike[str] | None = None, offline: bool = False) -> Path:
    """The artifact of an entry that is published as a checkpoint; made, and tested, if it is not in the cache yet.

    Args:
        entry: with `upstream`.
        cache_dir: of `load`.
        offline: forbid to fetch the checkpoint.

    Returns:
        The artifact's directory.

    Raises:
        FetchError, OfflineError, IntegrityError: of `mpncov_zoo.hub.checkpoints.obtain`.
        ConversionError: the checkpoint's tensors are not the network's.
    """
    root = cache_root(cache_dir)
    directory = root / "converted" / entry.name
    if directory.is_dir():
        return directory
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(directory.parent / f".{entry.name}.lock"):  # saves double work; nothing depends on it
            if not directory.is_dir():
                _convert(entry, root, directory, offline)
    except OSError as error:
        raise FetchError(
            f"{directory} cannot be written: {error.strerror}. Give another cache_dir, or set {CACHE_VARIABLE}"
        ) from error
    return directory


def _convert(entry: WeightsEntry, root: Path, directory: Path, offline: bool) -> None:
    from conversion.converter import convert, self_check  # the one place that reaches back

    if entry.upstream is None:
        raise ValueError(f"{entry.name} is not published as a checkpoint")
    checkpoint = obtain(entry.name, entry.upstream, root / "upstream", offline=offline)
    logger.warning("Converting %s to %s, once; this takes a minute or less", checkpoint, directory)
    scratch = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=directory.parent))
    try:
        convert(checkpoint, model=entry.model, output=scratch / entry.name, tag=entry.tag)
        self_check(scratch / entry.name, model=entry.model)
        digest_file(directory).write_text(sha256(scratch / entry.name / DESCRIPTION_FILE))
        (scratch / entry.name).rename(directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
