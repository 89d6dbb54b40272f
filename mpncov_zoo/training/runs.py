"""A run's directory: what stands where, who may work there, and whether there is room."""

import hashlib
import json
import logging
import os
import platform
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

import mpncov_zoo
from conversion.writers.complete import complete
from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.errors import InputError
from mpncov_zoo.training.datasets import Split
from mpncov_zoo.training.recipes import Recipe

logger = logging.getLogger(__name__)

LOCK = ".lock"
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
        """The versions it was begun with, and a digest of its data."""
        return self.directory / "environment.json"

    def images(self, split: str) -> Path:
        """Which image files of a split were left out, as corrupt."""
        return self.directory / f"images-{split}.json"

    @property
    def state(self) -> Path:
        """All that `resume` needs, after the last complete epoch."""
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
        """What came out, in numbers."""
        return self.directory / "metrics.json"

    def best(self, epoch: int) -> Path:
        """The weights of an epoch, counted from 1, that was the best so far."""
        return self.directory / f"best-{epoch}.npz"

    def all_best(self) -> list[Path]:
        """The files of that kind."""
        return sorted(self.directory.glob("best-*.npz"))


def inspect(output: Path, recipe: Recipe, *, resume: bool) -> Run:
    """The run in a directory, if this recipe may begin or go on there; nothing is written yet.

    Raises:
        InputError: the directory is in use, or was begun with another recipe.
    """
    run = Run(output)
    try:
        used = output.exists() and any(entry.name != LOCK for entry in output.iterdir())
    except OSError as error:
        raise InputError(f"{output} cannot be used for a run: {error.strerror}.") from error
    if used and not resume:
        raise InputError(f"{output} is not empty. Go on with --resume, or give a new directory.")
    if used and not run.recipe.exists():
        raise InputError(f"{output} is not empty and holds no run ({run.recipe.name}). Give a new directory.")
    if used:
        _require_same_recipe(run, recipe)
    return run


@contextmanager
def begun(run: Run, recipe: Recipe, data: Split, *, writes: bool = True) -> Iterator[None]:
    """Within this context the directory is this process's alone; it holds recipe and environment.

    Args:
        run: where.
        recipe: what is trained there.
        data: the images to train on.
        writes: false for all workers but one, which only look at what is there.

    Raises:
        InputError: another process trains there, the data are others than those it was begun with, or the directory
            cannot be written.
    """
    require_same_data(run, data)
    if not writes:
        yield
        return
    with _locked(run):
        for leftover in run.directory.glob(".*-*"):  # of `complete`, in a process that was killed
            shutil.rmtree(leftover)
        write_json(run.environment, _environment(data))
        write_json(run.recipe, recipe.model_dump(mode="json"))
        yield


def require_same_data(run: Run, data: Split) -> None:
    """Refuse to go on with other images; other versions are said in the log.

    Raises:
        InputError: the run was begun with other data.
    """
    if not run.environment.exists():
        return
    before, now = _read_json(run.environment), _environment(data)
    if before.get("data") != now["data"]:
        raise InputError(f"{run.directory} was begun with other data: {before.get('data')}; now {now['data']}.")
    changed = [f"{key} {before.get(key)}, now {now[key]}" for key in now if before.get(key) != now[key]]
    if changed:
        logger.warning("begun with %s: the result may differ in the last bits", "; ".join(changed))


def _locked(run: Run) -> FileLock:
    """The directory, made if need be, under a lock that ends with this process."""
    lock = FileLock(run.directory / LOCK)
    try:
        run.directory.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"{run.directory} is being worked on by another process: wait for it, or stop it.") from None
    except OSError as error:
        raise InputError(f"{run.directory} cannot be written: {error.strerror or error}.") from error
    return lock


def require_room(run: Run, model: ImageClassifier, recipe: Recipe) -> None:
    """Refuse a disk on which the run could not end.

    Raises:
        InputError: with the number of bytes that are needed.
    """
    weights = sum(4 * int(np.prod(v.shape)) for v in model.variables)
    states = 1 + (recipe.optimizer.momentum > 0) + (recipe.ema > 0) + (recipe.optimizer.accumulate > 1)
    needed = weights * (2 * states + COPIES)  # a state is complete before it takes the place of the one before
    free = shutil.disk_usage(run.directory).free
    if free < needed:
        raise InputError(
            f"{run.directory}: {free:,} bytes are free, and a run of {model.name} takes up to {needed:,}. "
            "Make room, or give another directory."
        )


def write_json(path: Path, document: Any) -> None:
    """Write a JSON file that appears complete.

    Raises:
        InputError: the disk refuses.
    """
    with complete(path) as partial:
        partial.write_text(json.dumps(document, indent=2) + "\n")


def _require_same_recipe(run: Run, recipe: Recipe) -> None:
    before, now = _read_json(run.recipe), recipe.model_dump(mode="json")
    changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    if changed:
        raise InputError(f"{run.directory} was begun with another recipe: {', '.join(changed)} differ.")


def _environment(data: Split) -> Mapping[str, Any]:
    return {
        "mpncov_zoo": mpncov_zoo.__version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "platform": f"{sys.platform} {platform.machine()}",
        "cpus": os.cpu_count(),
        "gpus": len(tf.config.list_physical_devices("GPU")),
        "data": f"{len(data)} images, labels {_digest(data)}",
    }


def _digest(data: Split) -> str:
    """Of labels and class names in order, 16 hex digits: enough to tell data sets apart."""
    content = json.dumps(data.class_names).encode() + np.asarray(data.labels, "<i4").tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged: {error}. Begin again in a new directory.") from error
