"""The pairs of bfloat16 and float32 scores from which a recipe knows when a bfloat16 score may pass a part.

It knows nothing of thresholds. The pairs are made where the processor has bfloat16, from good images and
copies of them with drawn defects; no image of a real defect is used. On other machines the recipe gets no
pairs, and bfloat16 is not used until `calibrate` has made them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from drivers import image_file
from drivers.image_file import Image
from monitor.images.preprocessing import IndexedImages, normalise_image, resize_image
from monitor.inference.anomaly_network import AnomalyNetwork, Networks, build_networks
from monitor.inference.backends import BF16, OPENVINO, TORCH, has_openvino
from monitor.inference.torch_network import TorchNetwork
from monitor.model.recipe_json import FirstLook
from monitor.model.recipe_version import RecipeVersion
from monitor.system.processor import describe_processor, has_native_bf16
from monitor.training.examples import TilePictures
from monitor.training.memory_training import LeaveOut
from monitor.training.student_selection import SelectionSet

_GOOD = 24
"""The largest number of good pictures in the pairs; there are as many with a drawn defect."""

_Maps = Callable[[Tensor], Tensor]
"""Images to the maps of `AnomalyNetwork.forward_each`."""


def add_first_looks(
    recipe: RecipeVersion,
    pictures: IndexedImages,
    train: Sequence[int],
    select: Sequence[int],
    seed: int,
    leave_out: LeaveOut | None = None,
) -> RecipeVersion:
    """The recipe with pairs for each runtime here; unchanged where the processor has no bfloat16.

    `pictures` are the network's input by index, uint8 (H, W, 3) BGR or (H, W). Defects are drawn on the
    pictures `select`, with pieces of the pictures `train`; either may be empty, as where the memory alone
    judges. `leave_out` gives the recipe without what some of the pictures gave to its memory: an image that
    a memory knows has distances of 0, of which bfloat16 gives no ratio that a new part could have.
    """
    if not has_native_bf16() or not (train or select):
        return recipe
    compared = SelectionSet(pictures, train or select, select or train, seed)
    good = [*select, *train]
    chosen = [*_spread(good), *_spread(compared.indices)]
    images = [compared[index] for index in chosen]
    unseen = leave_out([*_spread(good), *(select or train)]) if leave_out else recipe
    exact = _scores(_torch_maps(unseen, bfloat16=False), images)
    quick = {TORCH: _torch_maps(unseen, bfloat16=True)}
    if has_openvino():
        quick[OPENVINO] = _openvino_maps(unseen)
    found = {
        f"{runtime}-{BF16}": _first_look(_scores(maps, images), exact, runtime)
        for runtime, maps in quick.items()
    }
    before = recipe.document.first_looks
    renewed = {key: _choose(before.get(key), new) for key, new in found.items()}
    return recipe.with_changes(first_looks={**before, **renewed})


def add_first_looks_of_files(recipe: RecipeVersion, files: Sequence[Path]) -> RecipeVersion:
    """The same from image files of good parts."""
    if not has_native_bf16():
        return recipe
    pictures = [resize_image(image_file.read(files[i]), recipe.size) for i in _spread(range(len(files)))]
    tiles = TilePictures(pictures, recipe.grid)
    indices = tiles.indices(range(len(pictures)), seed=0)
    return add_first_looks(recipe, tiles, indices, indices, seed=0)


def _choose(before: FirstLook | None, new: FirstLook) -> FirstLook:
    """The new pairs, unless there are more of the same processor and library: fewer images show less of how
    far the scores are apart, and a margin from them could be narrower. A threshold changes no pair."""
    if before is None or before.made_with != new.made_with or len(new.pairs) >= len(before.pairs):
        return new
    return before


def _spread(indices: Sequence[int]) -> list[int]:
    """At most `_GOOD` of the indices, evenly spread."""
    return [indices[i] for i in np.linspace(0, len(indices) - 1, min(_GOOD, len(indices))).astype(int)]


def _first_look(quick: NDArray[np.float64], exact: NDArray[np.float64], package: str) -> FirstLook:
    """The pairs of one runtime; columns of `quick` and `exact` are the maps of `forward_each`.

    JSON has no value for a number that is not finite. Without pairs float32 scores every image again.
    """
    columns = []
    if np.isfinite(quick).all() and np.isfinite(exact).all():
        columns = [
            tuple(zip(own.tolist(), other.tolist(), strict=True))
            for own, other in zip(quick.T, exact.T, strict=True)
        ]
    pairs, student, memory = [*columns, (), (), ()][:3]
    made_with = f"{describe_processor()}, {package} {version(package)}"
    return FirstLook(pairs=pairs, student=student, memory=memory, made_with=made_with)


def _scores(maps: _Maps, images: Sequence[Image]) -> NDArray[np.float64]:
    """The highest value of each of an image's maps, (N, M)."""
    rows = [
        maps(torch.from_numpy(normalise_image(image)[None])).flatten(2).amax(2)[0].numpy() for image in images
    ]
    return np.array(rows, np.float64)


def _torch_maps(recipe: RecipeVersion, *, bfloat16: bool) -> _Maps:
    cpu = torch.device("cpu")
    return TorchNetwork(build_networks(recipe), cpu, half=False, bfloat16=bfloat16).maps_each


class _EachMap(nn.Module):
    """`AnomalyNetwork.forward_each` as a module."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.network = AnomalyNetwork(networks)

    def forward(self, images: Tensor) -> Tensor:
        return self.network.forward_each(images)


def _openvino_maps(recipe: RecipeVersion) -> _Maps:
    from monitor.inference.openvino_network import OpenVinoNetwork, convert_module

    module = _EachMap(build_networks(recipe).folded()).eval().requires_grad_(False)
    model = convert_module(module, torch.zeros(1, 3, *recipe.grid.tile))
    return OpenVinoNetwork(model, torch.get_num_threads(), bfloat16=True)
