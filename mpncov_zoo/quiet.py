"""Imports TensorFlow without its start-up messages."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def import_tensorflow() -> None:
    """Import TensorFlow silently, unless the environment says how much it should log (TF_CPP_MIN_LOG_LEVEL=0: all)."""
    if "tensorflow" in sys.modules or LOG_LEVEL in os.environ:
        return
    os.environ[LOG_LEVEL] = "3"
    with _native_stderr_held():
        import tensorflow  # noqa: F401


@contextmanager
def _native_stderr_held() -> Iterator[None]:
    """Keep back what is written to file descriptor 2; show it only if there is an exception.

    TensorFlow 2.21 logs six lines while it is imported, before its own log level applies.
    """
    sys.stderr.flush()
    try:
        stderr = os.dup(2)
    except OSError:  # closed, as by `2>&-`: nothing to keep back
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            with os.fdopen(os.dup(stderr), "wb") as file:
                shutil.copyfileobj(held, file)
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
