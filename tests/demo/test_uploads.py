"""What is too large is refused before it is decoded."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from mpncov_zoo.demo import uploads
from mpncov_zoo.demo.uploads import read_limited, uploaded_path
from mpncov_zoo.errors import InputError
from tests.photos import encode, photo_image


def png_bomb(width: int, height: int) -> bytes:
    """A PNG file of that size which is whole, but for its pixels: what decodes it fails in another way."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("size", "reason"), [((10_000, 10_000), "100 megapixels"), ((30_000, 30_000), "decompression bomb")]
)
def test_many_pixels(tmp_path: Path, size: tuple[int, int], reason: str) -> None:
    (tmp_path / "bomb.png").write_bytes(png_bomb(*size))
    with pytest.raises(InputError, match=reason) as caught:
        read_limited(str(tmp_path / "bomb.png"), "RGB")
    assert str(tmp_path) not in str(caught.value) and "'bomb.png'" in str(caught.value)


def test_a_large_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("count_pixels", "read_image"):  # which would open it
        monkeypatch.setattr(uploads, name, None)
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(InputError, match=r"'large.png' is larger than 20 MB"):
        read_limited(str(tmp_path / "large.png"), "L")


@pytest.mark.parametrize("content", [b"", b"garbage", b"%PDF-1.7", encode(photo_image(30, 30), "PNG")[:200]])
def test_what_is_no_image_is_named_without_its_folder(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "it's.png").write_bytes(content)
    with pytest.raises(InputError, match=r"it's\.png") as caught:
        read_limited(str(tmp_path / "it's.png"), "RGB")
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(InputError, match=r"no file 'gone\.png'"):
        read_limited(str(tmp_path / "gone.png"), "RGB")


def test_an_image_is_read_in_the_colours_asked_for(tmp_path: Path) -> None:
    photo_image(20, 30).save(tmp_path / "photo.png")
    assert np.asarray(read_limited(str(tmp_path / "photo.png"), "L")).shape == (20, 30)
    np.testing.assert_array_equal(read_limited(str(tmp_path / "photo.png"), "RGB"), photo_image(20, 30))


def test_uploads_are_of_their_folder(tmp_path: Path) -> None:
    inside = tmp_path / "uploads" / "a.png"
    assert uploaded_path({"path": str(inside)}, str(tmp_path / "uploads")) == str(inside)
    for file in ("a.png", None, {}, {"path": None}, {"path": "/etc/passwd"}, {"path": f"{inside}/../../b.png"}):
        with pytest.raises(InputError, match="uploaded files alone"):
            uploaded_path(file, str(tmp_path / "uploads"))
