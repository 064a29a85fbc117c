"""A recipe's networks in 8-bit integers (int8), by NNCF, after the training.

It knows nothing of thresholds. It must never look at an image of a defective part, and it must never report
anything over the network.

On a CPU an int8 score takes a third of a float32 score's time; it decides only which parts are clearly good
(`monitor.inference.second_look`). The ranges of the convolutions' inputs come from pictures that trained the
student, so that the calibration images have decided nothing before the threshold. The distances and their
product stay float32 (section 3.3 of the paper: the product of three small numbers). Drawn defects show how
far the int8 scores agree with float32's.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version

import msgspec
import numpy as np
import openvino as ov
from numpy.typing import NDArray

from monitor.images.preprocessing import IndexedImages, normalise_image
from monitor.inference.anomaly_network import build_networks
from monitor.inference.backends import F32, INT8, OPENVINO
from monitor.inference.openvino_network import convert_networks, to_arrays
from monitor.inference.scorer import Scorer
from monitor.model.recipe_json import Quantised
from monitor.model.recipe_version import RecipeVersion, weights_file
from monitor.training.memory_training import LeaveOut
from monitor.training.student_selection import SelectionSet

_RANGE_PICTURES = 64
"""How many pictures determine the ranges. On magnetic tiles 32 gave the same agreement as 100."""
_IN_INT8 = frozenset(("Convolution", "Constant", "Parameter", "Result", "Relu", "MaxPool", "Concat"))
"""The kinds of operation that run in int8. Sums of branches lose too much accuracy: with them in int8 the
rank correlation of the tiles' scores was 0.97 (ResNet-18) and 0.94 (SqueezeNet) instead of 0.99."""


def quantise_recipe(
    recipe: RecipeVersion,
    pictures: IndexedImages,
    train: Sequence[int],
    select: Sequence[int],
    seed: int,
    leave_out: LeaveOut | None = None,
) -> RecipeVersion:
    """The recipe with its int8 model, not yet calibrated for it and not yet committed.

    `pictures` are the network's input by index, uint8 (H, W, 3) BGR or (H, W). The pictures `train` determine
    the ranges. Defects are drawn on the pictures `select` to compare the int8 scores with float32's. For that
    `leave_out` takes the features of the compared pictures out of the memory, as in `first_look`.
    """
    weights = _quantise(recipe, pictures, train)
    entry = Quantised(
        weights=weights_file("quantised", weights),
        agreement=0,
        made_with=f"nncf {version('nncf')}, openvino {version('openvino')}",
    )
    compared = SelectionSet(pictures, train, select, seed)
    good = [*select, *train][: len(compared.indices)]
    images = [compared[index] for index in (*good, *compared.indices)]
    unseen, unseen_weights = recipe, weights
    if leave_out is not None:
        unseen = leave_out([*good, *select])
        unseen_weights = _quantise(unseen, pictures, train)
    scored = replace(unseen.with_changes(quantised=entry), quantised=unseen_weights)
    exact, coarse = (
        [
            float(single.max())
            for single in Scorer(scored, device="cpu", runtime=OPENVINO, precision=precision).maps(images)
        ]
        for precision in (F32, INT8)
    )
    entry = msgspec.structs.replace(
        entry,
        agreement=rank_correlation(exact, coarse),
        # JSON has no value for a number that is not finite. Without pairs float32 scores every image again.
        pairs=tuple(zip(coarse, exact, strict=True)) if np.isfinite([coarse, exact]).all() else (),
    )
    return replace(recipe.with_changes(quantised=entry), quantised=weights)


def _quantise(
    recipe: RecipeVersion, pictures: IndexedImages, train: Sequence[int]
) -> dict[str, NDArray[np.uint8]]:
    """The arrays of the recipe's int8 model, with ranges from the pictures `train`."""
    count = min(_RANGE_PICTURES, len(train))
    chosen = [train[i] for i in np.linspace(0, len(train) - 1, count).astype(int)]
    model = quantise_model(
        convert_networks(build_networks(recipe).folded(), recipe.grid.tile),
        chosen,
        lambda index: normalise_image(pictures[index])[None],
    )
    return to_arrays(model)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation, -1 to 1: how far two scores of n images put them in the same order.

    Equal scores have the mean of their ranks. The correlation is 0 if all scores of one side are equal.
    """
    ranks = [_ranks(np.asarray(scores, np.float64)) for scores in (first, second)]
    centred = [rank - rank.mean() for rank in ranks]
    norm = float(np.sqrt(np.prod([(rank**2).sum() for rank in centred])))
    return float((centred[0] * centred[1]).sum()) / norm if norm else 0.0


def _ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    _, which, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[which], np.float64)


def quantise_model(
    model: ov.Model, chosen: Sequence[int], prepared: Callable[[int], NDArray[np.float32]]
) -> ov.Model:
    """A float32 model with its convolutions in int8.

    The ranges of the convolutions' inputs come from the model's inputs `chosen`; `prepared` returns one of
    them each time it is called.
    """
    with _quiet_nncf():
        import nncf

        nncf.set_log_level(logging.ERROR)
        exact = [op for op in model.get_ordered_ops() if op.get_type_name() not in _IN_INT8]
        return nncf.quantize(
            model,
            nncf.Dataset(chosen, prepared),
            # PERFORMANCE makes all activations symmetric: with the other preset, MIXED, the rank correlation
            # was 0.96 instead of 0.99.
            preset=nncf.QuantizationPreset.PERFORMANCE,
            subset_size=len(chosen),
            ignored_scope=nncf.IgnoredScope(
                names=[op.get_friendly_name() for op in exact],
                validate=False,
            ),
        )


@contextlib.contextmanager
def _quiet_nncf() -> Iterator[None]:
    """Runs NNCF without its progress bars on stdout, its warning about a CUDA compiler and its telemetry."""
    before = os.environ.get("NNCF_CI")
    # NNCF reads this at its import: it sends no telemetry from its own test machines.
    os.environ["NNCF_CI"] = "1"
    compiler = logging.getLogger("torch.utils.cpp_extension")
    level = compiler.level
    compiler.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        compiler.setLevel(level)
        if before is None:
            del os.environ["NNCF_CI"]
        else:
            os.environ["NNCF_CI"] = before
