"""Imports TensorFlow and Keras without their start-up messages, in a command also without what no command needs."""

import os
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from mpncov_zoo.errors import InputError

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
SPARED = ("matplotlib", "pandas", "sklearn")  # Keras imports these for what it offers, which no command uses
_sparing = False


def spare_imports() -> None:
    """Let Keras be imported without SPARED.

    This is for a process that runs nothing but this package, such as a command.
    """
    global _sparing
    _sparing = True


def import_tensorflow() -> None:
    """Import TensorFlow silently, unless the environment says how much it should log (TF_CPP_MIN_LOG_LEVEL=0: all).

    Raises:
        InputError: TensorFlow is not installed, or Keras, which is imported first, cannot be imported with the backend
            that is configured.
    """
    if "tensorflow" in sys.modules or LOG_LEVEL in os.environ:
        _import_keras()
        return
    os.environ[LOG_LEVEL] = "3"
    with native_stderr_held():
        _import_keras()
        try:
            import tensorflow  # noqa: F401
        except ModuleNotFoundError as error:
            raise InputError(f"This needs TensorFlow ({error}): pip install tensorflow") from error


def import_keras() -> None:
    """Import Keras, and of its backends the one that is configured alone, as silently as `import_tensorflow`.

    Raises:
        InputError: as `import_tensorflow` raises it.
    """
    os.environ.setdefault(LOG_LEVEL, "3")
    with native_stderr_held():
        _import_keras()


def _import_keras() -> None:
    """Import Keras, which imports its backend, most often TensorFlow, first."""
    try:
        with _absent(SPARED if _sparing else ()):
            import keras  # noqa: F401
    except (ImportError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        if isinstance(error, ValueError) and "configuration" in reason:  # of floatx, epsilon or image_data_format
            raise InputError(f"Keras cannot be imported with what its keras.json says: {reason}") from error
        raise InputError(
            f"Keras cannot be imported with the backend that KERAS_BACKEND or keras.json names ({reason}): set "
            "KERAS_BACKEND=tensorflow"
        ) from error


@contextmanager
def _absent(names: Collection[str]) -> Iterator[None]:
    """Within this context, where Keras is imported first, these modules are not; those that are there already stay."""
    hidden = [] if "keras" in sys.modules else [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # pyright: ignore[reportArgumentType, reportCallIssue]
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


def require_tensorflow_backend(what: str) -> None:
    """Refuse what only Keras on TensorFlow can do.

    Args:
        what: the subject of the message, such as "Training".

    Raises:
        InputError: Keras runs on another backend.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise InputError(
            f"{what} needs Keras on TensorFlow. KERAS_BACKEND or keras.json names {keras.backend.backend()!r} here: "
            "set KERAS_BACKEND=tensorflow"
        )


@contextmanager
def native_stderr_held() -> Iterator[None]:
    """Keep back what is written to file descriptor 2; show it only if there is an exception.

    TensorFlow 2.21 logs six lines while it is imported, before its own log level applies.
    """
    if sys.stderr is not None:  # as in a program without a console
        sys.stderr.flush()
    try:
        held = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the context below
        stderr = os.dup(2)
    except OSError:  # no room for what is kept back, or nothing to keep back, as after `2>&-`
        yield
        return
    with held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except (InputError, KeyboardInterrupt):  # say all
            raise
        except BaseException:
            held.seek(0)
            with os.fdopen(os.dup(stderr), "wb") as file:
                shutil.copyfileobj(held, file)
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
