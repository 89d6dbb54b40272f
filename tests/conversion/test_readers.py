"""The format of a checkpoint is what its first bytes say; whatever cannot be read is one line that names the file."""

import builtins
import struct
from pathlib import Path

import numpy as np
import pytest

from conversion import readers
from conversion.readers import read_checkpoint
from conversion.readers.reading import reading
from conversion.writers.pytorch import write_pth
from conversion.writers.safetensors import write_safetensors
from mpncov_zoo.errors import ConversionError

TENSORS = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array([1, 2], np.float32)}


@pytest.mark.parametrize(("write", "name"), [(write_pth, "PyTorch zip"), (write_safetensors, "safetensors")])
def test_the_name_of_a_file_does_not_matter(write, name: str, tmp_path: Path) -> None:
    if name == "safetensors":
        pytest.importorskip("safetensors", reason="needs safetensors")
    write(TENSORS, tmp_path / "weights.bin")
    stored = read_checkpoint(tmp_path / "weights.bin")
    assert stored.format == name
    assert list(stored.tensors) == list(TENSORS)
    for key, array in TENSORS.items():
        np.testing.assert_array_equal(stored.tensors[key], array)
        assert stored.tensors[key].dtype == array.dtype
        assert not stored.tensors[key].flags.writeable


@pytest.mark.parity
def test_legacy_files_of_torch(tmp_path: Path) -> None:
    import torch

    torch.save({"a": torch.ones(3)}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    stored = read_checkpoint(tmp_path / "a.pth")
    assert stored.format == "PyTorch legacy"
    np.testing.assert_array_equal(stored.tensors["a"], np.ones(3, np.float32))


@pytest.mark.parametrize("length", [128, 256 + 128])
def test_a_header_whose_length_begins_as_a_pickle_does(length: int, tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="needs safetensors")
    header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'.ljust(length)
    assert length.to_bytes(8, "little")[0] == 0x80
    (tmp_path / "a").write_bytes(length.to_bytes(8, "little") + header + b"\x07")
    assert read_checkpoint(tmp_path / "a").tensors["a"].tolist() == [7]


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n", b"a text\n" * 50, b"\x80\x01N.", b"P", b"{}", b"\x1f\x8b\x08\x00", bytes(500)]
)
def test_files_of_no_known_format(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(ConversionError) as raised:
        read_checkpoint(tmp_path / "a.pth")
    names = "PyTorch zip, MATLAB, HDF5, safetensors, PyTorch legacy"
    assert str(raised.value) == f"{tmp_path / 'a.pth'} is of no known format; allowed are {names}."


@pytest.mark.parametrize("kind", readers.FORMATS, ids=lambda kind: kind.name)
def test_files_of_nothing_but_a_beginning(kind, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(kind.offset) + kind.magic)
    with pytest.raises(ConversionError, match=r"/a(:| is) ") as raised:
        read_checkpoint(tmp_path / "a")
    assert "\n" not in str(raised.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, message in (
        ("absent", "absent cannot be read: No such file or directory."),
        ("", "is no file."),
        ("empty", "empty is empty."),
        ("loop", "loop cannot be read: Too many levels of symbolic links."),
        ("empty/a", "a cannot be read: Not a directory."),
    ):
        with pytest.raises(ConversionError) as raised:
            read_checkpoint(tmp_path / name)
        assert str(raised.value).endswith(message)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"PK\x03\x04")

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(builtins, "open", denied)
    with pytest.raises(ConversionError, match="a cannot be read: Permission denied"):
        read_checkpoint(tmp_path / "a")


@pytest.mark.parametrize(
    ("package", "content"), [("h5py", b"\x89HDF\r\n\x1a\n"), ("safetensors", b"\x80\0\0\0\0\0\0\0{}")]
)
def test_packages_that_are_not_installed(
    package: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str):
        raise ImportError(name)

    (tmp_path / "a").write_bytes(content)
    monkeypatch.setattr("conversion.readers.reading.import_module", absent)
    with pytest.raises(ConversionError) as raised:
        read_checkpoint(tmp_path / "a")
    advice = f'pip install {package}, or all of "mpncov-zoo[conversion]".'
    assert str(raised.value).endswith(f" files needs {package}: {advice}")


def test_files_without_tensors(tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="needs safetensors")
    write_safetensors({}, tmp_path / "a")
    with pytest.raises(ConversionError, match="a holds no tensors"):
        read_checkpoint(tmp_path / "a")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (struct.error("unpack requires 8 bytes"), "a is damaged, or no MATLAB file: unpack requires 8 bytes."),
        (MemoryError("Unable to allocate 1 TiB"), "a needs more memory than there is."),
        (RecursionError("too deep"), "a is damaged, or no MATLAB file: too deep."),
    ],
)
def test_what_goes_wrong_is_one_sentence(error: Exception, message: str) -> None:
    with pytest.raises(ConversionError) as raised, reading(Path("a"), "MATLAB"):
        raise error
    assert str(raised.value) == message
