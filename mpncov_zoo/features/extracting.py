"""Features of many images into Parquet: on this machine or on a Ray cluster, and after an interruption what is left."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpncov_zoo.errors import InputError
from mpncov_zoo.features.chunks import Chunk, list_chunks
from mpncov_zoo.features.compact import Compact, Components, distance_bound
from mpncov_zoo.features.extraction import extractor
from mpncov_zoo.features.linear import require_scikit_learn
from mpncov_zoo.features.on_ray import compute, require_ray
from mpncov_zoo.features.parts import COMPONENTS, Parts
from mpncov_zoo.features.sampling import shorter
from mpncov_zoo.features.stored import weights_digest
from mpncov_zoo.features.tables import SUFFIX
from mpncov_zoo.features.work import Done, Work, Worker, too_many
from mpncov_zoo.hub.cache import cache_root
from mpncov_zoo.hub.local import is_path
from mpncov_zoo.hub.locations import locate
from mpncov_zoo.progress import progress_bar
from mpncov_zoo.version import versions_of

if TYPE_CHECKING:
    from tqdm import tqdm

    from mpncov_zoo.classifier import FeatureExtractor, ImageClassifier

ENGINES = ("local", "ray")
DTYPES = ("float32", "float16")
FORMAT = 1  # of the output; to be raised when images are read in another way, or features are written in another
ROWS_PER_FILE = 1024
UNREADABLE = 100  # images that may be left out
COMPUTING = ("mpncov_zoo", "tensorflow", "keras", "numpy", "PIL", "sklearn")  # modules whose versions are noted
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExtractReport:
    """What a run over many images left.

    Attributes:
        output: the directory or the file.
        images: how many have a row now.
        added: how many of them this run computed.
        unreadable: how many could not be read.
        errors: the Parquet file with their paths and reasons, `_errors.parquet` in a directory; None if all were read.
        shape: of one image's features.
        dtype: of them.
        seconds: of the computing, without listing and loading.
        distances_within: with a random projection, what `distance_bound` promises; else None.
    """

    output: str
    images: int
    added: int
    unreadable: int
    errors: str | None
    shape: tuple[int, ...]
    dtype: str
    seconds: float
    distances_within: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self)


def extract(
    model: str | PathLike[str] | ImageClassifier,
    inputs: str | PathLike[str] | Sequence[str | PathLike[str]],
    output: str | PathLike[str],
    *,
    stages: Sequence[str] | None = None,
    pool: str | None = None,
    engine: str = "local",
    address: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float = 0,
    dtype: str = "float32",
    project: int | None = None,
    pca: int | None = None,
    seed: int = 0,
    batch_size: int = 32,
    rows_per_file: int = ROWS_PER_FILE,
    skip_unreadable: int = UNREADABLE,
    hub: str | PathLike[str] | None = None,
    cache_dir: str | PathLike[str] | None = None,
    offline: bool | None = None,
    progress: bool = False,
) -> ExtractReport:
    """Write the features of images as Parquet; after an interruption, compute what is left.

    A run may be ended at any moment. Every image has one row, whatever was lost and computed again. Images that an
    earlier run could not read are tried again.

    Args:
        model: a pretrained network, by its name or path; or, on this machine, a network.
        inputs: one or several: image files, folders, patterns with wildcards, Parquet files with a column `bytes`,
            `image` or `path`, TFRecord files; paths, or URLs that fsspec knows (s3://, gs://, hf://).
        output: a directory, or a file that ends with .parquet; a path or a URL. It has the columns `path`, `label` if
            an input has labels, and `features`; `_dataset.json`, or the file's metadata, says what they are of.
        stages: one stage of the network, by default its representation; or stages of the trunk, for `pool`.
        pool: the representation that joins the stages, "mpncov", "gap", "bcnn" or "cbp".
        engine: "local", this process, or "ray".
        address: of the Ray cluster, "auto" for the one of this machine; by default the one that Ray is connected to, or
            else a new one on this machine.
        workers: of Ray; by default as many as there is room for, each with the cores of the largest machine or with its
            GPUs.
        gpus_per_worker: of Ray's workers.
        dtype: of the features, "float32" or "float16".
        project: length of the vectors after a sparse random projection.
        pca: number of principal components, which are fitted on a sample of the images; for a directory.
        seed: of the projection or of the sample.
        batch_size: images at once.
        rows_per_file: images that are written together, and computed again if their worker is lost.
        skip_unreadable: how many images may be left out, since they cannot be read; one more ends the run.
        hub: of `mpncov_zoo.load`; where the workers are on other machines, a place that all of them see.
        cache_dir: of `mpncov_zoo.load`.
        offline: of `mpncov_zoo.load`.
        progress: show a bar on standard error.

    Returns:
        What is there now.

    Raises:
        InputError: an argument cannot be used, the output is of another model or other settings, too many images are
            unreadable, a disk is full, a cluster or a store does not answer. What is there stays.
        ZooError: pyarrow, scikit-learn or Ray is missing.
        UnknownModel, NoPretrainedWeights, FetchError, IntegrityError: of `mpncov_zoo.load`.

    Example:
        >>> extract("efficientnet_lite0", ["photos"], "features", stages=["stage5"], pool="mpncov", engine="ray")
    """
    target = os.fspath(output)
    names = [os.fspath(each) for each in ([inputs] if isinstance(inputs, str | PathLike) else inputs)]
    on_ray = {"address": address, "workers": workers, "gpus_per_worker": gpus_per_worker}
    _check_numbers(
        batch_size=(1, batch_size),
        rows_per_file=(1, rows_per_file),
        skip_unreadable=(0, skip_unreadable),
        seed=(0, seed),
    )
    _check_engine(engine, model, **on_ray)
    _check_vectors(target, dtype, project, pca)
    parts = Parts(target)
    parts.description()  # refuses what is no output before the seconds of loading
    listing = list_chunks(names, rows_per_file)
    how = {"stages": stages, "pool": pool, **_anywhere(model, hub, cache_dir), "offline": offline}
    whole, network = extractor(**how)
    shape = _shape(network)
    shortened = {"project": project, "pca": pca, "seed": seed, "batch_size": batch_size}
    compact = shorter(parts, listing.chunks, network, shape, **shortened)
    description = _description(whole, network, pool, compact, shape) | {"dtype": dtype, "label": listing.label_type}
    if isinstance(compact, Components) and parts.description() is None:
        (parts.directory / COMPONENTS).write(compact.to_bytes())  # first: the description has their digest
    parts.begin(description)
    done, _ = parts.done()
    left = [chunk for chunk in (each.without(done) for each in listing.chunks) if chunk is not None]
    work = Work(
        network=how,
        weights_sha256=description["weights"]["sha256"],
        batch_size=batch_size,
        dtype=dtype,
        compact=compact,
        label_type=listing.label_type,
        output=parts.location,
        unreadable=skip_unreadable,
    )
    total = sum(len(chunk.names) for chunk in left)
    logger.info("%s: %d images have features, %d are left", target, len(done), total)
    started = time.perf_counter()
    with progress_bar(total, "image", show=progress) as bar:
        results = _here(work, network, left, bar) if engine == "local" else _on_ray(work, left, bar, **on_ray)
        with closing(results):
            added = _collect(results, skip_unreadable)
    seconds = time.perf_counter() - started
    images, errors, listed = parts.finish()
    if images < len(done) + added:
        missing = len(done) + added - images
        raise InputError(f"{missing} computed rows are not in {target}: all machines must see it under this path.")
    return ExtractReport(
        output=target,
        images=images,
        added=added,
        unreadable=len(errors),
        errors=listed,
        shape=tuple(description["shape"]),
        dtype=dtype,
        seconds=seconds,
        distances_within=distance_bound(project, images) if project else None,
    )


def _check_numbers(**numbers: tuple[int, Any]) -> None:
    """Refuse what is no whole number, or less than the first of a pair."""
    for name, (least, value) in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**63:
            raise InputError(f"{name} must be a whole number, at least {least}. Received: {value!r}.")
    if "seed" in numbers and numbers["seed"][1] >= 2**32:
        raise InputError(f"seed must be less than {2**32}. Received: {numbers['seed'][1]}.")


def _check_engine(engine: str, model: Any, *, address: str | None, workers: int | None, gpus_per_worker: float) -> None:
    if engine not in ENGINES:
        raise InputError(f"engine must be {' or '.join(ENGINES)}. Received: {engine!r}.")
    if engine == "local":
        if address is not None or workers is not None or gpus_per_worker:
            raise InputError("address, workers and gpus_per_worker are for engine ray.")
        return
    require_ray()
    if not isinstance(model, str | PathLike):
        raise InputError("Ray's workers load the network themselves: give its name, or the path of an artifact.")
    if workers is not None:
        _check_numbers(workers=(1, workers))
    if gpus_per_worker < 0 or (gpus_per_worker > 1 and gpus_per_worker % 1):
        raise InputError(f"gpus_per_worker is a share of one GPU, or a whole number. Received: {gpus_per_worker}.")


def _check_vectors(output: str, dtype: str, project: int | None, pca: int | None) -> None:
    if dtype not in DTYPES:
        raise InputError(f"dtype must be {' or '.join(DTYPES)}. Received: {dtype!r}.")
    if project is not None and pca is not None:
        raise InputError("project and pca both shorten the vectors: give one of them.")
    if project is not None or pca is not None:
        require_scikit_learn("Shorter vectors need")
    for name, length in (("project", project), ("pca", pca)):
        if length is not None:
            _check_numbers(**{name: (1, length)})
    if output.endswith((".npy", ".npz")):
        raise InputError(f"{output!r}: the output is a directory, or one file that ends with {SUFFIX}.")
    if pca is not None and output.endswith(SUFFIX):
        raise InputError("pca needs a directory as output, which keeps the components. Received a file.")


def _anywhere(model: Any, hub: str | PathLike[str] | None, cache_dir: str | PathLike[str] | None) -> dict[str, Any]:
    """Where the network comes from, as a process in any directory finds it; names, URLs and networks stay."""
    if isinstance(model, PathLike) or (isinstance(model, str) and is_path(model)):
        model = os.path.abspath(os.path.expanduser(model))
    if hub is not None and isinstance(found := locate(hub), Path):
        hub = found
    return {"model": model, "hub": hub, "cache_dir": None if cache_dir is None else str(cache_root(cache_dir))}


def _shape(network: FeatureExtractor) -> tuple[int, ...]:
    """Of one image's features.

    Raises:
        InputError: it depends on the size of the image.
    """
    ((stage, output),) = network.output.items()
    shape = tuple(output.shape[1:])
    if None in shape:
        raise InputError(f"{stage!r} of a network for any size has features of many shapes: fix input_shape.")
    return shape


def _description(
    whole: ImageClassifier, network: FeatureExtractor, pool: str | None, compact: Compact | None, shape: tuple[int, ...]
) -> dict[str, Any]:
    """What the features are of, as plain data."""
    weights = {"name": whole.load_report.weights, "sha256": weights_digest(whole, network.stages)}
    return {
        "format": FORMAT,
        "model": whole.architecture.name,
        "weights": weights,
        "stages": [*(whole.architecture.stages or ())] if pool else [*network.stages],
        "pool": pool,
        "architecture": whole.architecture.to_dict(),
        "input_shape": list(network.input_shape[1:]),
        "input_specification": network.input_specification.model_dump(mode="json"),
        "compact": None if compact is None else compact.facts,
        "shape": list(shape) if compact is None else [compact.facts["to"]],
        "versions": versions_of(COMPUTING),
    }


def _here(work: Work, network: FeatureExtractor, chunks: Sequence[Chunk], bar: tqdm) -> Generator[Done]:
    worker = Worker(work, network)
    return (worker(chunk, bar.update) for chunk in chunks)


def _on_ray(work: Work, chunks: Sequence[Chunk], bar: tqdm, **where: Any) -> Generator[Done]:
    if chunks:
        for done in compute(work, chunks, **where):
            bar.update(done.rows + len(done.unreadable))
            yield done


def _collect(results: Iterator[Done], allowed: int) -> int:
    """The number of rows that were written; refuses too many unreadable images, which each worker counts alone."""
    rows, errors = 0, {}
    for done in results:
        rows += done.rows
        errors |= done.unreadable
        if len(errors) > allowed:
            raise too_many(errors, allowed)
    return rows
