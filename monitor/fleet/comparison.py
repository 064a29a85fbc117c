"""`fleet compare`: which verdicts of a rescored archive change, by DuckDB over its Parquet files.

It knows nothing of Ray or of scorers. What the line decided then counts as a version of its own, called
`line`. A version is called `NAME@VERSION`; where two data folders have given that name to two versions, the
first digits of their sha256 follow.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitor.fleet.fleet_error import FleetError, require_packages
from monitor.fleet.score_table import DAY_FOLDER

LINE = "line"
"""The verdicts that the line itself published."""
_VERDICTS = """
CREATE TEMP VIEW scores AS
    SELECT * FROM read_parquet({files}, hive_partitioning = false, union_by_name = true);
CREATE TEMP TABLE judges AS
    SELECT recipe, version, recipe_sha, recipe || '@' || version || CASE
        WHEN count(*) OVER (PARTITION BY recipe, version) > 1 THEN '-' || recipe_sha[:12] ELSE ''
        END AS judge
    FROM (SELECT DISTINCT recipe, version, recipe_sha FROM scores);
CREATE TEMP VIEW verdicts AS
    SELECT DISTINCT ON (image, judge)
        image, captured_utc, camera, label, judge, score, threshold, verdict
    FROM scores JOIN judges USING (recipe, version, recipe_sha)
    UNION ALL
    SELECT DISTINCT ON (image)
        image, captured_utc, camera, label, 'line' AS judge, line_score, line_threshold, line_verdict
    FROM scores WHERE line_verdict IS NOT NULL;
"""
_COMMON = """
FROM verdicts AS before JOIN verdicts AS after USING (image)
WHERE before.judge = $before AND after.judge = $after
"""
_CHANGED = f"{_COMMON} AND before.verdict <> after.verdict"
_CHANGES = f"""
SELECT before.verdict, after.verdict, count(*) AS images,
    count(*) FILTER (WHERE after.label = 'defect') AS defects,
    count(*) FILTER (WHERE after.label = 'overkill') AS overkills
{_CHANGED} GROUP BY ALL ORDER BY images DESC, 1, 2
"""
_IMAGES = f"""
SELECT image, after.captured_utc, after.camera, after.label, before.verdict, after.verdict,
    before.score, before.threshold, after.score, after.threshold
{_CHANGED}
ORDER BY after.label = 'defect' DESC NULLS LAST, after.captured_utc NULLS LAST, image LIMIT $most
"""


@dataclass(frozen=True)
class VerdictChange:
    """How many images have one verdict by the first and another by the second version."""

    before: str
    after: str
    images: int
    defects: int
    """Those that people labelled as real defects."""
    overkills: int
    """Those that people labelled as overkill."""


@dataclass(frozen=True)
class ChangedImage:
    """One image whose verdict changes."""

    image: str
    captured_utc: str | None
    camera: str | None
    label: str | None
    before: str
    after: str
    score_before: float | None
    threshold_before: float | None
    score_after: float | None
    threshold_after: float | None


@dataclass(frozen=True)
class Comparison:
    """Two versions on the images that both have judged."""

    before: str
    after: str
    common: int
    changes: Sequence[VerdictChange]
    images: Sequence[ChangedImage]

    @property
    def changed(self) -> int:
        """The number of images whose verdict changes; `images` may be fewer."""
        return sum(change.images for change in self.changes)


@contextlib.contextmanager
def open_scores(folder: Path) -> Iterator[Any]:
    """DuckDB with the verdicts of all files in the folder. Raises FleetError."""
    require_packages("duckdb")
    import duckdb

    files = sorted(str(file) for file in folder.glob(f"{DAY_FOLDER}*/*.parquet"))
    if not files:
        raise FleetError(
            f"{folder}: no scores there: line-monitor fleet rescore RECIPE --archive PATH -o {folder}"
        )
    quoted = "[" + ", ".join("'" + file.replace("'", "''") + "'" for file in files) + "]"
    try:
        with duckdb.connect(":memory:") as connection:
            connection.execute(_VERDICTS.format(files=quoted))
            yield connection
    except duckdb.Error as error:
        raise FleetError(
            f"{folder}: the scores can't be read ({str(error).splitlines()[0]}): rescore the archive again"
        ) from None


def list_judges(connection: Any) -> list[str]:
    """The versions that have judged, `line` first, the others by name."""
    rows = connection.execute(
        "SELECT DISTINCT judge FROM verdicts ORDER BY judge <> 'line', judge"
    ).fetchall()
    return [judge for (judge,) in rows]


def choose_judges(
    known: Sequence[str], wished: Sequence[str], find_in_force: Callable[[str], str]
) -> tuple[str, str]:
    """The two versions to compare: those that are named, as `NAME@VERSION` or as `NAME`, or the only two.

    `NAME` stands for its only version there, else for the one that `find_in_force` calls `NAME@VERSION`.
    Raises FleetError.
    """
    listed = ", ".join(known)
    if not wished:
        if len(known) == 2:
            return known[0], known[1]
        if len(known) < 2:
            raise FleetError(f"only {listed} has judged: rescore another recipe into the same folder")
        raise FleetError(f"more than two have judged: name two of them: --between A B; there are {listed}")
    first, second = (_find_judge(known, wish, find_in_force) for wish in wished)
    return first, second


def _find_judge(known: Sequence[str], wish: str, find_in_force: Callable[[str], str]) -> str:
    found = _find_called(known, wish)
    if len(found) > 1 and "@" not in wish:
        wish = find_in_force(wish)
        found = _find_called(known, wish)
    if len(found) == 1:
        return found[0]
    why = "is not one of the versions" if not found else "is more than one of the versions"
    raise FleetError(f"--between {wish!r} {why} there: {', '.join(known)}")


def _find_called(known: Sequence[str], wish: str) -> list[str]:
    """The versions of that `NAME`, `NAME@VERSION` or `NAME@VERSION-DIGITS`."""
    if wish in known:
        return [wish]
    if "@" in wish:
        return [judge for judge in known if judge.startswith(f"{wish}-")]
    return [judge for judge in known if judge.startswith(f"{wish}@")]


def compare(connection: Any, before: str, after: str, most: int) -> Comparison:
    """What changes from the first to the second version; at most so many images, labelled defects first."""
    judges = {"before": before, "after": after}
    changes = connection.execute(_CHANGES, judges).fetchall()
    images = connection.execute(_IMAGES, {**judges, "most": most}).fetchall()
    ((common,),) = connection.execute(f"SELECT count(*) {_COMMON}", judges).fetchall()
    return Comparison(
        before,
        after,
        common,
        [VerdictChange(*row) for row in changes],
        [ChangedImage(*row) for row in images],
    )


def explain_comparison(comparison: Comparison) -> Iterator[str]:
    """The comparison as lines for a person."""
    yield from explain_counts(comparison)
    for image in comparison.images:
        label = f"  label {image.label}" if image.label else ""
        yield (
            f"  {image.before} ({_ratio(image.score_before, image.threshold_before)}) -> "
            f"{image.after} ({_ratio(image.score_after, image.threshold_after)}){label}  {image.image}"
        )
    if (more := comparison.changed - len(comparison.images)) > 0:
        yield f"  and {more} more: --most N shows more"


def explain_counts(comparison: Comparison) -> Iterator[str]:
    """How many verdicts change, then a line for each kind of change."""
    yield (
        f"{comparison.before} -> {comparison.after}: {comparison.changed} of {comparison.common} verdicts "
        "change"
        if comparison.common
        else f"{comparison.before} and {comparison.after} have no image in common: rescore the same archive"
    )
    for change in comparison.changes:
        labels = []
        if change.defects:
            labels.append(f"{change.defects} of them labelled real defect")
        if change.overkills:
            labels.append(f"{change.overkills} of them labelled overkill")
        shown = f" ({', '.join(labels)})" if labels else ""
        yield f"{change.before} -> {change.after}: {change.images}{shown}"


def _ratio(score: float | None, threshold: float | None) -> str:
    """A score in thresholds."""
    if score is None or not threshold:
        return "no score"
    return f"{score / threshold:.2f} thresholds"
