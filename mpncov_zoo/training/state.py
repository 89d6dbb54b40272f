"""Saves and restores the state of a run: every variable and the history, in one file that is complete or not there."""

import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mpncov_zoo.complete import complete
from mpncov_zoo.errors import InputError

Row = dict[str, float]  # what the log says of one epoch
_HISTORY = "history"


def save_state(path: Path, model: keras.Model, history: Sequence[Row]) -> None:
    """Write a model's and its optimiser's variables, random states among them, and the history so far.

    Raises:
        InputError: the disk refuses; what stood there before stays.
    """
    write_arrays(path, {name: v.numpy() for name, v in _variables(model)} | {_HISTORY: _encoded(history)})


def read_history(path: Path) -> list[Row]:
    """The history up to a saved state; an empty one where there is no file.

    Raises:
        InputError: the file is damaged.
    """
    if not path.exists():
        return []
    try:
        return json.loads(read_arrays(path, [_HISTORY])[_HISTORY].tobytes())
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}. Begin again in a new directory.") from error


def restore_state(path: Path, model: keras.Model, *, optimizer: bool) -> None:
    """Give a compiled model the variables of a state.

    Args:
        path: the file.
        model: as it was when the state was saved.
        optimizer: whether its optimiser goes on as well; if not, it begins anew.

    Raises:
        InputError: the file is damaged, or it is the state of another model.
    """
    stored = read_arrays(path)
    wanted = dict(_variables(model))
    if optimizer and stored.keys() - {_HISTORY} != wanted.keys():
        other = sorted((stored.keys() - {_HISTORY}) ^ wanted.keys())
        raise InputError(f"{path} is the state of another network: {len(other)} variables differ, as {other[0]}.")
    for name, variable in wanted.items():
        if optimizer or not name.startswith("optimizer/"):
            variable.assign(stored[name])


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz file that is complete, and on the disk, before it takes its name.

    Raises:
        InputError: the disk refuses.
    """
    with complete(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
        file.flush()
        os.fsync(file.fileno())


def read_arrays(path: Path, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """All or some arrays of an .npz file; every byte is compared with the checksums in the file.

    Raises:
        InputError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in (file.files if names is None else names)}
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing. Begin again in a new directory.") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged: {error}. Begin again in a new directory.") from error


def _variables(model: keras.Model) -> Iterator[tuple[str, Any]]:
    """Everything that a model and its optimiser remember. The names hold positions, since paths need not be unique."""
    for owner, variables in (("model", model.variables), ("optimizer", model.optimizer.variables)):
        for index, variable in enumerate(variables):
            random_state = variable.name == "seed_generator_state"  # Keras numbers their paths anew in every process
            yield f"{owner}/{index}/{variable.name if random_state else variable.path}", variable


def _encoded(history: Sequence[Row]) -> np.ndarray:
    return np.frombuffer(json.dumps(list(history)).encode(), np.uint8)
