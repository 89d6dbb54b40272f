"""The directory of a run: its files, who may work there, and whether the disk has room for it."""

import json
import logging
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from filelock import FileLock, Timeout

from mpncov_zoo.architectures import is_model
from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.complete import complete
from mpncov_zoo.errors import InputError
from mpncov_zoo.training.datasets import Split
from mpncov_zoo.training.recipes import Recipe
from mpncov_zoo.version import __version__

logger = logging.getLogger(__name__)

LOCK = ".lock"
_LEFTOVER = re.compile(r"\.(.+)-[a-z0-9_]{8}")
_BEST = re.compile(r"best-\d+\.npz")
COPIES = 3  # of the weights, at the same time at most: two best ones and the artifact


@dataclass(frozen=True)
class Run:
    """The files of a run's directory."""

    directory: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe, with all defaults."""
        return self.directory / "recipe.json"

    @property
    def environment(self) -> Path:
        """The versions it was begun with, and digests of its data."""
        return self.directory / "environment.json"

    def images(self, split: str) -> Path:
        """Which image files of a split were left out, as corrupt."""
        return self.directory / f"images-{split}.json"

    @property
    def state(self) -> Path:
        """Everything that `resume` needs, as it was after the last complete epoch."""
        return self.directory / "checkpoint.npz"

    @property
    def log(self) -> Path:
        """One line an epoch."""
        return self.directory / "log.csv"

    @property
    def curves(self) -> Path:
        """Loss and accuracy by epoch."""
        return self.directory / "curves.png"

    @property
    def events(self) -> Path:
        """The same for TensorBoard."""
        return self.directory / "tensorboard"

    @property
    def metrics(self) -> Path:
        """What the kept weights are worth, in numbers."""
        return self.directory / "metrics.json"

    def best(self, epoch: int) -> Path:
        """The weights of an epoch, counted from 1, that was the best so far."""
        return self.directory / f"best-{epoch}.npz"

    def all_best(self) -> list[Path]:
        """All files with weights of a best epoch."""
        return sorted(path for path in self.directory.glob("best-*.npz") if _BEST.fullmatch(path.name))

    def leftovers(self) -> list[Path]:
        """What a killed process was writing: each file NAME lies in a directory .NAME-XXXXXXXX beside its place."""
        found = ((path, _LEFTOVER.fullmatch(path.name)) for path in self.directory.glob(".*-*") if path.is_dir())
        return [path for path, match in found if match and self._writes(match[1])]

    def holds_only_a_beginning(self) -> bool:
        """Does the directory hold nothing, or only what a run leaves that has not completed an epoch?"""
        begun = (self.environment.name, self.images("*").name, self.best(1).name, self.events.name)
        known = (LOCK, self.recipe.name, *(begun if self.recipe.exists() else ()))
        leftovers = self.leftovers()
        entries = self.directory.iterdir() if self.directory.exists() else ()
        return all(path in leftovers or any(path.match(pattern) for pattern in known) for path in entries)

    def _writes(self, name: str) -> bool:
        files = (self.recipe, self.environment, self.images("*"), self.state, self.log, self.curves, self.metrics)
        own = any(Path(name).match(path.name) for path in files) or bool(_BEST.fullmatch(name))
        return own or is_model(name.partition(".")[0])  # an artifact, MODEL.TAG


def inspect(output: Path, recipe: Recipe, *, resume: bool) -> Run:
    """The run in a directory, if this recipe may begin or go on there; nothing is written yet.

    A run that has not completed an epoch may be replaced: another run begins in its directory.

    Raises:
        InputError: the directory is in use, or was begun with another recipe.
    """
    run = Run(output)
    try:
        fresh = run.holds_only_a_beginning()
    except OSError as error:
        raise InputError(f"{output} cannot be used for a run: {error.strerror}.") from error
    if fresh:
        return run
    if not run.recipe.exists() or not (run.state.exists() or resume):
        raise InputError(f"{output} is not empty and holds no run that --resume can go on with. Give a new directory.")
    if not resume:
        raise InputError(f"{output} is not empty. Go on with --resume, or give a new directory.")
    if not run.state.exists() and run.log.exists():
        raise InputError(f"{run.state} is missing, which --resume goes on from. Give a new directory.")
    _require_same_recipe(run, recipe)
    return run


@contextmanager
def begun(run: Run, recipe: Recipe, data: Mapping[str, Split], *, writes: bool = True) -> Iterator[None]:
    """Within this context no other process works in the directory; it holds the recipe and the environment.

    Args:
        run: where.
        recipe: what is trained there.
        data: the splits of the data set, by name.
        writes: false for the workers that do not write and only look at what is there.

    Raises:
        InputError: another process trains there, the data are others than those it was begun with, or the directory
            cannot be written.
    """
    environment = _environment(data)
    if not writes:
        _require_same_data(run, environment)
        yield
        return
    with _locked(run):
        for leftover in run.leftovers():
            shutil.rmtree(leftover)
        if run.state.exists():
            _require_same_data(run, environment)
        else:
            _clear(run)
            write_json(run.recipe, recipe.model_dump(mode="json"))
            write_json(run.environment, environment)
        yield


def _clear(run: Run) -> None:
    """Remove what a run left that completed no epoch, except the list of its corrupt images."""
    shutil.rmtree(run.events, ignore_errors=True)
    for path in run.all_best():
        path.unlink()


def _require_same_data(run: Run, now: Mapping[str, Any]) -> None:
    """Refuse to go on with other images; other versions of software are only logged."""
    if not run.state.exists():
        return
    before = _read_json(run.environment)
    if before.get("data") != now["data"]:
        difference = _difference("data", before.get("data"), now["data"])
        raise InputError(f"{run.directory} was begun with other data: {difference}.")
    changed = [f"{key} {before.get(key)}, now {now[key]}" for key in now if before.get(key) != now[key]]
    if changed:
        logger.warning("begun with %s: the result may differ in the last bits", "; ".join(changed))


@contextmanager
def _locked(run: Run) -> Iterator[None]:
    """Make the directory if need be, and lock it until this context or this process ends."""
    lock = FileLock(run.directory / LOCK)
    try:
        run.directory.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"{run.directory} is being worked on by another process: wait for it, or stop it.") from None
    except OSError as error:
        raise InputError(f"{run.directory} cannot be written: {error.strerror or error}.") from error
    try:
        yield
    finally:
        lock.release()


def require_room(run: Run, model: ImageClassifier, recipe: Recipe) -> None:
    """Refuse a disk that would be full before the run ends.

    Raises:
        InputError: there are too few bytes; the message says how many are needed.
    """
    weights = sum(4 * int(np.prod(v.shape)) for v in model.variables)
    states = 1 + (recipe.optimizer.momentum > 0) + (recipe.ema > 0) + (recipe.optimizer.accumulate > 1)
    needed = weights * (2 * states + COPIES)  # a state is complete before it takes the place of the one before
    needed -= sum(path.stat().st_size for path in (run.state, *run.all_best()) if path.exists())
    free = shutil.disk_usage(run.directory).free
    if free < needed:
        raise InputError(
            f"{run.directory}: {free:,} bytes are free, and a run of {model.name} takes up to {needed:,} more. "
            "Make room, or give another directory."
        )


def write_json(path: Path, document: Any) -> None:
    """Write a JSON file; it appears complete or not at all.

    Raises:
        InputError: the disk refuses.
    """
    with complete(path) as partial:
        partial.write_text(json.dumps(document, indent=2) + "\n")


def _require_same_recipe(run: Run, recipe: Recipe) -> None:
    before, now = _read_json(run.recipe), recipe.model_dump(mode="json")
    changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    if changed:
        differences = "; ".join(_difference(key, before.get(key), now.get(key)) for key in changed)
        raise InputError(f"{run.directory} was begun with another recipe: {differences}.")


def _difference(key: str, before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        inner = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
        return "; ".join(_difference(f"{key}.{name}", before.get(name), now.get(name)) for name in inner)
    return f"{key} was {json.dumps(before)}, is {json.dumps(now)}"


def _environment(data: Mapping[str, Split]) -> Mapping[str, Any]:
    return {
        "mpncov_zoo": __version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "platform": f"{sys.platform} {platform.machine()}",
        "cpus": os.cpu_count(),
        "gpus": len(tf.config.list_physical_devices("GPU")),
        "data": {name: split.summary() for name, split in data.items()},
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing. Begin again in a new directory.") from error
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged: {error}. Begin again in a new directory.") from error
