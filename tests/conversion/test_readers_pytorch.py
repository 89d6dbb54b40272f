"""`.pth` files of both formats without torch, and hostile ones; torch's own files where it is installed."""

import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from conversion.readers import pickles
from conversion.readers.pytorch import LEGACY_MAGIC, LEGACY_PROTOCOL, read_pth
from conversion.writers.pytorch import state_dict_pickle, write_pth
from mpncov_zoo.errors import ConversionError

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
    value: Any, name: str, legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps(value, 2)
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
