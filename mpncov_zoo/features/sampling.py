"""What makes the vectors of a run shorter: a projection, or components that are fitted on a sample of its images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mpncov_zoo.errors import InputError
from mpncov_zoo.features.chunks import Chunk
from mpncov_zoo.features.compact import Compact, Components, Projection, require_fewer
from mpncov_zoo.features.extraction import Extract
from mpncov_zoo.features.parts import COMPONENTS, Parts

if TYPE_CHECKING:
    from mpncov_zoo.classifier import FeatureExtractor

SAMPLE, SAMPLE_PER_COMPONENT = 2000, 4  # images that components are fitted on: so many, or so many for each


def shorter(
    parts: Parts,
    chunks: Sequence[Chunk],
    network: FeatureExtractor,
    shape: tuple[int, ...],
    *,
    project: int | None,
    pca: int | None,
    seed: int,
    batch_size: int,
) -> Compact | None:
    """The projection or the components; components that an earlier run into this output fitted are taken again.

    Args:
        parts: the output.
        chunks: all images.
        network: of the features.
        shape: of one image's.
        project: length of the vectors after a projection.
        pca: number of components.
        seed: of the projection, or of the sample.
        batch_size: images at once.

    Raises:
        InputError: the features are no vectors, or not longer; there are too few images.
    """
    if project is None and pca is None:
        return None
    if len(shape) != 1:
        raise InputError(f"Only vectors can be made shorter. Received features of {'x'.join(map(str, shape))}.")
    if project is not None:
        return Projection(shape[0], project, seed)
    assert pca is not None
    require_fewer("pca", pca, shape[0])
    if parts.description() is not None and COMPONENTS in parts.directory.names():
        found = Components.from_bytes((parts.directory / COMPONENTS).read())
        if (len(found.components), found.seed) != (pca, seed):
            there = f"{len(found.components)} components of seed {found.seed}"
            raise InputError(f"{parts.output} holds other features ({there}). Give another output.")
        return found
    count = max(SAMPLE, SAMPLE_PER_COMPONENT * pca)
    return Components.fitted(_sample(chunks, network, count, seed, batch_size), pca, seed)


def _sample(chunks: Sequence[Chunk], network: FeatureExtractor, count: int, seed: int, batch_size: int) -> np.ndarray:
    """The features, float32 (images, features), of images drawn at random; those that cannot be read are left out."""
    ends = np.cumsum([len(chunk.names) for chunk in chunks])
    chosen = np.sort(np.random.default_rng(seed).permutation(ends[-1])[:count])
    owners = np.searchsorted(ends, chosen, side="right")
    extract, blocks = Extract(network), []
    for owner in np.unique(owners):
        chunk = chunks[owner]
        positions = (chosen[owners == owner] - (ends[owner] - len(chunk.names))).tolist()
        names = [chunk.names[at] for at in positions]
        images = (image for image, _ in chunk.source.only(positions).read())
        for _, rows in extract.files(names, batch_size, images):
            blocks += [*rows.features.values()]
    return np.concatenate(blocks)
