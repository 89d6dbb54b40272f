"""Files that appear complete or not at all."""

from pathlib import Path

import pytest

from mpncov_zoo.complete import complete
from mpncov_zoo.errors import InputError


def test_two_write_one_file_at_once(tmp_path: Path) -> None:
    """Whoever ends last has the whole file; neither takes the other's."""
    path = tmp_path / "a.pth"
    with complete(path) as slow:
        slow.write_bytes(b"slow")
        with complete(path) as fast:
            assert not fast.exists()
            fast.write_bytes(b"fast")
        assert path.read_bytes() == b"fast"
        assert slow.read_bytes() == b"slow"
    assert path.read_bytes() == b"slow"
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_the_file_before_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"before")
    with pytest.raises(KeyError), complete(path) as partial:
        partial.write_bytes(b"half")
        raise KeyError
    assert path.read_bytes() == b"before"
    with pytest.raises(InputError, match=r"a/b cannot be written: "), complete(path / "b"):
        pass
    assert [*tmp_path.iterdir()] == [path]
