"""The work of `line-monitor teacher`: list the teachers, copy one to a single file, make or convert one.

Listing and converting never use the network; copying and making do if the weights are not on this machine. A
file that exists is replaced only where `force` is given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import safe_open

from monitor.model.weights import fingerprint
from monitor.system.atomic_file import check_place, write_whole
from monitor.system.progress import SILENT, Progress
from monitor.teachers.architectures import (
    LEVELS,
    architecture_of,
    build_trunk,
    load_trunk,
    teacher_names,
    trunk_weights,
)
from monitor.teachers.distillation import DistillationResult, DistillationSettings, make_teacher
from monitor.teachers.lite_trunk import load_lite_teacher
from monitor.teachers.lite_weights import make_lite_teacher
from monitor.teachers.weight_files import (
    BUNDLED,
    LITE_FILE,
    LITE_TEACHER,
    TeacherError,
    WeightsLocation,
    find_weights,
    obtain_weights,
)

_PUBLISHED = "torchvision's ImageNet weights, version 1"


@dataclass(frozen=True)
class ListedTeacher:
    """A teacher by name, and what this machine has of it."""

    name: str
    architecture: str
    parameters: int
    """The number of its trunk's weights, without the statistics of batch normalisation."""
    found_in: WeightsLocation | None
    """Where its weights lie; None when they are not on this machine or can't be used."""
    sha256: str
    """The fingerprint of the trunk's weights as in recipes; empty without weights."""
    about: str
    """The file and the origin of its weights, or the fix."""


def list_teachers(folder: Path | None) -> list[ListedTeacher]:
    """Every teacher that can be named, without using the network. `folder` is the data folder's
    `teachers/`."""
    return [_listed(name, folder) for name in teacher_names()]


def format_table(teachers: Sequence[ListedTeacher]) -> str:
    """The list as text, one line a teacher."""
    rows = [("name", "architecture", "parameters", "weights", "sha256", "")]
    for teacher in teachers:
        place = "-" if teacher.found_in is None else teacher.found_in.value
        size = f"{teacher.parameters / 1e6:.1f} M"
        sha256 = teacher.sha256[:16] or "-"
        rows.append((teacher.name, teacher.architecture, size, place, sha256, teacher.about))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    )


def fetch_teacher(
    name: str, *, folder: Path | None, out: Path | None, force: bool, say: Callable[[str], None]
) -> Path:
    """Writes a teacher's trunk as one safetensors file, from this machine or the network; returns the file.

    Without `out` the file is `folder`/<name>.safetensors, where training finds it; if `out` is a folder, the
    file in it has the same name. Raises TeacherError.
    """
    architecture = architecture_of(name)
    file = _target(out or folder, f"{name}.safetensors", is_folder=out is None)
    try:
        found = find_weights(name, folder)
        weights = found[1] if found else obtain_weights(architecture, folder, say)
    except TeacherError as error:
        fix = "use this command where there is a network, and copy the file"
        raise TeacherError(f"{error}; {fix}") from None
    trunk = load_trunk(architecture, weights)
    sha256 = fingerprint(trunk_weights(trunk))
    if not (file.exists() and _holds(file, architecture, sha256)):
        _check_writable(file, force=force)
        content = weights.read_bytes() if name == BUNDLED else _as_file(trunk, name, architecture, weights)
        try:
            write_whole(file, content)
        except OSError as error:
            raise TeacherError(f"{file} can't be written: {error.strerror or error}") from None
    say(f"{file}: {name}, sha256 {sha256}")
    use = f"line-monitor train RECIPE --images DIR --teacher {architecture} --teacher-weights {file.name}"
    if name == BUNDLED:
        say(f"every installation has it: --teacher {BUNDLED}; as a file: {use}")
    else:
        say(f"on a machine without a network: copy it into the data folder's teachers/, or {use}")
    return file


def describe_lite_teacher() -> str:
    """The teacher that every memory has beside the listed ones, in one line. Raises TeacherError."""
    teacher = load_lite_teacher()
    return (
        f"every memory also has {teacher.name} (sha256 {teacher.sha256[:16]}), which no student learns from: "
        f"{LITE_FILE}; its licence is in {LITE_FILE.parent / 'NOTICE'}"
    )


def convert_lite_teacher(published: Path, *, out: Path, force: bool, say: Callable[[str], None]) -> None:
    """Writes the file of the memory's carried teacher from its published weights. Raises TeacherError."""
    file = _target(out, LITE_FILE.name, is_folder=False)
    content = make_lite_teacher(published)
    _check_writable(file, force=force)
    try:
        write_whole(file, content)
    except OSError as error:
        raise TeacherError(f"{file} can't be written: {error.strerror or error}") from None
    same = "the same bytes as" if content == LITE_FILE.read_bytes() else "other bytes than"
    sha256 = hashlib.sha256(content).hexdigest()
    say(f"{file}: {LITE_TEACHER}, sha256 of the file {sha256}, {same} the carried file")


def make_teacher_file(
    settings: DistillationSettings,
    *,
    source_weights: Path | None,
    out: Path,
    force: bool,
    folder: Path | None,
    say: Callable[[str], None],
    progress: Progress = SILENT,
) -> DistillationResult:
    """Distils a teacher into a small trunk and writes it to `out` (see `make_teacher`).

    Without `source_weights`, the source's weights are found as for training. Raises TeacherError; when
    training is interrupted or fails, its message names what was saved.
    """
    source, student = settings.source, settings.student
    if source not in LEVELS:
        raise TeacherError(f"no source is called {source!r}; there are: {', '.join(LEVELS)}")
    file = _target(out, f"{student}-from-{source}.safetensors", is_folder=False)
    if source_weights is None:
        source_weights = obtain_weights(source, folder, say)
    load_trunk(source, source_weights)  # Unusable weights are an error before the output folder is made.
    _check_writable(file, force=force)
    say(f"teacher: {student} learns from {source}, weights from {source_weights}")
    saves: list[str] = []
    try:
        result = make_teacher(
            settings, source_weights=source_weights, out=file, say=saves.append, progress=progress
        )
    except KeyboardInterrupt:
        raise TeacherError(f"interrupted; {_rest(file, saves)}") from None
    except FloatingPointError as error:
        raise TeacherError(f"{error}; try another --seed; {_rest(file, saves)}") from None
    except OSError as error:
        raise TeacherError(
            f"{file} can't be written: {error.strerror or error}; {_rest(file, saves)}"
        ) from None
    sha256 = fingerprint(trunk_weights(load_trunk(student, file)))
    say(f"{saves[-1]}, sha256 {sha256}")
    say(f"use it: line-monitor train RECIPE --images DIR --teacher {student} --teacher-weights {file}")
    return result


def _listed(name: str, folder: Path | None) -> ListedTeacher:
    architecture = architecture_of(name)
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in build_trunk(architecture).parameters())
    try:
        found = find_weights(name, folder)
        if found is None:
            about = f"not on this machine: line-monitor teacher fetch {name}"
            return ListedTeacher(name, architecture, parameters, None, "", about)
        place, file = found
        sha256 = fingerprint(trunk_weights(load_trunk(architecture, file)))
        about = f"{file}{_origin(place, file)}"
        return ListedTeacher(name, architecture, parameters, place, sha256, about)
    except TeacherError as error:
        return ListedTeacher(name, architecture, parameters, None, "", f"unusable: {error}")


def _origin(place: WeightsLocation, file: Path) -> str:
    """Where the weights come from, in brackets; empty when the file does not state it."""
    if place is WeightsLocation.CACHE:
        return f" ({_PUBLISHED})"
    metadata = _metadata(file)
    if place is WeightsLocation.CARRIED:
        source = metadata.get("source", "another network")
        return f" (distilled from {source}; its licence is in {file.parent / 'NOTICE'})"
    return f" ({metadata['weights']})" if "weights" in metadata else ""


def _metadata(file: Path) -> dict[str, str]:
    """The metadata of a .safetensors file; other files have none."""
    if file.suffix != ".safetensors":
        return {}
    with safe_open(file, "pt") as content:
        return content.metadata() or {}


def _target(place: Path | None, name: str, *, is_folder: bool) -> Path:
    """The file to write: `place` itself, or `name` in it if it is a folder. Raises TeacherError."""
    if place is None:
        raise TeacherError("no settings file, so no data folder: name a file with -o FILE, or give --config")
    if is_folder or place.is_dir():
        return place / name
    if place.suffix != ".safetensors":
        raise TeacherError(f"{place}: the file's name must end in .safetensors")
    return place


def _holds(file: Path, architecture: str, sha256: str) -> bool:
    """Whether the file holds exactly these weights."""
    try:
        return fingerprint(trunk_weights(load_trunk(architecture, file))) == sha256
    except TeacherError:
        return False


def _check_writable(file: Path, *, force: bool) -> None:
    """Makes the file's folder and tries it out before long work. Raises TeacherError."""
    if file.exists() and not force:
        raise TeacherError(f"{file} is there already: take another name, or --force to replace it")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        check_place(file)
    except OSError as error:
        raise TeacherError(f"can't write to {file.parent}: {error.strerror or error}") from None


def _as_file(trunk: torch.nn.Module, name: str, architecture: str, weights: Path) -> bytes:
    """A safetensors file of the trunk, with the metadata of the file that its weights came from."""
    origin = _metadata(weights)
    metadata = {
        **origin,
        "format": "pt",
        "teacher": name,
        "architecture": f"torchvision {architecture}, to its third level",
        "weights": origin.get("weights", weights.name),
    }
    tensors = {key: torch.from_numpy(array) for key, array in trunk_weights(trunk).items()}
    return safetensors.torch.save(tensors, metadata=metadata)


def _rest(file: Path, saves: Sequence[str]) -> str:
    """What remains of a training that did not end."""
    if not saves:
        return "nothing was saved yet"
    return f"{file} holds what was learnt until the last save ({saves[-1]})"
