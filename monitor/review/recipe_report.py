"""The report of one version of a recipe: what it was taught from, its tests, its guarantee, who signed.

It knows nothing of HTTP. Every figure is read from the version's own document, its files and the records at
the time of the report. Hashes of files are computed anew and compared with those in the document.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from monitor import paths
from monitor.audit.entry import Kind
from monitor.audit.trail import AuditTrail
from monitor.model.in_force import Approval, find_asked, find_in_force, read_in_force
from monitor.model.recipe_json import FILE, REFERENCE, Document, RecipeError, WeightsFile
from monitor.model.version_files import VersionFile, list_versions
from monitor.model.version_summary import explain_origin, read_document
from monitor.review.entry_words import name_recipe
from monitor.review.filters import Filters
from monitor.review.pictures import Pictures
from monitor.review.printed_page import embed, render_page
from monitor.review.removed_images import RemovedImages, count_removed, is_about_teaching
from monitor.review.report_contents import PictureOf, RecordedEntries, read_lists, show_parts
from monitor.review.shifts import PlantClock
from monitor.review.snapshot_files import Key, SnapshotFiles
from monitor.review.snapshot_index import IndexEntry, SnapshotIndex
from monitor.settings import Settings
from monitor.snapshots.labels import SnapshotDetails
from monitor.training.decision_picture import PICTURE
from monitor.training.oddest_images import SHEET
from monitor.training.operating_points import statement
from monitor.verdict import Verdict, rfc3339

_WORDS = re.compile(r"[ ;]+")
MOST_PARTS = 6
"""How many of the nearest rejects and of the worst passes are shown."""
MOST_ENTRIES = 60
"""The newest entries of the record of changes about the recipe that are listed."""
_MOST_TEACHING_ENTRIES = 5000


@dataclass(frozen=True, slots=True)
class FileHash:
    """One file of the version: the sha256 that its document states, and what it is now."""

    name: str
    stated: str
    """Empty for the document itself, whose hash is stated by what refers to it."""
    found: str
    """Empty where the file can't be read."""

    @property
    def is_right(self) -> bool:
        return bool(self.found) and self.stated in ("", self.found)


@dataclass(frozen=True, slots=True)
class Approvals:
    """Who answers for the version."""

    promotion: Approval | None
    """None: nobody has signed for it."""
    is_in_force: bool
    last_change: Approval | None
    """Of what is in force for the recipe."""


class RecipeReports:
    """The reports of one line's recipes. `index` holds the snapshots, as far as they are read."""

    def __init__(self, settings: Settings, index: SnapshotIndex, plant: PlantClock) -> None:
        self._settings, self._index, self._plant = settings, index, plant
        self._pictures = Pictures(SnapshotFiles(paths.snapshots(settings)))

    def make(self, name: str, utc_ns: int) -> str:
        """The report as one HTML page. `name` is `NAME@VERSION`; `NAME` alone is the version in force.

        Raises RecipeError and InvalidNameError.
        """
        version = find_asked(paths.recipes(self._settings), name)
        document = read_document(version)
        if REFERENCE not in document.calibration:
            raise RecipeError(
                f"{version.file}: there is no threshold for {REFERENCE}: train the recipe again"
            )
        sha, name, recipe = hash_file(version.file), version.name, version.folder.name
        recorded, challenges, teachings = read_lists(
            AuditTrail.of(self._settings),
            [
                (lambda entry: name_recipe(entry) == recipe, MOST_ENTRIES),
                (
                    lambda entry: entry.kind == Kind.CHALLENGE and name in _WORDS.split(entry.meaning),
                    MOST_ENTRIES,
                ),
                (lambda entry: is_about_teaching(entry, recipe), _MOST_TEACHING_ENTRIES),
            ],
        )
        entries = list(self._judged(version.folder.name, sha))
        return render_page(
            "recipe_report.html",
            line=self._settings.prefix,
            plant=self._plant,
            made=self._plant.show(rfc3339(utc_ns)),
            version=version,
            sha=sha,
            document=document,
            calibration=document.calibration[REFERENCE],
            statement=statement(document, with_commands=False),
            others={key: own for key, own in document.calibration.items() if key != REFERENCE},
            training=document.training,
            origin=explain_origin(
                document, {one.digits: one.number for one in list_versions(version.folder)}
            ),
            pictures=_pictures(version.folder, document, sha),
            rejects=self._shown(_sort(entries, Verdict.REJECT)[:MOST_PARTS]),
            passes=self._shown(_sort(entries, Verdict.PASS)[::-1][:MOST_PARTS]),
            counted=len(entries),
            files=list(_hashes(version, document, sha)),
            approvals=_find_approvals(version),
            recorded=recorded,
            challenges=challenges,
            removed=_find_removed(teachings, document),
            tested=_count_passed(document),
            parts=len(document.calibration[REFERENCE].part_scores),
        )

    def _judged(self, recipe: str, sha: str) -> Iterator[tuple[IndexEntry, SnapshotDetails]]:
        """The snapshots of parts that this version has judged."""
        for entry in self._index.matching(Filters(recipe=recipe, verdict="all")):
            details = self._index.details(entry)
            if details.recipe_sha == sha:
                yield entry, details

    def _shown(self, entries: Iterable[tuple[IndexEntry, SnapshotDetails]]) -> list[PictureOf]:
        parts = ((entry.key, self._describe(entry.key, details)) for entry, details in entries)
        return show_parts(self._pictures, parts)

    def _describe(self, key: Key, details: SnapshotDetails) -> str:
        label = f"labelled {details.label.text}" if details.label else "no label"
        when = f"{self._plant.of_snapshot(key.day, key.stem):%Y-%m-%d %H:%M:%S}"
        return (
            f"{when}, camera {key.camera}: score {key.score:.4g} ({details.ratio_text(key.score)}), {label}"
        )


def _sort(
    entries: Iterable[tuple[IndexEntry, SnapshotDetails]], verdict: Verdict
) -> list[tuple[IndexEntry, SnapshotDetails]]:
    """Those with that verdict, the lowest score first."""
    return sorted((one for one in entries if one[1].verdict == verdict.word), key=lambda one: one[0].score)


def _pictures(folder: Path, document: Document, sha: str) -> list[PictureOf]:
    """The pictures that training and calibration left beside the recipe. They are of the newest version, and
    are left out for any other."""
    if hash_file(folder / FILE) != sha:
        return []
    texts = {
        PICTURE: "What the thresholds decide: scores of good images and of known defects",
        SHEET: "The good images that scored highest",
    }
    if document.training and document.training.curve:
        texts[document.training.curve] = "The course of the training"
    found = []
    for name, text in texts.items():
        try:
            found.append(PictureOf(embed((folder / name).read_bytes(), "png"), text))
        except OSError:
            continue
    return found


def _hashes(version: VersionFile, document: Document, sha: str) -> Iterator[FileHash]:
    yield FileHash(version.file.name, "", sha)
    for weights in _weight_files(document):
        yield FileHash(weights.file, weights.sha256, hash_file(version.folder / weights.file))


def _weight_files(document: Document) -> Iterator[WeightsFile]:
    yield document.teacher.weights
    if document.student is not None:
        yield document.student
    if document.memory is not None:
        yield document.memory.weights
        if document.memory.teacher is not None:
            yield document.memory.teacher.weights
    if document.quantised is not None:
        yield document.quantised.weights


def hash_file(file: Path) -> str:
    """The sha256 of a file; empty where it can't be read."""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return ""


def _find_approvals(version: VersionFile) -> Approvals:
    """Raises RecipeError."""
    in_force = read_in_force(version.folder)
    is_in_force = find_in_force(version.folder).digits == version.digits
    if in_force is None:
        return Approvals(None, is_in_force, None)
    promotion = next((one for one in in_force.promoted if one.recipe_sha.startswith(version.digits)), None)
    return Approvals(
        promotion.approval if promotion is not None and promotion.approval.is_signed else None,
        is_in_force,
        in_force.approval if in_force.approval.is_signed else None,
    )


def _find_removed(teachings: RecordedEntries, document: Document) -> list[RemovedImages] | None:
    """The images that people removed on the page before the recipe was taught; None where it was not taught
    there, or where the record can't be read: the report says so at its end."""
    training = document.training
    if training is None:
        return None
    return count_removed(teachings.entries, training.images, training.utc)


def _count_passed(document: Document) -> tuple[int, int]:
    """How many of the known defects pass at the version's threshold, and how many there are."""
    known = document.defect_scores.known if document.defect_scores else ()
    threshold = document.calibration[REFERENCE].threshold
    return sum(score <= threshold for score in known), len(known)
