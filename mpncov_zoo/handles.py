"""`mpncov://<model>` as a handle of TensorFlow Hub: found and verified as by `load`; only our own graphs execute."""

import re
from pathlib import Path
from threading import Lock
from typing import Any

from mpncov_zoo.description import DESCRIPTION_FILE
from mpncov_zoo.errors import InputError
from mpncov_zoo.find import find
from mpncov_zoo.hub.cache import Cache, cache_root
from mpncov_zoo.hub.resolve import ResolvedArtifact
from mpncov_zoo.hub.verification import REPAIR, sha256, verify_files
from mpncov_zoo.quiet import import_tensorflow

SCHEME = "mpncov"
INSTALL = 'pip install "mpncov-zoo[hub]"'

_lock = Lock()
_registered = False  # TensorFlow Hub cannot forget a resolver: in a process there is one


def register() -> None:
    """Make TensorFlow Hub understand `mpncov://<model>` and `mpncov://<model>.<tag>`, in this process.

    What such a handle names is found and verified as `mpncov_zoo.load` does it. Nobody's graph but our own is executed:
    the manifest or this machine's conversion vouches for it, or it is exported anew. A second call does nothing.

    Raises:
        InputError: TensorFlow Hub cannot be imported; the message says what to install.

    Example:
        >>> import mpncov_zoo, tensorflow_hub
        >>> mpncov_zoo.hub.register()
        >>> network = tensorflow_hub.load("mpncov://mpncov_cifar_resnet20")
        >>> layer = tensorflow_hub.KerasLayer("mpncov://mpncov_cifar_resnet20.fashion_mnist", trainable=True)
    """
    global _registered
    with _lock:
        if not _registered:
            _add_resolver()
            _registered = True


def resolve_handle(handle: str) -> str:
    """The directory of a SavedModel that may be executed; what is not on this machine yet is fetched or converted.

    Args:
        handle: `mpncov://<model>` for the default weights or `mpncov://<model>.<tag>`; aliases are understood.

    Returns:
        Its absolute path. It is the verified artifact where the manifest or this machine's own conversion vouches for
        its graph, else a copy in the cache that this package exported.

    Raises:
        InputError: the handle is malformed.
        UnknownModel, NoPretrainedWeights: no such model or weights, or of the trunk alone, which is no SavedModel.
        FetchError, ConversionError: the weights cannot be had.
        IntegrityError: the files are not the published ones, or hold no sound weights.

    Example:
        >>> resolve_handle("mpncov://mpncov_cifar_resnet20.fashion_mnist")
        '/usr/lib/python3/site-packages/mpncov_zoo/bundled/mpncov_cifar_resnet20.fashion_mnist'
    """
    artifact = find(_name(handle), trunk=False).artifact
    vouched = artifact.entry is not None
    return str(artifact.directory if vouched else _exported(artifact))


def _exported(artifact: ResolvedArtifact) -> Path:
    """The network of an artifact whose graph nobody vouches for, exported by this package into the cache, once."""
    cache = Cache(cache_root())
    name, digest = artifact.description.name, sha256(artifact.directory / DESCRIPTION_FILE)
    key = f"{name}@{digest[:16]}"
    with cache.lock(f"export-{key}"):
        known = cache.recall("exported", key)
        listing = None if known is None else cache.description(known)
        if listing is None or listing[0].provenance.get("sha256") != digest:
            return _export(artifact, digest, cache, key)
        directory = cache.materialise(name, listing[1])
        verify_files(directory, listing[1], remedy=REPAIR)
        return directory


def _export(artifact: ResolvedArtifact, digest: str, cache: Cache, key: str) -> Path:
    import_tensorflow()  # before the following do, with its messages
    from mpncov_zoo.artifact.writer import write
    from mpncov_zoo.pretrained import network

    description = artifact.description
    provenance = {"kind": "exported anew", "artifact": str(artifact.directory), "sha256": digest}
    with cache.scratch(description.name) as scratch:
        write(network(artifact), scratch / description.name, tag=description.tag, provenance=provenance)
        exported = sha256(scratch / description.name / DESCRIPTION_FILE)
        directory = cache.adopt(scratch / description.name, description.name)
    cache.remember("exported", key, exported)
    return directory


def _name(handle: str) -> str:
    match = re.fullmatch(rf"{SCHEME}://([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)?)", handle)
    if match is None:
        raise InputError(
            f"Received: {handle!r}; allowed: {SCHEME}://<model> or {SCHEME}://<model>.<tag>, for example "
            f"{SCHEME}://mpncov_resnet50"
        )
    return match[1]


def _add_resolver() -> None:
    registry, base = _import_tensorflow_hub()

    class MpncovResolver(base):
        def is_supported(self, handle: str) -> bool:
            return handle.partition(":")[0] == SCHEME

        def __call__(self, handle: str) -> str:
            return resolve_handle(handle)

    registry.resolver.add_implementation(MpncovResolver())


def _import_tensorflow_hub() -> tuple[Any, Any]:
    """Its registry, and the class that its resolvers are of."""
    try:
        import tensorflow_hub  # noqa: F401 - registers its own resolvers, which ours is to precede
        from tensorflow_hub import registry
        from tensorflow_hub.resolver import Resolver
    except ImportError as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"TensorFlow Hub, which is an extra, cannot be imported ({reason}): {INSTALL}") from error
    return registry, Resolver
