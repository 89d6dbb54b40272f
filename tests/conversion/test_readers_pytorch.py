"""`.pth` files of both formats without torch, and hostile ones; torch's own files where it is installed."""

import argparse
import datetime
import io
import os
import pickle
import random
import struct
import sys
import tracemalloc
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from conversion.readers import pickles
from conversion.readers.pytorch import LEGACY_MAGIC, LEGACY_PROTOCOL, read_pth
from conversion.writers.pytorch import state_dict_pickle, write_pth
from mpncov_zoo.errors import ConversionError
from tests.conversion.checkpoints import save

TENSORS = {
    "features.0.weight": np.random.default_rng(0).normal(0, 1, (4, 3, 2, 2)).astype(np.float32),
    "bn.num_batches_tracked": np.array(7),
    "bn.running_var": np.ones(4, np.float64),
    "half": np.array([1.5, -2], np.float16),
    "brain": np.array([1.5, -2], ml_dtypes.bfloat16),
    "empty": np.zeros((0, 3), np.float32),
}
Write = Callable[[dict[str, np.ndarray], Path], None]


def write_legacy(tensors: dict[str, np.ndarray], path: Path, content: bytes | None = None) -> None:
    """The format before PyTorch 1.6: five pickles, then the storages."""
    header = [pickle.dumps(value, 2) for value in (LEGACY_MAGIC, LEGACY_PROTOCOL, {"little_endian": True})]
    keys = pickle.dumps([str(key) for key in range(len(tensors))], 2)
    storages = [struct.pack("<q", array.size) + array.tobytes() for array in tensors.values()]
    path.write_bytes(b"".join([*header, content or state_dict_pickle(tensors, legacy=True), keys, *storages]))


def write_zip(content: bytes, path: Path, storages: dict[str, bytes], **options: Any) -> None:
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", content)
        for key, stored in storages.items():
            archive.writestr(f"archive/data/{key}", stored)


def assert_same(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(actual) == list(expected)
    for name, array in expected.items():
        assert (actual[name].dtype, actual[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(actual[name], array)
        assert not actual[name].flags.writeable or not actual[name].size


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol(protocol: int, legacy: bool, tmp_path: Path) -> None:
    """With what training checkpoints hold beside the weights: nothing of it is made, and nothing is lost."""
    beside = {
        "args": argparse.Namespace(lr=0.1, folder=PurePosixPath("data"), steps={1, 2}, pair=frozenset({3})),
        "best": np.float64(0.5),
        "state of the generator": (np.arange(600, dtype=np.uint32), 4),
        "when": datetime.datetime(2026, 1, 2),
        "by class": defaultdict(list, {"ant": [1]}),
        "counted": Counter("ab"),
        "bytes": b"abc",
        "nothing": None,
        "sets": [{"a"}, {("a", ("b",))}],
    }
    save({"model": TENSORS, **beside}, tmp_path / "a.pth", protocol=protocol, legacy=legacy, tensors=TENSORS.values())
    content = read_pth(tmp_path / "a.pth")
    assert content.key == "model"
    assert_same(content.tensors, TENSORS)


@pytest.mark.parity
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_training_checkpoints_of_torch(protocol: int, zipped: bool, tmp_path: Path) -> None:
    """An optimizer's moments are passed over, and so are the generators' states, devices and types."""
    import torch

    layers = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(layers.parameters())
    layers(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    content = {
        "net": layers.state_dict(),
        "optimizer": optimizer.state_dict(),
        "also": optimizer.state_dict(),
        "random": (torch.get_rng_state(), np.random.get_state(), random.getstate()),
        "args": argparse.Namespace(device=torch.device("cpu"), dtype=torch.float32, size=torch.Size((2, 3))),
        "best": (np.float32(0.5), torch.tensor(0.5)),
        "others": [torch.ones(2, dtype=torch.complex64), torch.ones(2).to(torch.float8_e5m2), torch.eye(2).to_sparse()],
    }
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": zipped}
    torch.save(content, tmp_path / "a.pth", **options)
    found = read_pth(tmp_path / "a.pth")
    assert found.key == "net"
    assert_same(found.tensors, {name: tensor.numpy() for name, tensor in layers.state_dict().items()})


@pytest.mark.parity
def test_what_cannot_be_taken_is_said_truly_with_the_line_that_helps(tmp_path: Path) -> None:
    import torch

    class Whole(torch.nn.Linear):
        """A user's own network."""

    Whole.__module__, Whole.__qualname__ = "__main__", "Whole"
    state, path = torch.nn.Linear(2, 2).state_dict(), tmp_path / "a.pth"
    main = sys.modules["__main__"]
    main.Whole = Whole  # type: ignore[attr-defined]
    try:
        torch.save(Whole(2, 2), tmp_path / "whole")
        torch.save({"model": Whole(2, 2)}, tmp_path / "inside", pickle_protocol=4)
    finally:
        del main.Whole  # type: ignore[attr-defined]
    float8 = {**state, "bias": state["bias"].to(torch.float8_e4m3fn)}
    torch.save(float8, tmp_path / "float8")
    torch.save(float8, tmp_path / "float8 by protocol 5", pickle_protocol=5)
    torch.save({**state, "bias": state["bias"].to(torch.complex64)}, tmp_path / "complex")
    torch.save({**state, "weight": torch.eye(2).to_sparse()}, tmp_path / "sparse")
    torch.save({**state, "weight": torch.quantize_per_tensor(torch.eye(2), 0.1, 0, torch.qint8)}, tmp_path / "int8")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script")
    (tmp_path / "pickled").write_bytes(pickle.dumps({"a": np.ones(3)}))
    for name, *said in (
        ("whole", "asks for '__main__.Whole'", "It holds a whole model", "torch.save(model.state_dict(), 'w.pth')"),
        ("inside", "asks for '__main__.Whole'", "It holds a whole model", "or lies in that"),
        ("float8", "'bias' is of torch.float8_e4m3fn", "torch.save({k: v.float() for k, v in state.items()}, 'w.pth')"),
        ("float8 by protocol 5", "is of torch.float8_e4m3fn", "v.float()"),
        ("complex", "complex numbers"),
        ("sparse", "quantised, sparse", "to_dense()"),
        ("int8", "quantised, sparse", "v.dequantize()"),
        ("script", "a TorchScript archive", "torch.save(torch.jit.load(FILE).state_dict(), 'w.pth')"),
        ("pickled", "a pickle that torch.save has not written", "torch.save(state_dict, 'w.pth')"),
    ):
        (tmp_path / name).rename(path)
        with pytest.raises(ConversionError) as raised:
            read_pth(path)
        assert all(piece in str(raised.value) for piece in said), raised.value
        assert len(str(raised.value)) < 600 + len(str(path))


def test_networks_in_files_of_keras_3(tmp_path: Path) -> None:
    import keras

    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    network.save(tmp_path / "a.keras")
    with pytest.raises(ConversionError, match=r"it is a \.keras file of Keras 3.*keras\.saving\.load_model\(FILE\)"):
        read_pth(tmp_path / "a.keras")


@pytest.mark.parametrize("write", [write_pth, write_legacy])
def test_both_formats(write: Write, tmp_path: Path) -> None:
    write(TENSORS, tmp_path / "a.pth")
    assert_same(read_pth(tmp_path / "a.pth").tensors, TENSORS)


@pytest.mark.parity
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_files_of_torch(zipped: bool, wrapped: bool, tmp_path: Path) -> None:
    """Views, transposed and shared storages, parameters, and a training checkpoint around them."""
    import torch

    base = torch.randn(6, 5)
    state = {
        "a": base,
        "t": base.t(),
        "v": base[1:3, ::2],
        "p": torch.nn.Parameter(torch.ones(3)),
        "s": torch.tensor(2.0),
    }
    checkpoint = {"epoch": 3, "arch": "x", "state_dict": state, "best_prec1": torch.tensor(1.0)}
    content = checkpoint if wrapped else state
    torch.save(content, tmp_path / "a.pth.tar", _use_new_zipfile_serialization=zipped)
    assert_same(read_pth(tmp_path / "a.pth.tar").tensors, {name: t.detach().numpy() for name, t in state.items()})


@pytest.mark.parity
def test_torch_reads_what_is_written(tmp_path: Path) -> None:
    import torch

    write_pth(TENSORS, tmp_path / "a.pth")
    state = torch.load(tmp_path / "a.pth", weights_only=True)
    assert list(state) == list(TENSORS)
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(state[name].double().numpy(), array.astype(np.float64))


class Evil:
    """Pickled as a call of something that must not be called."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Evil(os.system, "touch called"), "system"),
        (Evil(eval, "open('called', 'w')"), "builtins.eval|__builtin__.eval"),
        (Evil(getattr, Evil(__import__, "os"), "system"), "getattr"),
        ({"state_dict": {"a": Evil(exec, "open('called', 'w')")}}, "exec"),
        (Evil(pickle.loads, b"cos\nsystem\n."), "loads"),
        ({"a": [Evil(open, "called", "w")]}, "open"),
        (Evil(np.zeros, 2**40), "zeros"),
        (io.BytesIO(), "BytesIO"),
    ],
)
def test_programs_are_refused_by_name_and_not_run(
    value: Any, name: str, legacy: bool, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps(value, protocol)
    if legacy:
        write_legacy({}, tmp_path / "a.pth", content)
    else:
        write_zip(content, tmp_path / "a.pth", {})
    with pytest.raises(ConversionError, match=f"a.pth: it asks for .*({name}).*nothing of it was run"):
        read_pth(tmp_path / "a.pth")
    assert not (tmp_path / "called").exists()


def tampered(old: bytes, new: bytes) -> bytes:
    content = state_dict_pickle({"a": np.arange(6, dtype=np.float32).reshape(2, 3)})
    assert old in content
    return content.replace(old, new)


def doubled(times: int) -> bytes:
    """A tuple of twice a tuple of twice ...: whose repr() and hash() would never end."""
    steps = (b"h" + bytes([n]) + b"h" + bytes([n]) + b"\x86q" + bytes([n + 1]) for n in range(times))
    return b")q\x00" + b"".join(steps)


NUMBERS = np.arange(6, dtype=np.float32).tobytes()


@pytest.mark.parametrize(
    ("content", "storages", "message"),
    [
        (tampered(b"\x8a\x01\x02\x8a\x01\x03", b"\x8a\x01\x02\x8a\x01\x09"), {"0": NUMBERS}, "does not fit"),
        (tampered(b"\x8a\x01\x02\x8a\x01\x03", b"\x8a\x01\x02\x8a\x01\xfd"), {"0": NUMBERS}, "shape"),
        (tampered(b"Q\x8a\x01\x00", b"Q\x8a\x01\x01"), {"0": NUMBERS}, "offset 1 does not fit"),
        (tampered(b"Q\x8a\x01\x00", b"Q\x8a\x01\xff"), {"0": NUMBERS}, "offset -1"),
        (tampered(b"cpu\x8a\x01\x06", b"cpu\x8a\x05\x00\x00\x00\x00\x7f"), {"0": NUMBERS}, "24 bytes"),
        (tampered(b"cpu\x8a\x01\x06", b"cpu\x8a\x01\xff"), {"0": NUMBERS}, "-1 elements"),
        (tampered(b"", b""), {"0": NUMBERS[:-4]}, "20 bytes, which are not 6 numbers of float32"),
        (tampered(b"", b""), {}, "storage '0' is missing"),
        (tampered(b"storage", b"garbage"), {"0": NUMBERS}, "which is no storage"),
        (tampered(b"cpu\x8a\x01\x06", b"cpu\x8a\x01\x05"), {"0": NUMBERS}, "24 bytes, which are not 5 numbers"),
        (tampered(b"FloatStorage", b"HalfStorage"), {"0": NUMBERS}, "24 bytes, which are not 6 numbers of float16"),
        (tampered(b"FloatStorage", b"PolyStorage"), {"0": NUMBERS}, "asks for 'torch.PolyStorage'"),
        (tampered(b"Q\x8a\x01\x00", b"QN"), {"0": NUMBERS}, "in a way that PyTorch does not write"),
        (tampered(b"Q\x8a\x01\x00", b"0NN"), {"0": NUMBERS}, "instruction POP"),
        (b"\x80\x02r\xff\xff\xff\x7f.", {}, "is damaged"),
        (b"\x80\x02]r\xff\xff\xff\x7f.", {}, "state_dict was expected"),  # place 2**31 of the unpickler's memory
        (b"\x80\x02h\x05.", {}, "is damaged"),
        (b"(ios\nsystem\n.", {}, "INST"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00.", {}, "is damaged"),  # a terabyte in four bytes
        (b"\x80\x02T\xff\xff\xff\x7fabc.", {}, "is damaged"),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", {}, "is damaged"),
        (b"\x80\x02}" + b")" + 200_000 * b"\x85" + b"Ns.", {}, "has a tuple as a key"),  # Python's hash() would crash
        (b"\x80\x02}" + b"(" + b")" + 200_000 * b"\x85" + b"Nu.", {}, "has a tuple as a key"),
        (b"\x80\x02ccollections\nOrderedDict\n](])N\x86e\x85R.", {}, "damaged|as a key"),
        (b"\x80\x02" + doubled(64) + b"Q.", {}, "refers to a tuple, which is no storage"),
        (
            b"\x80\x04\x95" + (2**40).to_bytes(8, "little") + b"}.",
            {},
            "a frame of its pickle is longer than the pickle",
        ),
        (b"\x80\x04\x95\x03" + bytes(7) + b"}.", {}, "a frame of its pickle is longer than the pickle"),
        (b"\x80\x04\x95\x05" + bytes(7) + b"}0N" + b"\x95" + bytes(8) + b".", {}, "instruction POP"),
        (b"\x80\x04\x95\x0b" + bytes(7) + b"}\x95\x00" + bytes(7) + b"NN.", {}, "is damaged"),  # within a frame
        (b"\x80\x04\x95\x05" + bytes(7) + b"}\x8c\x03abc.", {}, "is damaged"),  # a text beyond its frame
        (b"\x80\x04\x8c\xffabc.", {}, "is damaged"),
        (b"\x80\x04\x94.", {}, "is damaged"),  # nothing to remember
        (b"\x80\x04\x8c\x02osK\x01\x93.", {}, "is damaged"),  # a name that is a number
        (b"\x80\x04)\x8c\x06system\x93.", {}, "is damaged"),
        (b"\x80\x04\x93.", {}, "is damaged"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.", {}, "it asks for 'os.system'"),
        (b"\x80\x04\x8c\x05torch\x8c\x0b_C.x.system\x93.", {}, "it asks for 'torch._C.x.system'"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93)}\x92.", {}, "it asks for 'os.system'"),
        (b"\x80\x04\x8c\x0bcollections\x8c\x0bOrderedDict\x93)}\x92.", {}, "an object that is no tensor"),
        (b"\x80\x04\x8c\x08argparse\x8c\x09Namespace\x93)}\x92.", {}, "state_dict was expected"),
        (b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"abc.", {}, "is damaged"),
        (b"\x80\x05\x97.", {}, "instruction NEXT_BUFFER"),
        (b"\x80\x05N\x98.", {}, "instruction READONLY_BUFFER"),
        (b"\x80\x06N.", {}, "is damaged"),
        (b"\x80\x04\x8f(" + b")" + 200_000 * b"\x85" + b"\x90.", {}, "more than 20 deep"),  # hash() would crash
        (b"\x80\x04(" + b")" + 200_000 * b"\x85" + b"\x91.", {}, "more than 20 deep"),
        (b"\x80\x04\x8f" + doubled(64) + b"\x85\x90.", {}, "is damaged|more than 20 deep"),
        (b"\x80\x04}(N\x90.", {}, "is damaged"),  # a dictionary is no set
        (pickle.dumps([1], 2), {}, "state_dict was expected"),
        (pickle.dumps({"a": 1}, 2), {}, "it holds a dict where a state_dict was expected"),
        (state_dict_pickle({}), {}, "state_dict was expected"),
        (b"\x80\x02", {}, "damaged"),
    ],
)
def test_tensors_that_lie(content: bytes, storages: dict[str, bytes], message: str, tmp_path: Path) -> None:
    write_zip(content, tmp_path / "a.pth", storages)
    with pytest.raises(ConversionError, match=message) as raised:
        read_pth(tmp_path / "a.pth")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("attributes", [{"strides": (-1000,)}, {"offset": -1000}, {"shape": (10**6,)}])
@pytest.mark.parametrize("place", [b"R" + pickle.SETITEMS, pickle.BINPERSID])
def test_no_instruction_reaches_an_attribute(place: bytes, attributes: dict, tmp_path: Path) -> None:
    """BUILD would change a tensor or a storage after it was checked: memory outside the file would be read."""
    content = state_dict_pickle({"a": np.arange(6, dtype=np.float32)})
    end = content.rindex(place) + 1
    build = pickle.dumps(attributes, 2)[2:-1] + pickle.BUILD
    write_zip(content[:end] + build + content[end:], tmp_path / "a.pth", {"0": NUMBERS})
    assert_same(read_pth(tmp_path / "a.pth").tensors, {"a": np.arange(6, dtype=np.float32)})


def test_objects_are_not_made(tmp_path: Path) -> None:
    write_zip(b"\x80\x02ccollections\nOrderedDict\n)\x81.", tmp_path / "a.pth", {})
    with pytest.raises(ConversionError, match="makes an object that is no tensor"):
        read_pth(tmp_path / "a.pth")


def test_pickles_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MAX_PICKLE", 1000)
    write_zip(b"\x80\x02" + 2000 * b"}" + b".", tmp_path / "a.pth", {})
    with pytest.raises(ConversionError, match="its pickle has more than 1000 bytes"):
        read_pth(tmp_path / "a.pth")


LIST_OF_10000 = b"](" + 10_000 * b"N" + b"eq\x00"
PAIRS = b"](" + b"".join(b"K" + bytes([n]) + b"N\x86" for n in range(200)) + b"eq\x00"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LIST_OF_10000 + b"ctorch\nSize\n" + 2000 * b"h\x00\x85R", "a shape in it is a list, or of more than 16"),
        (b"ctorch\nSize\nX\x03\x00\x00\x00abc\x85R", "a shape in it is 'abc'"),
        (PAIRS + b"ccollections\nOrderedDict\nq\x01" + 2000 * b"h\x01h\x00\x85R", "copies more into dictionaries"),
        (b"(" + 10_000 * b"N" + b"tq\x00ctorch._utils\n_rebuild_parameter\nh\x00R", "or more than 16 values"),
        (b"(" + 10_000 * b"N" + b"tq\x00ctorch._utils\n_rebuild_tensor\n(NNh\x00h\x00tR", "in a way that PyTorch does"),
        (b"X\x10\x27\x00\x00" + 10_000 * b"a" + b"q\x00" + 2000 * b"h\x00h\x00\x93", "it asks for 'aaaa"),
        (b"cargparse\nNamespace\nq\x01" + LIST_OF_10000 + 2000 * b"h\x01h\x00\x85Rh\x00b", "state_dict was expected"),
        (b"((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x06" + 10_000 * b"N" + b"tQ", "which is no storage"),
    ],
)
def test_copies_that_grow_with_the_calls(content: bytes, message: str, tmp_path: Path) -> None:
    """Few bytes call a function again with the same long argument."""
    write_zip(b"\x80\x02" + content + b".", tmp_path / "a.pth", {})
    tracemalloc.start()
    with pytest.raises(ConversionError, match=message):
        read_pth(tmp_path / "a.pth")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 2**20


@pytest.mark.parity
def test_attributes_of_a_state_dict_are_passed_over(tmp_path: Path) -> None:
    """torch notes the versions of modules on it."""
    import torch

    layer = torch.nn.BatchNorm2d(3)
    torch.save(layer.state_dict(), tmp_path / "a.pth")
    assert b"_metadata" in (tmp_path / "a.pth").read_bytes()
    assert_same(read_pth(tmp_path / "a.pth").tensors, {name: t.numpy() for name, t in layer.state_dict().items()})


def test_ordered_dicts_of_python_2(tmp_path: Path) -> None:
    tensor = state_dict_pickle({"a": np.arange(6, dtype=np.float32)})
    value = tensor[tensor.index(b"ctorch._utils") : -2]
    content = b"\x80\x02ccollections\nOrderedDict\n](](U\x01a" + value + b"ee\x85R."
    write_zip(content, tmp_path / "a.pth", {"0": NUMBERS})
    assert_same(read_pth(tmp_path / "a.pth").tensors, {"a": np.arange(6, dtype=np.float32)})


def test_zip_bomb(tmp_path: Path) -> None:
    write_zip(tampered(b"", b""), tmp_path / "a.pth", {"0": bytes(2**20)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ConversionError, match="is compressed"):
        read_pth(tmp_path / "a.pth")


@pytest.mark.parametrize("write", [write_pth, write_legacy])
def test_every_truncation(write: Write, tmp_path: Path) -> None:
    write({"a": np.arange(6, dtype=np.float32)}, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    for length in range(0, len(whole), 3):
        (tmp_path / "a.pth").write_bytes(whole[:length])
        with pytest.raises(ConversionError):
            read_pth(tmp_path / "a.pth")


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n" + bytes(100), b"a text file\n" * 50])
def test_other_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(ConversionError, match=r"a\.pth"):
        read_pth(tmp_path / "a.pth")


def test_writer_refuses_what_pytorch_has_no_type_for(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="complex64"):
        write_pth({"a": np.zeros(2, np.complex64)}, tmp_path / "a.pth")
    assert not list(tmp_path.iterdir())


def test_a_text_longer_than_any_pickle_is_not_read(tmp_path: Path) -> None:
    """A sparse file of 3 GiB takes no disk, and must take no memory either."""
    with open(tmp_path / "net.pth", "wb") as file:
        file.write(b"\x80\x02X" + (3 * 2**30).to_bytes(4, "little"))
        file.truncate(3 * 2**30 + 7)
    tracemalloc.start()
    with pytest.raises(ConversionError, match="its pickle has more than"):
        read_pth(tmp_path / "net.pth")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26
