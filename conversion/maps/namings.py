"""How files of one kind call a layer's tensors: PyTorch's state_dict, two of the TensorFlow code, MatConvNet's."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from conversion.maps.matconvnet import matconvnet_steps
from conversion.maps.tables import Row, Step, pytorch_steps
from conversion.maps.upstream_tensorflow import count_by_role, h5_steps, mat_steps

# count training steps, of batch normalisation and of averaged weights; nothing here corresponds to them
UNUSED_LEAVES = frozenset({"num_batches_tracked", "n_averaged"})
# what PyTorch puts anywhere into names: DataParallel, compile, sharded modules, checkpointed activations
WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})

Names = Mapping[str, str | None]  # a name in a file -> the family's name of it; None: it is not a weight


@dataclass(frozen=True)
class Naming:
    """What the files of one kind have in common.

    Attributes:
        steps: the tensors of a table's layers, as files of this kind name and order them.
        names: the names in a file as the names in `steps`.
        found_by: how the tensors of the source network are found in a file: by their names, by their position in it,
            by their position among the tensors of their role, or by the layer that their name begins with.
        written: whether a network of ours can be written as such a file.
    """

    steps: Callable[[list[Row]], list[Step]]
    names: Callable[[Iterable[str]], Names]
    found_by: Literal["name", "position", "role", "layer"]
    written: bool = False


def state_dict(spelling: Callable[[str], str] = str, unused: str | None = None) -> Naming:
    """A state_dict of PyTorch.

    Args:
        spelling: gives the table's spelling of a name in a file.
        unused: a part of the source network, with all its layers, that ours has not.
    """

    def table_name(name: str) -> str | None:
        parts = [part for part in name.split(".") if part not in WRAPPERS] or [name]
        return None if parts[-1] in UNUSED_LEAVES or parts[0] == unused else spelling(".".join(parts))

    return Naming(pytorch_steps, lambda found: {name: table_name(name) for name in found}, "name", written=True)


def other_names(layers: Mapping[str, str]) -> Callable[[str], str]:
    """A spelling where layers have other names: in a file -> in the table."""

    def spelling(name: str) -> str:
        theirs = next((theirs for theirs in layers if name.startswith(f"{theirs}.")), "")
        return layers.get(theirs, theirs) + name[len(theirs) :]

    return spelling


def _own_names(found: Iterable[str]) -> Names:
    """The reader's names are the table's."""
    return {name: name for name in found}


def _h5_names(found: Iterable[str]) -> Names:
    """`any/path/kernel:0` is a kernel; its number is its place among the kernels, in the file's own order."""
    ordered = list(found)
    return dict(zip(ordered, count_by_role(_role(name) for name in ordered), strict=True))


def _role(name: str) -> str:
    return name.rpartition("/")[2].partition(":")[0]


STATE_DICT = state_dict()
MAT = Naming(mat_steps, _own_names, "position")
H5 = Naming(h5_steps, _h5_names, "role")
MATCONVNET = Naming(matconvnet_steps, _own_names, "layer")
