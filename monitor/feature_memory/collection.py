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
from torch import Tensor

from monitor.feature_memory.embedding import LevelEmbedding, draw_projection
from monitor.feature_memory.memory import kept_name, projection_name
from monitor.images.preprocessing import IndexedImages, normalise_image
from monitor.model.memory_level import MEMORY_LEVELS, numbers_of
from monitor.model.weights import Weights
from monitor.pyramid import Features

DIMENSIONS = (32, 64, 64, 64)
"""The length of a feature vector, by compared level (`MEMORY_LEVELS`)."""
KEPT_FEATURES = (2000, 2000, 4000, 4000)
"""The largest number of kept features by compared level; the smallest of them bounds the number of images.
Levels 4 and 5 have few places, so comparing with one of their features costs least."""
_BATCH = 8


@dataclass(frozen=True)
class Collection:
    """The arrays of a memory, and from which image each kept feature comes."""

    arrays: Weights
    owners: tuple[NDArray[np.int64], ...]
    """By compared level, (K_l,): the index of each kept feature's image."""


@torch.inference_mode()
def collect_features(
    teachers: Callable[[Tensor], Features],
    pictures: IndexedImages,
    inputs: Sequence[Sequence[int]],
    *,
    seed: int,
    device: torch.device,
    add_progress: Callable[[int], None] = lambda count: None,
) -> Collection:
    """The memory of the images `inputs`: of each level, the features at some places of every image.

    `inputs` has, for each image, the indices of its pictures: one without tiles. `teachers` gives all levels
    of the trunks with channel scaling, in eval mode on `device`. Of each level every image gives equally many
    places, but none twice. Of more than 2,000 images, 2,000 drawn at random give theirs. Which places an
    image gives depends on the seed, the level and the image's number alone.
    """
    chosen = _draw_images(len(inputs), seed)
    embeddings: list[LevelEmbedding] = []
    kept: list[list[Tensor]] = [[] for _ in MEMORY_LEVELS]
    owners: list[list[int]] = [[] for _ in MEMORY_LEVELS]
    for number in chosen:
        by_level: list[list[Tensor]] = [[] for _ in MEMORY_LEVELS]
        for start in range(0, len(inputs[number]), _BATCH):
            batch = [normalise_image(pictures[index]) for index in inputs[number][start : start + _BATCH]]
            found = teachers(torch.from_numpy(np.stack(batch)).to(device, memory_format=torch.channels_last))
            levels = [found[level - 1] for level in numbers_of(MEMORY_LEVELS)]
            if not embeddings:
                embeddings = [embedding.to(device) for embedding in _draw_embeddings(levels, seed)]
            embedded = [embed(level) for embed, level in zip(embeddings, levels, strict=True)]
            for own, vectors in zip(by_level, embedded, strict=True):
                own.append(vectors.flatten(0, 2))
        for level, vectors in enumerate(map(torch.cat, by_level)):
            each = max(1, KEPT_FEATURES[level] // len(chosen))
            places = np.random.default_rng((seed, number, level)).permutation(len(vectors))
            drawn = torch.from_numpy(places[:each])
            kept[level].append(vectors[drawn.to(device)].cpu())
            owners[level] += [number] * len(drawn)
        add_progress(1)
    arrays = {}
    for level, own, embedding in zip(numbers_of(MEMORY_LEVELS), kept, embeddings, strict=True):
        arrays[kept_name(level)] = torch.cat(own).numpy()
        arrays[projection_name(level)] = embedding.projection.cpu().numpy()
    return Collection(arrays, tuple(np.array(own, np.int64) for own in owners))


def _draw_embeddings(levels: Features, seed: int) -> list[LevelEmbedding]:
    return [
        LevelEmbedding(draw_projection(level.shape[1], seed, dimensions), compared)
        for level, dimensions, compared in zip(levels, DIMENSIONS, MEMORY_LEVELS, strict=True)
    ]


def _draw_images(count: int, seed: int) -> list[int]:
    most = min(KEPT_FEATURES)
    if count <= most:
        return list(range(count))
    drawn: list[int] = sorted(np.random.default_rng(seed).permutation(count)[:most].tolist())
    return drawn
