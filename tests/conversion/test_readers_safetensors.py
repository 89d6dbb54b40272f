"""`.safetensors` files of the format's own library, and hostile ones; that library reads what is written here."""

import json
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from conversion.readers.safetensors import TYPES, read_safetensors
from conversion.writers import safetensors as writer
from conversion.writers.safetensors import write_safetensors
from mpncov_zoo.errors import ConversionError, InputError

library = pytest.importorskip("safetensors.numpy", reason="needs safetensors")

TENSORS = {
    "features.0.weight": np.random.default_rng(0).normal(0, 1, (4, 3, 2, 2)).astype(np.float32),
    "bn.num_batches_tracked": np.array(7),
    "bn.running_var": np.ones(4, np.float64),
    "half": np.array([1.5, -2], np.float16),
    "brain": np.array([1.5, -2], ml_dtypes.bfloat16),
    "byte": np.array([255], np.uint8),
    "flag": np.array([True, False]),
    "empty": np.zeros((0, 3), np.float32),
}


def assert_same(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert sorted(actual) == sorted(expected)
    for name, array in expected.items():
        assert (actual[name].dtype, actual[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(actual[name], array)


def test_files_of_the_library(tmp_path: Path) -> None:
    library.save_file(TENSORS, tmp_path / "a.safetensors", metadata={"format": "pt"})
    tensors = read_safetensors(tmp_path / "a.safetensors")
    assert_same(tensors, TENSORS)
    assert not any(array.flags.writeable for array in tensors.values())


@pytest.mark.parity
def test_files_of_torch(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    state = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.BatchNorm2d(4)).state_dict()
    save_file(state, tmp_path / "a.safetensors")
    assert_same(read_safetensors(tmp_path / "a.safetensors"), {name: t.numpy() for name, t in state.items()})


def test_the_library_reads_what_is_written(tmp_path: Path) -> None:
    write_safetensors(TENSORS, tmp_path / "a.safetensors")
    assert_same(library.load_file(tmp_path / "a.safetensors"), TENSORS)
    tensors = read_safetensors(tmp_path / "a.safetensors")
    assert_same(tensors, TENSORS)
    assert list(tensors) == list(TENSORS)


@pytest.mark.parity
def test_torch_reads_what_is_written(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    transposed = {"a": np.arange(6, dtype=np.float32).reshape(2, 3).T}
    write_safetensors(transposed, tmp_path / "a.safetensors")
    np.testing.assert_array_equal(load_file(tmp_path / "a.safetensors")["a"].numpy(), transposed["a"])


def test_the_writer_knows_types_that_are_read() -> None:
    assert set(writer.TYPES.values()) <= TYPES


@pytest.mark.parametrize(
    ("tensors", "message"),
    [({"a": np.zeros(2, np.complex64)}, "'a' of complex64"), ({"__metadata__": np.zeros(2)}, "__metadata__")],
)
def test_what_cannot_be_written_leaves_nothing(tensors: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=message):
        write_safetensors(tensors, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        dtype, shape, nbytes = np.dtype(np.float32), (1,), 4

        def __array__(self, *_: Any, **__: Any) -> np.ndarray:
            raise OSError("the disk is full")

    write_safetensors({"a": np.ones(1, np.float32)}, tmp_path / "a")
    before = (tmp_path / "a").read_bytes()
    with pytest.raises(InputError, match="a cannot be written: the disk is full"):
        write_safetensors({"a": Broken()}, tmp_path / "a")  # pyright: ignore
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == before


def file_of(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded) if length is None else length) + encoded + data


def entry(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (file_of({"a": entry("F32", [2], 0, 4)}, b"1234"), "damaged"),
        (file_of({"a": entry("F32", [1], 0, 4)}, b"12"), "damaged"),
        (file_of({"a": entry("F32", [1], 0, 4)}, b"12345678"), "damaged"),
        (file_of({"a": entry("F32", [1], 4, 8)}, b"12345678"), "damaged"),
        (file_of({"a": entry("F32", [1], 4, 0)}, b"1234"), "damaged"),
        (file_of({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 0, 4)}, b"1234"), "damaged"),
        (file_of({"a": entry("F32", [2**62, 4], 0, 0)}), "damaged"),
        (file_of({"a": entry("F32", [0, 2**62], 0, 0)}), "damaged"),
        (file_of({"a": entry("F32", [0] + 100 * [1], 0, 0)}), "damaged"),
        (file_of({"a": entry("F32", [-1], 0, 4)}, b"1234"), "damaged"),
        (file_of({"a": entry("F8_E4M3", [4], 0, 4)}, b"1234"), "'a' is of type F8_E4M3; allowed are BF16, BOOL"),
        (file_of({"a": entry("C64", [1], 0, 8)}, b"12345678"), "'a' is of type C64"),
        (file_of({"a": entry("X", [1], 0, 4)}, b"1234"), "damaged"),
        (file_of({}, length=2**40), "damaged"),
        (file_of(100_000 * b'{"a":'), "damaged"),
        (file_of(b"{"), "damaged"),
        (b"", "damaged"),
    ],
)
def test_hostile_files(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(ConversionError, match=rf"a\.safetensors.*{message}") as raised:
        read_safetensors(tmp_path / "a.safetensors")
    assert "\n" not in str(raised.value)


def test_every_truncation(tmp_path: Path) -> None:
    library.save_file({"a": np.arange(6, dtype=np.float32)}, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "a").write_bytes(whole[:length])
        with pytest.raises(ConversionError):
            read_safetensors(tmp_path / "a")
