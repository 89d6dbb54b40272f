"""`mpncov://<model>` as a handle of TensorFlow Hub: resolved as `load` resolves a name, verified, and then executed."""

import re
from threading import Lock
from typing import Any

from mpncov_zoo.catalog import split_name
from mpncov_zoo.errors import InputError, NoPretrainedWeights
from mpncov_zoo.first_use import convert_into
from mpncov_zoo.hub import sources
from mpncov_zoo.hub.graph_operations import verify_graph
from mpncov_zoo.manifest import load_manifest

SCHEME = "mpncov"
INSTALL = 'pip install "mpncov-zoo[hub]"'

_lock = Lock()
_registered = False  # TensorFlow Hub cannot forget a resolver: in a process there is one


def register() -> None:
    """Make TensorFlow Hub understand `mpncov://<model>` and `mpncov://<model>.<tag>`; `mpncov_zoo.hub.register`."""
    global _registered
    with _lock:
        if not _registered:
            _add_resolver()
            _registered = True


def resolve_handle(handle: str) -> str:
    """The verified artifact directory of a handle; where it is not on this machine yet, it is fetched or converted.

    Args:
        handle: `mpncov://<model>` for the default weights or `mpncov://<model>.<tag>`; aliases are understood.

    Returns:
        Its absolute path. All its digests agree, and its graph is one that may be executed.

    Raises:
        InputError: the handle is malformed.
        UnknownModel, NoPretrainedWeights: no such model or weights, or of the trunk alone, which is no SavedModel.
        FetchError, ConversionError: the weights cannot be had.
        IntegrityError: the files are not the published ones, or their graph could do harm.

    Example:
        >>> resolve_handle("mpncov://mpncov_cifar_resnet20.fashion_mnist")
        '/usr/lib/python3/site-packages/mpncov_zoo/bundled/mpncov_cifar_resnet20.fashion_mnist'
    """
    model, tag = split_name(_name(handle), True)
    manifest = load_manifest()
    entry = manifest.find(model, tag)
    if entry is not None and entry.trunk is not None:
        raise NoPretrainedWeights(
            f"{handle}: only the trunk of {entry.name} is published ({entry.trunk}), which is no whole network to "
            f"execute. Take that, or mpncov_zoo.load({model!r}, pretrained=True) and train the rest"
        )
    from mpncov_zoo.artifact import read_checkpoint  # late: needs TensorFlow

    found = sources.resolve(model, tag, manifest=manifest, convert=convert_into)
    verify_graph(found.directory)
    read_checkpoint(found.directory)  # its values are finite, and variances not negative, or it raises
    return str(found.directory)


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
