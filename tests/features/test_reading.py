"""Which images a folder holds: links are followed, loops end, and what would never end is not waited for."""

import io
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpncov_zoo import preprocessing
from mpncov_zoo.cli.images import find_images as find_on_command_line
from mpncov_zoo.errors import InputError
from mpncov_zoo.features import reading
from mpncov_zoo.features.reading import find_images
from mpncov_zoo.images import read_image


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """Two folders with an image each."""
    for folder in ("here", "elsewhere"):
        (tmp_path / folder).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / folder / "a.png")
    return tmp_path


def found(top: Path, folder: str) -> list[str]:
    return [os.path.relpath(path, top) for path in find_images([str(top / folder)])]


def test_links_to_folders_are_followed(top: Path) -> None:
    (top / "here" / "linked").symlink_to(top / "elsewhere")
    (top / "here" / "again").symlink_to("../elsewhere", target_is_directory=True)
    assert found(top, "here") == ["here/a.png", "here/again/a.png", "here/linked/a.png"]
    (top / "only").mkdir()
    (top / "only" / "linked").symlink_to(top / "elsewhere")
    assert found(top, "only") == ["only/linked/a.png"]


def test_loops_end_with_a_warning(top: Path, caplog: pytest.LogCaptureFixture) -> None:
    (top / "here" / "up").symlink_to(top)
    (top / "elsewhere" / "itself").symlink_to("itself")
    assert found(top, "here") == ["here/a.png", "here/up/elsewhere/a.png"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{top}/here/up/here is a link to a folder that it lies in: it is not searched again"
    ]


def test_what_is_no_file_is_not_waited_for(top: Path) -> None:
    os.mkfifo(top / "here" / "pipe.png")
    for path in (str(top / "here" / "pipe.png"), "/dev/zero"):
        with pytest.raises(InputError, match="is a pipe or a device, which is not waited for"):
            read_image(path)
    (top / "here" / "gone.png").symlink_to(top / "nothing")
    assert found(top, "here") == ["here/a.png", "here/gone.png", "here/pipe.png"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_is_no_part_of_a_path(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("a.png\r\nb.png\n".encode(encoding))))
    assert list(find_on_command_line(["-"])) == ["a.png", "b.png"]


def test_large_images_are_read_one_after_the_other_on_the_callers_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each thread's allocator keeps what its largest image took."""
    monkeypatch.setattr(preprocessing, "LARGE", 100)
    paths = []
    for index, side in enumerate((8, 30, 9, 40, 10)):
        paths.append(str(tmp_path / f"{index}.png"))
        Image.new("L", (side, side), index).save(paths[-1])
    threads: dict[str, int] = {}

    def read(path: str) -> np.ndarray:
        threads[path] = threading.get_ident()
        return np.asarray(read_image(path, "L"))[np.newaxis]

    found = reading.read_all(paths, read, paths)
    assert [image[0, 0] for image in found if isinstance(image, np.ndarray)] == [0, 1, 2, 3, 4]
    own = threading.get_ident()
    assert [threads[path] == own for path in paths] == [False, True, False, True, False]


def test_the_next_batch_is_read_while_one_is_used() -> None:
    second = threading.Event()

    def read(path: str) -> np.ndarray:
        if path == "c":
            second.set()
        return np.zeros((1, 2, 2, 3), np.float32)

    batches = reading.read_batches(["a", "b", "c"], read, 2)
    assert [path for path, _ in next(batches)] == ["a", "b"]
    assert second.wait(timeout=30)
    assert [path for path, _ in next(batches)] == ["c"]
    assert next(batches, None) is None


def test_paths_that_come_one_by_one_are_not_waited_for() -> None:
    """As from standard input: a batch is answered before the next path is asked for."""
    asked: list[str] = []

    def paths() -> Iterator[str]:
        for name in ("a", "b", "c"):
            asked.append(name)
            yield name

    batches = reading.read_batches(paths(), lambda path: np.zeros((1, 2, 2, 3), np.float32), 1)
    assert [path for path, _ in next(batches)] == ["a"] == asked


def test_an_error_of_the_reader_is_the_callers() -> None:
    def read(path: str) -> np.ndarray:
        raise MemoryError(path)

    with pytest.raises(MemoryError, match="a"):
        next(reading.read_batches(["a", "b"], read, 1))
