"""A recipe's teacher and student in 8-bit integers: a third of float32's time on a CPU, for parts that are
clearly good.

After training, by NNCF: the ranges of the convolutions' inputs come from pictures that trained, so that the
images that calibrate have chosen nothing. Distances and product stay float32 (section 3.3: the product of
three small numbers). How far its scores agree with float32's is measured on drawn defects. Must never look at
a defective image, nor report to anybody over the network.
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

from monitor.images.preprocessing import Pictures, normalised
from monitor.inference.backends import F32, INT8, OPENVINO
from monitor.inference.openvino_network import converted, kept
from monitor.inference.scorer import Scorer
from monitor.inference.torch_network import folded, trunks
from monitor.model.recipe_document import Quantised
from monitor.model.recipe_version import RecipeVersion, weights_file
from monitor.training.student_selection import Trial

_ENOUGH = 64
"""Pictures for the ranges. On magnetic tiles 32 did as well as 100."""
_IN_EIGHT_BITS = frozenset(("Convolution", "Constant", "Parameter", "Result", "Relu", "MaxPool", "Concat"))
"""Kinds of operation. Sums of branches lose too much: with them in 8 bits the ranks of the tiles' scores
agreed to 0.97 (ResNet-18) and 0.94 (SqueezeNet) instead of 0.99."""


def quantised(
    recipe: RecipeVersion, pictures: Pictures, train: Sequence[int], select: Sequence[int], seed: int
) -> RecipeVersion:
    """The recipe with its 8-bit model, not yet calibrated for it nor committed.

    `pictures` by index are what the network sees, uint8 (H, W, 3) BGR or (H, W); `train` are those that
    trained, and `select` those on which defects are drawn to see how far the scores agree with float32's.
    """
    teacher, student = trunks(recipe)
    chosen = [train[i] for i in np.linspace(0, len(train) - 1, min(_ENOUGH, len(train))).astype(int)]
    model = in_eight_bits(
        converted(folded(teacher), folded(student), recipe.grid.tile),
        chosen,
        lambda index: normalised(pictures[index])[None],
    )
    weights = kept(model)
    entry = Quantised(
        weights=weights_file("quantised", weights),
        agreement=0,
        made_with=f"nncf {version('nncf')}, openvino {version('openvino')}",
    )
    draft = replace(
        recipe, document=msgspec.structs.replace(recipe.document, quantised=entry), quantised=weights
    )
    trial = Trial(pictures, train, select, seed)
    shown = [trial[index] for index in (*[*select, *train][: len(trial.indices)], *trial.indices)]
    exact, coarse = (
        [
            float(single.max())
            for single in Scorer(draft, device="cpu", runtime=OPENVINO, precision=precision).maps(shown)
        ]
        for precision in (F32, INT8)
    )
    entry = msgspec.structs.replace(
        entry,
        agreement=rank_correlation(exact, coarse),
        # JSON has no word for what is no number; without pairs float32 looks at everything again.
        pairs=tuple(zip(coarse, exact, strict=True)) if np.isfinite([coarse, exact]).all() else (),
    )
    return replace(draft, document=msgspec.structs.replace(draft.document, quantised=entry))


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's, -1 to 1: how far two ways of scoring put n images in the same order; 0 when one of them
    makes no difference between any. Equal scores share their places' mean."""
    ranks = [_ranks(np.asarray(scores, np.float64)) for scores in (first, second)]
    centred = [rank - rank.mean() for rank in ranks]
    norm = float(np.sqrt(np.prod([(rank**2).sum() for rank in centred])))
    return float((centred[0] * centred[1]).sum()) / norm if norm else 0.0


def _ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    _, which, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[which], np.float64)


def in_eight_bits(
    model: ov.Model, chosen: Sequence[int], prepared: Callable[[int], NDArray[np.float32]]
) -> ov.Model:
    """A float32 model with its convolutions in 8 bits, for the ranges that its inputs bring about: `prepared`
    gives each of the chosen ones, whenever it is asked."""
    with _nncf_in_silence():
        import nncf

        nncf.set_log_level(logging.ERROR)
        exact = [op for op in model.get_ordered_ops() if op.get_type_name() not in _IN_EIGHT_BITS]
        return nncf.quantize(
            model,
            nncf.Dataset(chosen, prepared),
            # Activations symmetric, all of them: the other preset agreed to 0.96 instead of 0.99.
            preset=nncf.QuantizationPreset.PERFORMANCE,
            subset_size=len(chosen),
            ignored_scope=nncf.IgnoredScope(
                names=[op.get_friendly_name() for op in exact],
                validate=False,
            ),
        )


@contextlib.contextmanager
def _nncf_in_silence() -> Iterator[None]:
    """Without its progress bars on stdout, the warning that there is no CUDA compiler, and its telemetry."""
    before = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"  # read at import: nothing is sent from where its makers test it
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
