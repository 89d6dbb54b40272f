"""Checkpoints for the tests: seeded tensors under the names of a family, and files of PyTorch around them."""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from conversion.maps import INVERSES, Family, Step, families_of
from conversion.readers.pytorch import LEGACY_MAGIC, LEGACY_PROTOCOL
from conversion.writers.pytorch import STORAGE_NAMES
from mpncov_zoo import architectures, registry
from tests import networks
from tests.numpy_networks import draw

MODEL = "mpncov_resnet18"  # the smallest network that somebody published
CLASSES = 3


def family(model: str, name: str) -> Family:
    """By its name."""
    return next(found for found in families_of(architectures.of_model(model, stages=())) if found.name == name)


def tensors(
    model: str = MODEL,
    *,
    names: str = "upstream PyTorch",
    num_classes: int = CLASSES,
    seed: int = 0,
    options: Mapping[str, registry.Options] | None = None,
) -> dict[str, np.ndarray]:
    """Every tensor of a network, float32, in the family's order."""
    chosen = family(model, names)
    architecture = architectures.with_options(architectures.of_model(model, options=options, stages=()), chosen.options)
    network = networks.of_architecture(architecture, num_classes, (None, None, 3))
    shapes = {name: tuple(variable.shape) for name, variable in network.named_variables().items()}
    rng = np.random.default_rng(seed)
    return {
        _own_name(step, names): INVERSES[step.transform](
            draw(rng, step.target.rpartition("/")[2], shapes[step.target]).astype(np.float32)
        )
        for step in chosen.steps(architecture)
    }


def _own_name(step: Step, names: str) -> str:
    """In an `.h5` a tensor has a layer's name before its role; elsewhere it is called as the family calls it."""
    return f"{step.target}:0" if names.endswith(".h5") else step.source


class Named:
    """Pickled as the name of something that is not on this machine."""

    def __init__(self, module: str, name: str):
        self.module, self.name = module, name

    def __call__(self) -> None:
        """A pickler calls nothing, and yet asks for this."""


class _Storage:
    def __init__(self, array: np.ndarray, key: str):
        self.array, self.key = array, key


class _Pickler(pickle._Pickler):
    """Pickles arrays as torch pickles tensors, in any protocol; `storages` are what torch writes beside the pickle."""

    dispatch = dict(pickle._Pickler.dispatch)

    def __init__(self, stream: io.BytesIO, protocol: int, legacy: bool, tensors: Iterable[np.ndarray] | None):
        super().__init__(stream, protocol)
        self.tensors = None if tensors is None else {id(array) for array in tensors}
        self.views: list[None] = [None] if legacy else []
        self.storages: list[_Storage] = []

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, _Storage):
            return None
        kind = Named("torch", STORAGE_NAMES[obj.array.dtype])
        return ("storage", kind, obj.key, "cpu", obj.array.size, *self.views)

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, np.ndarray) or (self.tensors is not None and id(obj) not in self.tensors):
            return NotImplemented
        self.storages.append(_Storage(obj, str(len(self.storages))))
        strides = tuple(step // obj.itemsize for step in obj.strides)
        arguments = (self.storages[-1], 0, obj.shape, strides, False, OrderedDict())
        return Named("torch._utils", "_rebuild_tensor_v2"), arguments

    def save_named(self, obj: Named) -> None:
        if self.proto < 4:
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
            return
        self.save(obj.module)
        self.save(obj.name)
        self.write(pickle.STACK_GLOBAL)

    dispatch[Named] = save_named


def save(
    content: Any,
    path: Path,
    *,
    protocol: int = 2,
    legacy: bool = False,
    tensors: Iterable[np.ndarray] | None = None,
) -> None:
    """What torch.save writes, with contiguous arrays anywhere in the content, all or the given ones, as tensors."""
    stream = io.BytesIO()
    pickler = _Pickler(stream, protocol, legacy, tensors)
    pickler.dump(content)
    stored = {storage.key: storage.array for storage in pickler.storages}
    if legacy:
        header = (LEGACY_MAGIC, LEGACY_PROTOCOL, {"protocol_version": LEGACY_PROTOCOL, "little_endian": True})
        pickles = [*(pickle.dumps(value, protocol) for value in header), stream.getvalue()]
        pickles.append(pickle.dumps(list(stored), protocol))
        numbers = [struct.pack("<q", array.size) + array.tobytes() for array in stored.values()]
        path.write_bytes(b"".join([*pickles, *numbers]))
        return
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", stream.getvalue())
        archive.writestr("archive/version", "3\n")
        for key, array in stored.items():
            archive.writestr(f"archive/data/{key}", array.tobytes())
