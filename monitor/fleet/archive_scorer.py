"""Scores the images of an archive, as an actor of Ray Data: a shard of the listing in, rows out.

It knows nothing of Ray. One actor holds one scorer for each recipe and two chunks of images at most.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivers.image_file import Image, ImageError, decode
from monitor.fleet.archive_listing import ArchiveImage, read_image_bytes
from monitor.fleet.fleet_error import FleetError
from monitor.fleet.score_table import make_schema
from monitor.model.in_force import find_asked, find_in_force
from monitor.model.recipe_version import RecipeVersion
from monitor.names import join_version
from monitor.snapshots.labels import details_of, parse_document
from monitor.verdict import Reason, Verdict, judge

if TYPE_CHECKING:
    from monitor.inference.scorer import Scorer, ScoreResult

_CHUNK = 8
"""Images that are decoded while the chunk before them is scored, and scored together."""
_READERS = 4


@dataclass(frozen=True)
class JudgingRecipe:
    """One version of a recipe that judges the archive: its number, its document, and the sha256 that every
    node must find."""

    name: str
    version: int
    document: Path
    sha: str


@dataclass(frozen=True)
class ScorerSettings:
    """How an actor computes scores, as in `[scoring]` of the settings."""

    device: str
    runtime: str
    precision: str
    threads: int


@dataclass(frozen=True)
class _ReadImage:
    """An image or why it can't be read, with what its snapshot's `.json` says."""

    entry: ArchiveImage
    image: Image | None
    error: str
    line: dict[str, Any]


class ArchiveScorer:
    """The recipes on one node."""

    def __init__(self, recipes: Sequence[JudgingRecipe], settings: ScorerSettings) -> None:
        import cv2
        import torch

        torch.set_num_threads(settings.threads)
        cv2.setNumThreads(settings.threads)
        self._judges = [(recipe, _load_scorer(recipe, settings)) for recipe in recipes]
        self._readers = ThreadPoolExecutor(max_workers=_READERS)

    def __call__(self, batch: dict[str, Any]) -> Any:
        """A batch of paths of shards of the listing (`write_shard`), to one table of rows."""
        import pyarrow

        rows = [row for shard in batch["shard"] for row in self.rows(read_shard(Path(str(shard))))]
        return pyarrow.Table.from_pylist(rows, schema=make_schema())

    def rows(self, entries: Sequence[ArchiveImage]) -> Iterator[dict[str, Any]]:
        """The rows of these images. An image that can't be read is uninspected. Only a snapshot of a
        challenge part has no row: it is no production."""
        chunks = [entries[start : start + _CHUNK] for start in range(0, len(entries), _CHUNK)]
        waiting = [self._readers.submit(_read_image, entry) for entry in (chunks[0] if chunks else ())]
        for following in [*chunks[1:], ()]:
            found = (reading.result() for reading in waiting)
            ready = [read for read in found if read is not None]
            waiting = [self._readers.submit(_read_image, entry) for entry in following]
            for recipe, scorer in self._judges:
                yield from _judge_chunk(recipe, scorer, ready)


def _load_scorer(recipe: JudgingRecipe, settings: ScorerSettings) -> Scorer:
    from monitor.inference.scorer import Scorer

    version = RecipeVersion.load(recipe.document)
    if version.sha != recipe.sha:
        raise FleetError(
            f"{recipe.document}: it is not {join_version(recipe.name, recipe.version)} here (sha256 "
            f"{version.sha[:12]}, not {recipe.sha[:12]}): line.data must be one shared folder; start again "
            "if the recipe was replaced"
        )
    return Scorer(version, device=settings.device, runtime=settings.runtime, precision=settings.precision)


def find_recipe(recipes: Path, given: str) -> JudgingRecipe:
    """The version that `NAME@VERSION` names, or the one in force for `NAME` or for a recipe's folder; a
    document stands for its version. What has a `/` is a folder or document, also outside of `recipes`.

    Raises RecipeError and InvalidNameError.
    """
    if "/" not in given:
        found = find_asked(recipes, given)
        # Verdicts carry the folder's name, which a copied recipe's document does not have.
        return JudgingRecipe(found.folder.name, found.number, found.file, RecipeVersion.load(found.file).sha)
    place = Path(given).absolute()
    document = find_in_force(place).file if place.is_dir() else place
    version = RecipeVersion.load(document)
    return JudgingRecipe(version.name, version.number, document, version.sha)


def _read_image(entry: ArchiveImage) -> _ReadImage | None:
    """None for a snapshot of a challenge part."""
    document = _read_document(entry)
    if document is not None and details_of(document).challenge:
        return None
    image, error = None, ""
    try:
        image = decode(read_image_bytes(entry.image))
    except ImageError as found:
        error = str(found)
    return _ReadImage(entry, image, error, _list_line_verdict(document) if document is not None else {})


def _read_document(entry: ArchiveImage) -> dict[str, Any] | None:
    """A snapshot's `.json`; None for an image that is no snapshot."""
    if entry.camera is None:
        return None
    try:
        return parse_document(read_image_bytes(f"{entry.image.rpartition('.')[0]}.json"))
    except (ImageError, ValueError):
        # Without a `.json` that can be read nothing is known of the line's verdict.
        return None


def _list_line_verdict(document: dict[str, Any]) -> dict[str, Any]:
    """The columns of the line's own verdict and of the label."""
    details = details_of(document)
    version = document.get("version")
    return {
        "label": details.label.value if details.label else None,
        "line_recipe": details.recipe or None,
        "line_version": version if type(version) is int else None,
        "line_recipe_sha": details.recipe_sha or None,
        "line_score": details.score,
        "line_threshold": details.threshold,
        "line_verdict": details.verdict or None,
    }


def _judge_chunk(
    recipe: JudgingRecipe, scorer: Scorer, chunk: Sequence[_ReadImage]
) -> Iterator[dict[str, Any]]:
    images = [read.image for read in chunk if read.image is not None]
    results = iter(scorer.inspect(images) if images else ())
    for read in chunk:
        result = next(results) if read.image is not None else None
        yield {
            "image": read.entry.image,
            "captured_utc": read.entry.captured_utc,
            "camera": read.entry.camera,
            "recipe": recipe.name,
            "version": recipe.version,
            "recipe_sha": recipe.sha,
            "threshold": scorer.threshold,
            "error": read.error or None,
            **judge_image(result, scorer.threshold, is_readable=read.image is not None),
            **read.line,
        }


def judge_image(result: ScoreResult | None, threshold: float, *, is_readable: bool) -> dict[str, Any]:
    """The columns `score`, `verdict` and `reason`. No result of a readable image: the gate saw no part."""
    if not is_readable:
        verdict, reason, score = Verdict.UNINSPECTED, Reason.BAD_FRAME, None
    elif result is None:
        verdict, reason, score = Verdict.PASS, Reason.NO_PART, None
    else:
        verdict, reason = judge(result.score, threshold)
        score = result.score if math.isfinite(result.score) else None
    return {"score": score, "verdict": verdict.word, "reason": reason.word}


def write_shard(file: Path, entries: Sequence[ArchiveImage]) -> None:
    """Writes a part of the listing. Raises OSError."""
    import pyarrow
    import pyarrow.parquet

    columns = {
        "image": [entry.image for entry in entries],
        "captured_utc": [entry.captured_utc for entry in entries],
        "camera": [entry.camera for entry in entries],
    }
    schema = pyarrow.schema({name: pyarrow.string() for name in columns})
    pyarrow.parquet.write_table(pyarrow.table(columns, schema=schema), file)


def read_shard(file: Path) -> list[ArchiveImage]:
    """Raises FleetError."""
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(file).to_pylist()
    except OSError as error:
        raise FleetError(
            f"{file}: {error.strerror or error}: -o DIR must be one shared folder, at the same path on "
            "every node"
        ) from None
    return [ArchiveImage(**row) for row in rows]
