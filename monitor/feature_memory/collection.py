"""Collects the features that a memory keeps: some places of every good image, drawn at random.

It knows nothing of thresholds or recipes.

Each image gives its own features, which are drawn without a look at any other image, and projection and
channel deviations come from no image that calibrates. So leaving an image's features out can only raise its
score, and a threshold from such scores keeps its guarantee (`monitor.training.memory_training`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from monitor.feature_memory.embedding import DIMENSIONS, POOLINGS, LevelEmbedding, draw_projection
from monitor.feature_memory.memory import KEPT, PROJECTION
from monitor.images.preprocessing import IndexedImages, normalise_image
from monitor.model.weights import Weights
from monitor.pyramid import Features

KEPT_FEATURES = 2000
"""The largest number of kept places."""
_BATCH = 8


@dataclass(frozen=True)
class Collection:
    """The arrays of a memory, and from which image each kept place comes."""

    arrays: Weights
    owners: NDArray[np.int64]
    """(K,): the index of each kept place's image."""


@torch.inference_mode()
def collect_features(
    teacher: nn.Module,
    pictures: IndexedImages,
    inputs: Sequence[Sequence[int]],
    *,
    seed: int,
    device: torch.device,
    add_progress: Callable[[int], None] = lambda count: None,
) -> Collection:
    """The memory of the images `inputs`: at each kept place of level 2 a feature of each level.

    `inputs` has, for each image, the indices of its pictures: one without tiles. `teacher` is a trunk with
    channel scaling in eval mode on `device`. Every image gives equally many places, at least one; of more
    than 2,000 images, 2,000 drawn at random give one each. The random places depend on the seed and on the
    image's number alone.
    """
    chosen = _draw_images(len(inputs), seed)
    each = max(1, KEPT_FEATURES // len(chosen))
    embeddings: list[LevelEmbedding] = []
    kept: list[list[Tensor]] = [[] for _ in KEPT]
    owners: list[int] = []
    for number in chosen:
        by_level: list[list[Tensor]] = [[] for _ in KEPT]
        for start in range(0, len(inputs[number]), _BATCH):
            batch = [normalise_image(pictures[index]) for index in inputs[number][start : start + _BATCH]]
            levels = teacher(torch.from_numpy(np.stack(batch)).to(device, memory_format=torch.channels_last))
            if not embeddings:
                embeddings = [embedding.to(device) for embedding in _draw_embeddings(levels, seed)]
            embedded = [embed(level) for embed, level in zip(embeddings, levels, strict=True)]
            for own, vectors in zip(by_level, embedded, strict=True):
                own.append(_at_places(vectors, embedded[1].shape[1:3]).flatten(0, 2))
        places = sum(map(len, by_level[1]))
        drawn = torch.from_numpy(np.random.default_rng((seed, number)).permutation(places)[:each]).to(device)
        for own, found in zip(kept, by_level, strict=True):
            own.append(torch.cat(found)[drawn].cpu())
        owners += [number] * len(drawn)
        add_progress(1)
    arrays = {name: torch.cat(own).numpy() for name, own in zip(KEPT, kept, strict=True)}
    for name, embedding in zip(PROJECTION, embeddings, strict=True):
        arrays[name] = embedding.projection.cpu().numpy()
    return Collection(arrays, np.array(owners, np.int64))


def _draw_embeddings(levels: Features, seed: int) -> list[LevelEmbedding]:
    return [
        LevelEmbedding(draw_projection(level.shape[1], seed, dimensions), pooling)
        for level, dimensions, pooling in zip(levels, DIMENSIONS, POOLINGS, strict=True)
    ]


def _at_places(vectors: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, H, W, D) to (N, *size, D): for each of the `size` places, the vector of the place around it."""
    (rows, columns), (height, width) = vectors.shape[1:3], size
    row = torch.arange(height, device=vectors.device) * rows // height
    column = torch.arange(width, device=vectors.device) * columns // width
    return vectors[:, row[:, None], column]


def _draw_images(count: int, seed: int) -> list[int]:
    if count <= KEPT_FEATURES:
        return list(range(count))
    drawn: list[int] = sorted(np.random.default_rng(seed).permutation(count)[:KEPT_FEATURES].tolist())
    return drawn
