"""One version of a recipe: its document and its weights in memory, and how they are stored in a folder.

It knows nothing of runtimes or scores, and not of which version is in force (`monitor.model.in_force`). A
folder `recipes/<name>/` has `recipe.json`, the weights of the student, the memory and the int8 model, as far
as the recipe has them, and copies of the teachers' trunks, so that the recipe also runs on a machine without
the teachers' own files. Renaming `recipe.json` into place commits a version; earlier versions stay in
`versions/` (`monitor.model.version_files`). The name of each weight file contains the first 16 digits of its
sha256, so that the files of two versions can't be mixed up, and versions with the same weights share the
file. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from monitor.images.preprocessing import Size, as_size
from monitor.images.tiling import Grid
from monitor.model.recipe_json import (
    FILE,
    Calibration,
    Document,
    Presence,
    RecipeError,
    Roi,
    TeacherEntry,
    WeightsFile,
    check_document,
    make_grid,
)
from monitor.model.version_files import (
    FOLDER,
    find_folder,
    find_number,
    keep_newest,
    list_kept,
    lock_folder,
    parse_digits,
)
from monitor.model.weights import Weights, WeightsError, fingerprint, from_bytes, to_bytes
from monitor.system.atomic_file import WRITING, write_whole


@dataclass(frozen=True, eq=False)
class RecipeVersion:
    """One version of a recipe, held in memory; a later commit to its folder does not change it."""

    folder: Path
    document: Document
    sha: str
    """sha256 (hex) of `recipe.json`; verdicts carry it as `recipe_sha`. Empty before the commit."""
    teacher: Weights
    student: Weights | None
    """The student's weights, and its channel deviations if it has any (`monitor.model.channel_scaling`); None
    where the memory alone judges."""
    memory: Weights | None = None
    """The memory of good features, if the recipe has one (`monitor.feature_memory`)."""
    memory_teacher: Weights | None = None
    """The memory's own teacher, if it has one."""
    quantised: Weights | None = None
    """The int8 model, if the recipe has one."""
    number: int = 0
    """The version's number in its folder; 0 before the commit."""

    @property
    def name(self) -> str:
        return self.document.name

    @property
    def size(self) -> Size:
        """Rows and columns that images are resized to; anomaly maps have the same size."""
        return as_size(self.document.size)

    @property
    def frame(self) -> Size:
        """Rows and columns of the frames that are scored, as far as the recipe records them.

        They are those of the presence gate's images, without a gate those of the region of interest, and
        without either `size`.
        """
        if self.document.presence is not None:
            return self.document.presence.rows, self.document.presence.columns
        return (self.roi[3], self.roi[2]) if self.roi else self.size

    @property
    def grid(self) -> Grid:
        """The tiles that an image of `size` is cut into; one tile in most recipes."""
        return make_grid(self.size, self.document.tiles)

    @property
    def roi(self) -> Roi | None:
        return self.document.roi

    @staticmethod
    def load(path: str | Path) -> RecipeVersion:
        """Load one version. `path` is the recipe's folder or the `recipe.json` in it, which is the version
        that was committed last, or the document of any version in `versions/`.

        Raises RecipeError when a file is missing, damaged or not the one that the document describes.
        """
        file = _document_file(Path(path))
        content = _read(file)
        while True:
            try:
                return _assemble(file, content)
            except RecipeError:
                # The version was removed between the two reads if another one has been committed: load that.
                newer = _read(file)
                if newer == content:
                    raise
                content = newer

    def with_changes(self, **changes: Any) -> RecipeVersion:
        """An uncommitted copy with other values of these fields of its document."""
        return replace(self, document=msgspec.structs.replace(self.document, **changes), sha="", number=0)

    def with_calibration(self, calibration: Mapping[str, Calibration]) -> RecipeVersion:
        """An uncommitted copy with other calibrations."""
        return self.with_changes(calibration=dict(calibration))

    def with_presence(self, presence: Presence | None) -> RecipeVersion:
        """An uncommitted copy with another presence gate, or with none."""
        return self.with_changes(presence=presence)

    def commit(self) -> RecipeVersion:
        """Write this version to its folder as the newest one. The earlier versions stay in `versions/`.

        Weights that no version names any more are removed. After a crash at any moment, `recipe.json` is
        either the old version or the new one, complete. Raises RecipeError when a file can't be written.
        """
        document, memory = self.document, self.document.memory
        files = (
            (document.teacher.weights, self.teacher),
            (document.student, self.student),
            (memory and memory.weights, self.memory),
            (memory and memory.teacher and memory.teacher.weights, self.memory_teacher),
            (document.quantised and document.quantised.weights, self.quantised),
        )
        contents = {entry.file: to_bytes(arrays) for entry, arrays in files if entry and arrays is not None}
        text = msgspec.json.format(msgspec.json.encode(self.document), indent=1) + b"\n"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with lock_folder(self.folder):
                # First: renaming the new `recipe.json` into place removes the old one.
                keep_newest(self.folder)
                for name, content in contents.items():
                    _write_weights(self.folder / name, content)
                write_whole(self.folder / FILE, text)
                kept = keep_newest(self.folder)
                remove_unnamed_weights(self.folder)
        except OSError as error:
            raise RecipeError(f"{self.folder}: can't be written: {error.strerror or error}") from None
        assert kept is not None
        return replace(self, sha=hashlib.sha256(text).hexdigest(), number=kept.number)


_WEIGHTS = re.compile(rb"(?:student|teacher|memory|quantised)-[0-9a-f]{16}\.safetensors")
"""The names of weight files, in folders and in documents."""


def remove_unnamed_weights(folder: Path) -> None:
    """Removes the weights that no version's document names, and what a crash left half written. Call it
    within `lock_folder`. Raises OSError."""
    documents = [folder / FILE, *(version.file for version in list_kept(folder))]
    # The names are read from the text, so that a document of a newer program keeps its weights too.
    named = {name for file in documents for name in _WEIGHTS.findall(file.read_bytes())}
    places = [folder, folder / FOLDER]
    for file in [file for place in places if place.is_dir() for file in place.iterdir()]:
        name = file.name.encode(errors="surrogateescape")
        if file.name.startswith(WRITING) or (_WEIGHTS.fullmatch(name) and name not in named):
            file.unlink(missing_ok=True)


def _write_weights(file: Path, content: bytes) -> None:
    """Writes a weight file, unless another version has written the same one. Raises OSError."""
    if not file.is_file() or file.read_bytes() != content:
        write_whole(file, content)


def weights_file(kind: Literal["teacher", "student", "memory", "quantised"], weights: Weights) -> WeightsFile:
    """The entry in `recipe.json` for weights that `RecipeVersion.commit` will write."""
    sha = hashlib.sha256(to_bytes(weights)).hexdigest()
    return WeightsFile(file=f"{kind}-{sha[:16]}.safetensors", sha256=sha)


def _document_file(path: Path) -> Path:
    """The document that `RecipeVersion.load` reads for a path."""
    if parse_digits(path) is None and (path.name != FILE or path.is_dir()):
        path = path / FILE
    return path.absolute()


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        fix = "train the recipe" if file.name == FILE else "train the recipe again or restore the file"
        raise RecipeError(f"{file}: no such file: {fix}") from None
    except OSError as error:
        raise RecipeError(f"{file}: {error.strerror or error}") from None


def _assemble(file: Path, content: bytes) -> RecipeVersion:
    folder = find_folder(file)
    sha = hashlib.sha256(content).hexdigest()
    if (digits := parse_digits(file)) is not None and not sha.startswith(digits):
        raise RecipeError(
            f"{file}: damaged: its sha256 does not begin with {digits}: restore the file or use another "
            "version"
        )
    try:
        document = msgspec.json.decode(content, type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecipeError(
            f"{file}: not a recipe ({error}): train the recipe again or restore the file"
        ) from None
    check_document(file, document)
    memory = document.memory
    return RecipeVersion(
        folder,
        document,
        sha,
        _load_teacher(folder, document.teacher),
        student=_load_weights(folder, document.student) if document.student else None,
        memory=_load_weights(folder, memory.weights) if memory else None,
        memory_teacher=_load_teacher(folder, memory.teacher) if memory and memory.teacher else None,
        quantised=_load_weights(folder, document.quantised.weights) if document.quantised else None,
        number=find_number(folder, sha[:16]),
    )


def _load_teacher(folder: Path, entry: TeacherEntry) -> Weights:
    teacher = _load_weights(folder, entry.weights)
    if fingerprint(teacher) != entry.sha256:
        raise RecipeError(
            f"{folder / entry.weights.file}: not the teacher this recipe was trained with "
            f"({entry.name}, sha256 {entry.sha256[:16]}...): train the recipe again"
        )
    return teacher


def _load_weights(folder: Path, entry: WeightsFile) -> Weights:
    file = folder / entry.file
    content = _read(file)
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise RecipeError(
            f"{file}: damaged: its sha256 differs from the one in {FILE}: "
            "train the recipe again or restore the file"
        )
    try:
        weights = from_bytes(content)
    except WeightsError as error:
        raise RecipeError(f"{file}: {error}: train the recipe again") from None
    # Not-a-number weights can give ordinary scores: OpenVINO's rectifier turns not-a-number into 0.
    if not all(np.isfinite(array).all() for array in weights.values() if array.dtype.kind == "f"):
        raise RecipeError(f"{file}: some values are not finite: train the recipe again")
    return weights
