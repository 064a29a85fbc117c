"""One version of a recipe: its document and its weights in memory, and how they are stored in a folder.

It knows nothing of runtimes or scores. A folder `recipes/<name>/` has `recipe.json`, the weights
of the student, the memory and the int8 model, as far as the recipe has them, and a copy of the teacher's
trunk, so that the recipe also runs on a machine without the teacher's own file. Renaming `recipe.json` into
place commits a version. The name of each weight file contains the first 16 digits of its sha256, so that the
files of two versions can't be mixed up. Nothing is pickled.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
    WeightsFile,
    check_document,
    make_grid,
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
    quantised: Weights | None = None
    """The int8 model, if the recipe has one."""

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
        """Load the committed version. `path` is the recipe's folder or the `recipe.json` in it.

        Raises RecipeError when a file is missing, damaged or not the one that `recipe.json` describes.
        """
        folder = _recipe_folder(Path(path))
        content = _read(folder / FILE)
        while True:
            try:
                return _assemble(folder, content)
            except RecipeError:
                # A commit between the two reads may have removed this version's weights: load the new one.
                newer = _read(folder / FILE)
                if newer == content:
                    raise
                content = newer

    def with_changes(self, **changes: Any) -> RecipeVersion:
        """An uncommitted copy with other values of these fields of its document."""
        return replace(self, document=msgspec.structs.replace(self.document, **changes), sha="")

    def with_calibration(self, calibration: Mapping[str, Calibration]) -> RecipeVersion:
        """An uncommitted copy with other calibrations."""
        return self.with_changes(calibration=dict(calibration))

    def with_presence(self, presence: Presence | None) -> RecipeVersion:
        """An uncommitted copy with another presence gate, or with none."""
        return self.with_changes(presence=presence)

    def commit(self) -> RecipeVersion:
        """Write this version to its folder, then remove the weights of all other versions.

        After a crash at any moment, the folder holds either the old version or the new one, complete. Raises
        RecipeError when a file can't be written.
        """
        document = self.document
        files = (
            (document.teacher.weights, self.teacher),
            (document.student, self.student),
            (document.memory and document.memory.weights, self.memory),
            (document.quantised and document.quantised.weights, self.quantised),
        )
        contents = {entry.file: to_bytes(arrays) for entry, arrays in files if entry and arrays is not None}
        text = msgspec.json.format(msgspec.json.encode(self.document), indent=1) + b"\n"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _locked(self.folder):
                for name, content in contents.items():
                    write_whole(self.folder / name, content)
                write_whole(self.folder / FILE, text)
                for file in self.folder.iterdir():
                    if file.name not in contents and _REMOVABLE.match(file.name):
                        file.unlink(missing_ok=True)
        except OSError as error:
            raise RecipeError(f"{self.folder}: can't be written: {error.strerror or error}") from None
        return replace(self, sha=hashlib.sha256(text).hexdigest())


_REMOVABLE = re.compile(
    rf"(student|teacher|memory|quantised)-[0-9a-f]{{16}}\.safetensors$|{re.escape(WRITING)}"
)
"""The names of weight files, and of files that a crash left half written. `commit` removes those that are not
its own."""


def weights_file(kind: Literal["teacher", "student", "memory", "quantised"], weights: Weights) -> WeightsFile:
    """The entry in `recipe.json` for weights that `RecipeVersion.commit` will write."""
    sha = hashlib.sha256(to_bytes(weights)).hexdigest()
    return WeightsFile(file=f"{kind}-{sha[:16]}.safetensors", sha256=sha)


def _recipe_folder(path: Path) -> Path:
    if path.name == FILE and not path.is_dir():
        path = path.parent
    return path.absolute()


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        fix = "train the recipe" if file.name == FILE else "train the recipe again or restore the file"
        raise RecipeError(f"{file}: no such file: {fix}") from None
    except OSError as error:
        raise RecipeError(f"{file}: {error.strerror or error}") from None


def _assemble(folder: Path, content: bytes) -> RecipeVersion:
    file = folder / FILE
    try:
        document = msgspec.json.decode(content, type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecipeError(
            f"{file}: not a recipe ({error}): train the recipe again or restore the file"
        ) from None
    check_document(file, document)
    teacher = _load_weights(folder, document.teacher.weights)
    if fingerprint(teacher) != document.teacher.sha256:
        raise RecipeError(
            f"{folder / document.teacher.weights.file}: not the teacher this recipe was trained with "
            f"({document.teacher.name}, sha256 {document.teacher.sha256[:16]}...): train the recipe again"
        )
    return RecipeVersion(
        folder,
        document,
        hashlib.sha256(content).hexdigest(),
        teacher,
        student=_load_weights(folder, document.student) if document.student else None,
        memory=_load_weights(folder, document.memory.weights) if document.memory else None,
        quantised=_load_weights(folder, document.quantised.weights) if document.quantised else None,
    )


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


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder for one commit. Two commits at once could remove each other's weights: each removes the
    weight files that are not its own."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
