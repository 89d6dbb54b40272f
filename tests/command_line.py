"""Command lines run in this process: what they print where, and how they refuse."""

import re

import pytest

from mpncov_zoo import cli

Capture = pytest.CaptureFixture[str]
Result = tuple[int, str, str]  # exit code, standard output, standard error


def run(capsys: Capture, *arguments: object) -> Result:
    """Exit code, standard output and standard error of a command line."""
    capsys.readouterr()
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else -1
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def assert_refused(result: Result, *pieces: str, exit_code: int = 2, lines: int = 2) -> None:
    """The exit code, nothing on standard output, and at most so many lines on standard error (after progress bars)."""
    code, out, err = result
    found = [line for line in err.splitlines() if line and not re.match(r"\s*\d+%\|", line)]
    assert (code, out) == (exit_code, ""), err
    assert 1 <= len(found) <= lines and found[0].startswith("mpncov-zoo: error: "), err
    for piece in pieces:
        assert piece in err
