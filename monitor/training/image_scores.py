"""The scores of image files.

It knows nothing of what the images show or what their scores are for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from drivers import image_file
from monitor.inference.scorer import Scorer
from monitor.system.progress import Progress
from monitor.training.readable_images import read_images

_BATCH = 8
_BATCH_BYTES = 64 << 20
"""A batch is scored as soon as its images take this much memory; one image of 6000x4500 pixels takes more."""
EMPTY = 0.0
"""The score of a frame in which the presence gate finds no part: it passes at every threshold."""


def score_files(
    scorer: Scorer,
    files: Sequence[Path],
    say: Callable[[str], None],
    progress: Progress,
    task: str,
    *,
    gated: bool = False,
) -> list[tuple[Path, float]]:
    """Each readable file with its score, in order. `say` gets one line about each of the others.

    `gated`: the recipe's presence gate decides first, and a frame without a part has the score `EMPTY`.
    """
    scored: list[tuple[Path, float]] = []
    batch: list[tuple[Path, image_file.Image]] = []
    skipped: list[str] = []
    for done, file in enumerate(files, start=1):
        batch += [(name, image) for name, _, image in read_images([file], skipped.append)]
        full = len(batch) == _BATCH or sum(image.nbytes for _, image in batch) >= _BATCH_BYTES
        if batch and (full or done == len(files)):
            images = [image for _, image in batch]
            results = scorer.inspect(images) if gated else scorer.score(images)
            scored += [
                (name, EMPTY if result is None else result.score)
                for (name, _), result in zip(batch, results, strict=True)
            ]
            batch = []
        progress.update(task, done, len(files))
    for line in skipped:
        say(line)
    return scored
