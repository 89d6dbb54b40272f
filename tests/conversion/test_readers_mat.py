"""`.mat` files of scipy.io.savemat, as the published TensorFlow code writes them, and hostile ones."""

import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conversion.readers import read_checkpoint
from conversion.readers.mat import read_mat
from mpncov_zoo.errors import ConversionError

io = pytest.importorskip("scipy.io", reason="needs scipy")

RNG = np.random.default_rng(0)
ARRAYS = [
    RNG.normal(0, 1, (7, 7, 3, 4)).astype(np.float32),
    RNG.normal(0, 1, 4).astype(np.float32),
    RNG.normal(0, 1, (5, 1)),
    np.array(3.0),
    np.zeros((0, 3)),
    np.arange(3),
    np.array([[1, 2], [250, 4]], np.uint8),
    np.array([7], np.float32),
]


def cells(values: list[Any]) -> np.ndarray:
    """A (1, N) cell array."""
    array = np.empty((1, len(values)), object)
    for index, value in enumerate(values):
        array[0, index] = value
    return array


@pytest.mark.parametrize("packed", [False, True])
def test_files_of_scipy(packed: bool, tmp_path: Path) -> None:
    io.savemat(tmp_path / "a.mat", {"params": cells(ARRAYS)}, do_compression=packed)
    expected = io.loadmat(tmp_path / "a.mat")["params"][0]
    stored = read_checkpoint(tmp_path / "a.mat")
    assert stored.format == "MATLAB"
    assert list(stored.tensors) == [f"params[{index}]" for index in range(len(ARRAYS))]
    for array, theirs, original in zip(stored.tensors.values(), expected, ARRAYS, strict=True):
        assert (array.dtype, array.shape) == (theirs.dtype, theirs.shape)
        np.testing.assert_array_equal(array, theirs)
        np.testing.assert_array_equal(array, np.atleast_2d(original))
        assert not array.flags.writeable


def test_other_variables_are_passed_over(tmp_path: Path) -> None:
    others = {"a": "text", "b": {"c": 1}, "z": cells([1])}
    io.savemat(tmp_path / "a.mat", {"a": "text", "params": cells(ARRAYS), **others})
    assert len(read_mat(tmp_path / "a.mat")) == len(ARRAYS)


def test_wide_numbers_in_small_types(tmp_path: Path) -> None:
    """MATLAB stores whole doubles as bytes; SciPy reads them so, too."""
    write(tmp_path / "a.mat", params(matrix(6, (2, 2), element(2, b"\x01\x02\x03\xff"))))
    expected = io.loadmat(tmp_path / "a.mat")["params"][0, 0]
    array = read_mat(tmp_path / "a.mat")["params[0]"]
    np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(array, [[1, 3], [2, 255]])
    assert array.dtype == np.float64
    assert not array.flags.writeable


class Opaque:
    """savemat writes its attributes as a struct."""

    def __init__(self) -> None:
        self.a = 1


def sparse() -> Any:
    from scipy.sparse import eye_array

    return eye_array(3)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("text", "is text"),
        ({"a": 1}, "is a struct"),
        (Opaque(), "is a struct"),
        (sparse(), "is a sparse matrix"),
        (cells([np.ones(2)]), "is a cell array"),
        (np.ones(2, complex), "is complex"),
        (np.ones(2, bool), "is logical"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_only_arrays_of_numbers(value: Any, message: str, packed: bool, tmp_path: Path) -> None:
    io.savemat(tmp_path / "a.mat", {"params": cells([np.ones(2), value])}, do_compression=packed)
    with pytest.raises(ConversionError, match=rf"a\.mat: params\[1\] {message}; only arrays of real numbers"):
        read_mat(tmp_path / "a.mat")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "has no variable 'params', but no other either"),
        ({"weights": np.ones(2), "more": 1}, "has no variable 'params', but 'weights', 'more'"),
        ({"params": np.ones((2, 3))}, r"params is an array of shape \(2, 3\); it should be a cell array of one row"),
        ({"params": {"a": 1}}, "params is a struct"),
        ({"params": "text"}, "params is text"),
        ({"params": cells([1, 2]).T}, r"params is a cell array of shape \(2, 1\)"),
    ],
)
def test_other_layouts(variables: dict[str, Any], message: str, tmp_path: Path) -> None:
    io.savemat(tmp_path / "a.mat", variables)
    with pytest.raises(ConversionError, match=rf"a\.mat: .*{message}"):
        read_mat(tmp_path / "a.mat")


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(kind: int, shape: tuple[int, ...], content: bytes, name: bytes = b"", flags: int = 0) -> bytes:
    sizes = struct.pack(f"<{len(shape)}i", *shape)
    about = element(6, struct.pack("<BBxxxxxx", kind, flags)) + element(5, sizes) + element(1, name)
    return element(14, about + content)


def params(*entries: bytes, count: int | None = None) -> bytes:
    shape = (1, len(entries) if count is None else count)
    return matrix(1, shape, b"".join(entries), b"params")


def packed(content: bytes, level: int = 9) -> bytes:
    stream = zlib.compress(content, level)
    return struct.pack("<II", 15, len(stream)) + stream


def write(path: Path, *variables: bytes, version: bytes = b"\x00\x01IM") -> None:
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + version + b"".join(variables))


TWO = element(9, struct.pack("<2d", 1, 2))
ONE = matrix(6, (1, 2), TWO)
PRE = element(6, struct.pack("<BBxxxxxx", 1, 0)) + element(5, struct.pack("<2i", 1, 1)) + element(1, b"")


def nested(depth: int) -> bytes:
    """A cell array within a cell array within ...: SciPy's reader does not survive it."""
    sizes = range(len(ONE), len(ONE) + depth * (8 + len(PRE)), 8 + len(PRE))
    tags = [struct.pack("<II", 14, size + len(PRE)) + PRE for size in sizes]
    return b"".join(reversed(tags)) + ONE


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ([params(nested(100_000))], r"params\[0\] is a cell array"),
        ([params(ONE, count=2**31 - 1)], "params has 1 cells, not 2147483647"),
        ([params(ONE, ONE, count=1)], "params has 2 cells, not 1"),
        ([params(matrix(6, (2**30, 2**30), TWO))], "is not in the file, or unpacks to too much"),
        ([params(matrix(6, (1, 3), TWO))], r"has 2 numbers, which are not of shape \(1, 3\)"),
        ([params(matrix(6, (-1, -2), TWO))], r"has the shape \(-1, -2\)"),
        ([params(matrix(6, (1,) * 17, TWO))], "has the shape"),
        ([params(matrix(6, (), TWO))], "damaged|has the shape"),
        ([params(matrix(6, (1, 2), element(18, bytes(16))))], "is not in the file"),
        ([params(matrix(6, (1, 2), b""))], "cut off"),
        ([params(matrix(16, (1, 1), TWO))], "is a function"),
        ([params(matrix(17, (1, 1), TWO))], "is an object"),
        ([params(matrix(3, (1, 1), TWO))], "is an object"),
        ([params(matrix(99, (1, 1), TWO))], "is of the unknown class 99"),
        ([params(element(14, b""))], "cut off"),
        ([params(TWO)], "element of kind 9, which is no matrix"),
        ([params(element(14, TWO))], "does not begin as a matrix does"),
        ([params(ONE), params(ONE), b"garbage"], "has more than one variable 'params'"),  # before what follows
        ([element(15, b"no zlib stream")], "damaged"),
        ([packed(params(ONE))[:-1]], "cut off"),
        ([packed(b"")], "cut off"),
        ([packed(params(ONE)[:7])], "it is cut off"),
        ([packed(params(ONE) + b"more")], "does not unpack to the"),
        ([packed(params(ONE)[:-8])], "does not unpack to the"),
        ([packed(packed(params(ONE)))], "a variable of kind 15 unpacks"),
        ([TWO], "element of kind 9"),
        ([b"\x01"], "cut off"),
        ([struct.pack("<II", 14, 2**32 - 1)], "cut off"),
        ([struct.pack("<HHI", 14, 5, 0)], "cut off"),
    ],
)
def test_hostile_files(variables: list[bytes], message: str, tmp_path: Path) -> None:
    write(tmp_path / "a.mat", *variables)
    with pytest.raises(ConversionError, match=rf"a\.mat.*({message})") as raised:
        read_mat(tmp_path / "a.mat")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [
        packed(params(matrix(9, (2**15, 2**10), element(2, bytes(2**25))))),
        packed(params(matrix(6, (2**15, 2**5), element(2, RNG.bytes(2**20))), count=1)),  # bytes for doubles
        packed(struct.pack("<II", 14, 100) + bytes(2**25)),
    ],
)
def test_what_unpacks_to_much_takes_no_memory(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conversion.readers.mat.MAX_EXPANSION", 4)
    write(tmp_path / "a.mat", content)
    tracemalloc.start()
    with pytest.raises(ConversionError, match="unpack"):
        read_mat(tmp_path / "a.mat")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(content) + 2**20


@pytest.mark.parametrize("last", [matrix(6, (1, 2**14), element(2, bytes(2**14))), b""])
def test_the_limit_is_that_of_the_file(last: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the variables, and the array in the last, unpacks to less than twice the file; all together do not."""
    monkeypatch.setattr("conversion.readers.mat.MAX_EXPANSION", 2)
    noise = matrix(9, (1, 2**16), element(2, RNG.bytes(2**16)), b"noise")
    zeros = packed(matrix(9, (1, 70_000), element(2, bytes(70_000)), b"zeros"))
    write(tmp_path / "a.mat", noise, params(last or ONE), zeros, b"" if last else zeros)
    with pytest.raises(ConversionError, match=r"params\[0\] .* unpacks to too much|unpacks to .* all together"):
        read_mat(tmp_path / "a.mat")
    write(tmp_path / "a.mat", noise, params(ONE), zeros)
    assert read_mat(tmp_path / "a.mat")["params[0]"].tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(384) + b"\x89HDF\r\n\x1a\n", "save it again with"),
        (b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI", "big-endian"),
        (b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x09IM", "not of MATLAB's format 5"),
        (b"MATLAB 5.0", "not of MATLAB's format 5"),
        (b"", "is empty"),
    ],
)
def test_other_versions(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(ConversionError, match=rf"a\.mat: .*{message}"):
        read_mat(tmp_path / "a.mat")


@pytest.mark.parametrize("pack", [False, True])
def test_every_truncation(pack: bool, tmp_path: Path) -> None:
    io.savemat(tmp_path / "whole.mat", {"params": cells([np.ones((2, 3)), np.ones(2)])}, do_compression=pack)
    whole = (tmp_path / "whole.mat").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "a.mat").write_bytes(whole[:length])
        with pytest.raises(ConversionError):
            read_mat(tmp_path / "a.mat")
