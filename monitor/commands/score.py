"""`line-monitor score`: scores image files and prints one JSON line for each.

It uses the scorer and the threshold rule of the line. A file that can't be read does not stop the others.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.commands.arguments import (
    FAILED,
    RECIPE_HELP,
    CommandError,
    as_path,
    find_version,
    load_settings,
)

if TYPE_CHECKING:
    from drivers.image_file import Image
    from monitor.inference.scorer import Scorer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help=RECIPE_HELP)
    parser.add_argument(
        "images", type=as_path, nargs="+", metavar="IMAGE", help="image files, or folders of them"
    )
    parser.add_argument(
        "--heatmaps",
        type=as_path,
        metavar="DIR",
        help="also save each image with its anomaly map in DIR",
    )


def run(options: argparse.Namespace) -> int:
    settings = load_settings(options)
    try:
        recipe = find_version(settings, options.recipe)
        all_scored = score_files(
            recipe, list_images(options.images), options.heatmaps, out=print, device=settings.scoring.device
        )
    except OSError as error:
        raise CommandError(str(error)) from None
    return 0 if all_scored else FAILED


def list_images(given: Sequence[Path]) -> list[Path]:
    """The files as they were given; a folder stands for all its images. Raises CommandError."""
    from monitor.training.readable_images import find_image_files

    files: list[Path] = []
    for path in given:
        if not path.is_dir():
            files.append(path)
        elif found := find_image_files(path, CommandError):
            files += found
        else:
            raise CommandError(f"{path}: no images in this folder")
    return files


def score_files(
    recipe: Path,
    images: Sequence[Path],
    heatmaps: Path | None,
    out: Callable[[str], None],
    *,
    device: str = "auto",
) -> bool:
    """Score each image and pass its line to `out` at once. Returns False when an image could not be scored.

    A line is `{"image", "score", "threshold", "verdict"}`, with `"heatmap"` when `heatmaps` is a folder, or
    `{"image", "error"}`. It is ASCII; bytes of a file name that are not UTF-8 become U+FFFD. Where the
    recipe's presence gate finds no part, the score is null, there is no heatmap, and `"reason"` is added.
    Raises RecipeError.
    """
    from drivers.image_file import ImageError
    from monitor.inference.scorer import Scorer
    from monitor.model.recipe_version import RecipeVersion
    from monitor.system.printable import clean_name

    scorer = Scorer(RecipeVersion.load(recipe), device=device)
    taken: set[str] = set()
    all_scored = True
    for file in images:
        try:
            line = _score_file(scorer, file, heatmaps, taken)
        except ImageError as error:
            all_scored = False
            line = {"error": clean_name(str(error))}
        out(json.dumps({"image": clean_name(str(file)), **line}))
    return all_scored


def _score_file(scorer: Scorer, file: Path, heatmaps: Path | None, taken: set[str]) -> dict[str, object]:
    """The result of one image. `taken` are the names of the heatmaps so far. Raises ImageError."""
    from drivers.image_file import read
    from monitor.images.overlay import draw_heatmap
    from monitor.system.printable import clean_name
    from monitor.verdict import Reason, Verdict, judge

    image = read(file)
    (result,) = scorer.inspect([image])
    if result is None:
        return {
            "score": None,
            "threshold": scorer.threshold,
            "verdict": Verdict.PASS.word,
            "reason": Reason.NO_PART.word,
        }
    line: dict[str, object] = {
        "score": result.score if math.isfinite(result.score) else None,
        "threshold": scorer.threshold,
        "verdict": judge(result.score, scorer.threshold)[0].word,
    }
    if heatmaps is not None:
        target = heatmaps / _free_name(file.stem, taken)
        _write_png(target, draw_heatmap(image, result.anomaly_map, scorer.threshold))
        line["heatmap"] = clean_name(str(target))
    return line


def _free_name(stem: str, taken: set[str]) -> str:
    """A file name that is not in `taken`, as images in two folders may have the same name."""
    name, number = f"{stem}.png", 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}.png"
    taken.add(name)
    return name


def _write_png(file: Path, image: Image) -> None:
    """Write the image as a PNG file. Raises ImageError."""
    import cv2

    from drivers.image_file import ImageError

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    except OSError as error:
        raise ImageError(f"its heatmap {file} can't be written: {error.strerror or error}") from None
