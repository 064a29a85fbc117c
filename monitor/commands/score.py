"""Scoring image files from the command line: one JSON line an image.

The same scorer and the same judgement as on the line. One bad file never keeps the others from being scored.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2

from drivers.image_file import Image, ImageError, read
from monitor.commands.arguments import FAILED, CommandError, load_settings
from monitor.images.overlay import draw_heatmap
from monitor.model.recipe_version import RecipeVersion
from monitor.system.printable import legible
from monitor.verdict import Reason, Verdict, judge


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    parser.add_argument("--heatmaps", type=Path, metavar="DIR", help="also draw the anomaly maps there")


def run(options: argparse.Namespace) -> int:
    from monitor import paths

    settings = load_settings(options)
    try:
        recipe = paths.recipe(settings, options.recipe)
        whole = score_files(
            recipe, options.images, options.heatmaps, out=print, device=settings.scoring.device
        )
    except OSError as error:
        raise CommandError(str(error)) from None
    return 0 if whole else FAILED


def score_files(
    recipe: Path,
    images: Sequence[Path],
    heatmaps: Path | None,
    out: Callable[[str], None],
    *,
    device: str = "auto",
) -> bool:
    """Scores each image; `out` gets a line for it as soon as it is done.

    A line is `{"image", "score", "threshold", "verdict"}`, with `"heatmap"` when `heatmaps` names a folder to
    draw them into, or `{"image", "error"}`; all in ASCII, what is no UTF-8 in a name as U+FFFD. Where the
    recipe's presence gate sees no part, the score is null, there is no heatmap, and a `"reason"` says so.
    False when there was an error. Raises RecipeError.
    """
    from monitor.inference.scorer import Scorer

    loaded = RecipeVersion.load(recipe)
    scorer = Scorer(loaded, device=device)
    taken: set[str] = set()
    whole = True
    for file in images:
        line: dict[str, object] = {"image": legible(str(file))}
        try:
            image = read(file)
            (result,) = scorer.inspect([image])
            if result is None:
                line["score"], line["threshold"] = None, scorer.threshold
                line["verdict"], line["reason"] = Verdict.PASS.word, Reason.NO_PART.word
                out(json.dumps(line))
                continue
            line["score"] = result.score if math.isfinite(result.score) else None
            line["threshold"] = scorer.threshold
            line["verdict"] = judge(result.score, scorer.threshold)[0].word
            if heatmaps is not None:
                target = heatmaps / _free_name(file.stem, taken)
                _write(target, draw_heatmap(image, result.anomaly_map, scorer.threshold))
                line["heatmap"] = legible(str(target))
        except ImageError as error:
            whole = False
            line = {"image": legible(str(file)), "error": legible(str(error))}
        out(json.dumps(line))
    return whole


def _free_name(stem: str, taken: set[str]) -> str:
    """A file name that no image before it in this run has; images in two folders may be called the same."""
    name, again = f"{stem}.png", 1
    while name in taken:
        again += 1
        name = f"{stem}-{again}.png"
    taken.add(name)
    return name


def _write(file: Path, image: Image) -> None:
    """Raises ImageError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    except OSError as error:
        raise ImageError(f"its heatmap {file} can't be written: {error.strerror or error}") from None
