"""What a command spares while Keras is imported, which other programs have all the same."""

import sys

import pytest

from mpncov_zoo import quiet


def test_nothing_is_hidden_where_keras_is_there_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", quiet)
    with quiet._absent(["sklearn"]):
        assert sys.modules.get("sklearn", quiet) is not None


def test_what_was_hidden_can_be_imported_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with quiet._absent(["wave", "json"]):
        import json  # noqa: F401 - it was there before

        with pytest.raises(ModuleNotFoundError):
            import wave
    import wave

    assert wave.__name__ in sys.modules
    with quiet._absent(["wave"]):
        assert sys.modules["wave"] is wave


def test_an_entry_that_somebody_else_removed_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with quiet._absent(["wave"]):
        del sys.modules["wave"]
    assert "wave" not in sys.modules
