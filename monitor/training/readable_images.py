"""The image files of a folder: the usable ones, one line about each of the others, and the mark of each file.

It knows nothing of what the images train.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from drivers import image_file
from drivers.image_file import Image, ImageError, decode, read_bytes
from monitor.errors import LineMonitorError
from monitor.model.image_mark import content_mark as content_mark
from monitor.system.printable import clean_line
from monitor.system.progress import Progress


class _Snapshot(msgspec.Struct):
    """What is read of a snapshot's `.json`."""

    challenge: str | None = None


def find_image_files(folder: Path, failure: type[LineMonitorError]) -> list[Path]:
    """The image files in `folder`, at any depth, sorted by path. Raises `failure` if it can't be listed."""
    try:
        return image_file.find(folder)
    except ImageError as error:
        raise failure(f"{folder}: {error}") from None


def read_images(files: Iterable[Path], say: Callable[[str], None]) -> Iterator[tuple[Path, bytes, Image]]:
    """Each usable file with its content and its image. A snapshot of a challenge part is not usable: it must
    choose nothing.

    `say` gets one line about each of the others: `skipped: name: why`.
    """
    for file in files:
        if (part := find_challenge_part(file)) is not None:
            say(f"skipped: {clean_line(str(file))}: it shows challenge part {clean_line(part)}")
            continue
        try:
            content = read_bytes(file)
            image = decode(content)
        except ImageError as error:
            say(f"skipped: {clean_line(str(file))}: {error}")
        else:
            yield file, content, image


def find_challenge_part(file: Path) -> str | None:
    """The challenge part that a snapshot shows, by the `.json` beside it; None for every other image."""
    try:
        content = read_bytes(file.with_suffix(".json"))
        return msgspec.json.decode(content, type=_Snapshot).challenge
    except (ImageError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # There is no such file, or it belongs to no snapshot.
        return None


def read_with_progress(
    files: Sequence[Path], task: str, *, say: Callable[[str], None], progress: Progress
) -> Iterator[tuple[Path, bytes, Image]]:
    """As `read_images`, and the progress of `task` is reported after each file.

    `say` gets its lines after the last file, because a line in between would break the progress bar.
    """
    skipped: list[str] = []
    for done, file in enumerate(files, start=1):
        yield from read_images([file], skipped.append)
        progress.update(task, done, len(files))
    for line in skipped:
        say(line)


def file_mark(file: Path) -> str:
    """The `content_mark` of a file; empty if the file can't be read."""
    try:
        return content_mark(read_bytes(file))
    except ImageError:
        # No line is printed here: the next reader of the file reports why it can't be used.
        return ""


def report_copies(count: int, say: Callable[[str], None]) -> None:
    """One line about the images that were left out because they are copies of others."""
    if count:
        say(f"left out: {count} images that are copies of others")
