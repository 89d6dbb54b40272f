"""Data sets packed into TFRecord shards: in parallel, resumable after a kill, and read back before they count.

A shard appears complete or not at all, with a note beside it of what it holds; the index, written last, makes the
split readable and takes the notes' place. The same images and settings give the same bytes.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from mpncov_zoo.artifact.writer import require_labels
from mpncov_zoo.complete import complete
from mpncov_zoo.errors import InputError
from mpncov_zoo.progress import progress_bar
from mpncov_zoo.training.datasets.checking import TOLERANCE, require_few
from mpncov_zoo.training.datasets.shards import SUFFIX, Shard, ShardIndex, read_index
from mpncov_zoo.training.datasets.splits import Files, Images, Split
from mpncov_zoo.training.shard_files import verify_shard, write_shard

logger = logging.getLogger(__name__)

IMAGES_PER_SHARD = 2048
THREADS = os.cpu_count()
ORDER_SEED = 0  # of the order in which training images are written


@dataclass(frozen=True)
class _Job:
    """A split that is being packed: its images, their order, the directory, and the index, still without its shards."""

    split: Files | Images
    order: tuple[np.ndarray, ...]
    output: Path
    name: str
    index: ShardIndex

    def shard(self, number: int) -> Path:
        return self.output / f"{self.name}-{number:05d}-of-{len(self.order):05d}.tfrecord"

    def note(self, number: int) -> Path:
        return self.output / f".{self.shard(number).stem}.json"

    @property
    def plan(self) -> Path:
        return self.output / f".{self.name}.plan.json"


def pack(
    split: Split,
    output: str | Path,
    name: str,
    *,
    dataset: str,
    shards: int | None = None,
    short_side: int | None = None,
    tolerance: float = TOLERANCE,
    progress: bool = False,
) -> ShardIndex:
    """Write a split as TFRecord shards; after a call that was stopped, write what is missing.

    Args:
        split: images in files or in memory.
        output: directory, also for the other splits.
        name: of the split; the images of "train" are written in a random order, the same each time.
        dataset: the reader that the split is from, for the record.
        shards: their number; by default one for 2,048 images.
        short_side: shrink larger images to this short side, in pixels, with Pillow's bilinear filter; JPEG at quality
            95, others as PNG. By default the files' own bytes are kept.
        tolerance: the share of the images that may be corrupt, and are left out; ten may always be.
        progress: show a bar on standard error.

    Returns:
        The index, as it stands in `<output>/<name>.json`.

    Raises:
        InputError: too many images are corrupt, the output holds something else of that name or lies among the images,
            or the disk refuses.
        IntegrityError: what was written reads back as something else.

    Example:
        >>> pack(read_dataset("cub", "data", "train"), "packed", "train", dataset="cub", short_side=448)
    """
    job = _job(split, Path(output), name, dataset, shards, short_side)
    with _alone(job.output):
        finished = job.output / f"{name}{SUFFIX}"
        known = _require_same(read_index(finished), job, finished).shards if finished.exists() else ()
        if known and all(shard.is_in(job.output) for shard in known):
            return read_index(finished)
        _begin(job)
        shards_written = _write_shards(job, {shard.file: shard for shard in known}, tolerance, progress)
        index = job.index.model_copy(update={"shards": tuple(shards_written)})
        with complete(finished) as partial:
            partial.write_text(index.model_dump_json() + "\n")
        for note in (job.plan, *map(job.note, range(len(job.order)))):
            note.unlink(missing_ok=True)
    return index


def verify(directory: str | Path, name: str, *, progress: bool = False) -> ShardIndex:
    """Read every byte and every record of a packed split, and decode every image.

    Raises:
        InputError: it is not there.
        IntegrityError: a shard is not what its index says.
    """
    index = read_index(Path(directory) / f"{name}{SUFFIX}")
    with ThreadPoolExecutor(THREADS) as pool, progress_bar(len(index.shards), "shard", show=progress) as bar:
        for _ in pool.map(lambda shard: verify_shard(Path(directory) / shard.file, shard), index.shards):
            bar.update(1)
    return index


def _job(split: Split, output: Path, name: str, dataset: str, shards: int | None, short_side: int | None) -> _Job:
    if not isinstance(split, Files | Images):
        raise InputError("Only images in files or in memory can be packed; these are packed already.")
    require_labels(split.class_names)
    if isinstance(split, Files) and output.resolve().is_relative_to(split.root.resolve()):
        raise InputError(f"{output} is among the images themselves. Give a directory outside {split.root}.")
    count = shards or -(-len(split) // IMAGES_PER_SHARD)
    if count > len(split):
        raise InputError(f"{count} shards are too many for {len(split)} images.")
    rng = np.random.default_rng(ORDER_SEED)
    order = rng.permutation(len(split)) if name == "train" else np.arange(len(split))
    index = ShardIndex(
        dataset=dataset,
        source_sha256=split.fingerprint(),
        short_side=short_side,
        class_names=split.class_names,
        shards=(),
    )
    return _Job(split, tuple(np.array_split(order, count)), output, name, index)


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Make the directory; within this context no other process packs into it."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with FileLock(output / ".lock", timeout=0):
            yield
    except Timeout:
        raise InputError(f"Another process is packing into {output}.") from None
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror or error}.") from error


def _require_same(index: ShardIndex, job: _Job, path: Path) -> ShardIndex:
    """Refuse a finished split that is not what was asked for; else return its index."""
    same = ("source_sha256", "short_side", "class_names", "dataset")
    changed = [field for field in same if getattr(index, field) != getattr(job.index, field)]
    if len(index.shards) != len(job.order):
        changed.append("the number of shards")
    if changed:
        raise InputError(f"{path} is of other images or settings ({', '.join(changed)}). Give another directory.")
    return index


def _begin(job: _Job) -> None:
    """Write the plan, or compare it with that of a call that was stopped, and remove what that call left behind."""
    plan = json.loads(job.index.model_dump_json()) | {"shards": len(job.order)}
    if job.plan.exists():
        before = json.loads(job.plan.read_text())
        changed = sorted(key for key in plan if before.get(key) != plan[key])
        if changed:
            raise InputError(
                f"{job.output} was begun with other images or settings ({', '.join(changed)}). Give another directory."
            )
    for scratch in job.output.glob(f".{job.name}-*.tfrecord-*"):
        shutil.rmtree(scratch)
    with complete(job.plan) as partial:
        partial.write_text(json.dumps(plan))


def _write_shards(job: _Job, known: Mapping[str, Shard], tolerance: float, progress: bool) -> list[Shard]:
    """All shards of a split; those that are there and `known` by name, or noted, are left as they are."""
    shards: list[Shard] = []
    corrupt: dict[str, str] = {}
    with progress_bar(len(job.split), "image", show=progress) as bar, ThreadPoolExecutor(THREADS) as pool:
        try:
            for shard in pool.map(lambda number: _shard(job, number, known), range(len(job.order))):
                shards.append(shard)
                corrupt |= shard.corrupt
                require_few(corrupt, len(job.split), tolerance)
                bar.update(len(shard.labels) + len(shard.corrupt))
        finally:
            pool.shutdown(cancel_futures=True)
    for name, reason in corrupt.items():
        logger.warning("left out: %s: %s", name, reason)
    return shards


def _shard(job: _Job, number: int, known: Mapping[str, Shard]) -> Shard:
    """Write a shard, unless an earlier call finished it."""
    path, note = job.shard(number), job.note(number)
    shard = Shard.model_validate_json(note.read_bytes()) if note.exists() else known.get(path.name)
    if shard is None or not shard.is_in(job.output):
        shard = write_shard(job.split, job.order[number].tolist(), path, job.index.short_side)
    with complete(note) as partial:
        partial.write_text(shard.model_dump_json())
    return shard
