"""`fleet rescore`'s driver: the listing in shards, scorer actors of Ray Data, rows into Parquet by day.

It knows nothing of how an image is judged. Memory stays the same however large the archive is: the listing
lies in files, Ray Data keeps only as many blocks as its store holds, and rows go to disk as they come.
"""

from __future__ import annotations

import itertools
import logging
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitor.fleet.archive_listing import ArchiveImage
from monitor.fleet.archive_scorer import ArchiveScorer, JudgingRecipe, ScorerSettings, write_shard
from monitor.fleet.fleet_error import FleetError
from monitor.fleet.ray_cluster import explain_ray_error, task_environment
from monitor.fleet.score_table import DayFiles
from monitor.system.progress import Progress

SHARD = 256
"""Images of one task of an actor: Ray's work for a task is small beside them, and few wait at the end."""


@dataclass(frozen=True)
class Rescoring:
    """What is rescored, by what, and where the rows go."""

    recipes: Sequence[JudgingRecipe]
    folder: Path
    """`-o DIR`, which every node must see under this path."""
    scorer: ScorerSettings
    workers: int
    gpus: float


@dataclass(frozen=True)
class RescoringSummary:
    """What a rescoring has done."""

    images: int
    """Those that were scored, or can't be read."""
    unreadable: int
    challenges: int
    """Snapshots of challenge parts, which are no production and were left out."""


def rescore(
    ray: Any, plan: Rescoring, images: Iterable[ArchiveImage], *, progress: Progress
) -> RescoringSummary:
    """Scores all images and commits the rows. Raises FleetError and leaves the rows of before."""
    files = DayFiles(plan.folder, secrets.token_hex(4))
    try:
        shards, count = _write_listing(files.writing, images, progress)
        scored, unreadable = _score(ray, plan, shards, count, files, progress)
        files.commit()
    finally:
        files.discard()
    # Every other image of the listing has its rows.
    return RescoringSummary(scored, unreadable, challenges=count - scored)


def _write_listing(
    folder: Path, images: Iterable[ArchiveImage], progress: Progress
) -> tuple[Sequence[str], int]:
    """Writes the shards. Returns their paths, and how many images are in them."""
    shards: list[str] = []
    count = 0
    waiting = iter(images)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while entries := list(itertools.islice(waiting, SHARD)):
            file = folder / f"listing-{len(shards):06d}.parquet"
            write_shard(file, entries)
            shards.append(str(file))
            count += len(entries)
            progress.update("list", count, count + 1)
    except OSError as error:
        raise FleetError(f"{folder}: can't be written: {error.strerror or error}; see -o DIR") from None
    progress.update("list", count, count)
    return shards, count


class RowSource:
    """The actor that runs Ray Data on the cluster for a driver elsewhere: Ray Data runs on nodes alone."""

    def __init__(self, plan: Rescoring, shards: Sequence[str]) -> None:
        self._tables = score_shards(plan, shards)

    def take_table(self) -> Any:
        """The next rows; None at the end."""
        return next(self._tables, None)


def score_shards(plan: Rescoring, shards: Sequence[str]) -> Iterator[Any]:
    """The rows of all shards, a table at a time, in any order."""
    from ray.data import ActorPoolStrategy, DataContext, from_items

    DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    rows = from_items([{"shard": shard} for shard in shards], override_num_blocks=len(shards)).map_batches(
        ArchiveScorer,
        fn_constructor_args=(plan.recipes, plan.scorer),
        batch_size=1,
        compute=ActorPoolStrategy(size=min(plan.workers, len(shards))),
        num_cpus=plan.scorer.threads,
        num_gpus=plan.gpus,
        runtime_env=task_environment(plan.scorer.threads),
    )
    yield from rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


def _iterate_tables(ray: Any, plan: Rescoring, shards: Sequence[str]) -> Iterator[Any]:
    if not ray.util.client.ray.is_connected():
        yield from score_shards(plan, shards)
        return
    source = ray.remote(RowSource).options(num_cpus=0).remote(plan, shards)
    while (table := ray.get(source.take_table.remote())) is not None:
        yield table


def _score(
    ray: Any, plan: Rescoring, shards: Sequence[str], count: int, files: DayFiles, progress: Progress
) -> tuple[int, int]:
    """Sends the shards through the actors. Returns how many images have rows, and how many of them can't be
    read."""
    done = unreadable = 0
    try:
        for table in _iterate_tables(ray, plan, shards):
            files.add(table)
            done += table.num_rows
            unreadable += table.num_rows - table.column("error").null_count
            progress.update("rescore", done // len(plan.recipes), count)
    except ray.exceptions.RayError as error:
        raise FleetError(f"the rescoring has ended: {explain_ray_error(error)}") from None
    scored = done // len(plan.recipes)
    if scored < count:
        progress.update("rescore", count, count)
    return scored, unreadable // len(plan.recipes)
