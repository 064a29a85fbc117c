"""Good images that a person leaves out of a training, because they look odd or show a bad part.

It knows nothing of thresholds. Leaving out odd good images would promise too much: parts like them still
come. So they count as good parts that are rejected, unless a named person calls them bad with a reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from monitor.model.recipe_json import LeftOutImage
from monitor.system.printable import clean_line
from monitor.training.loop import TrainingError
from monitor.training.readable_images import file_mark


def leave_images_out(
    files: Sequence[Path], leave_out: Sequence[Path], bad_by: str, reason: str
) -> tuple[list[Path], list[LeftOutImage]]:
    """`files` without those of `leave_out`, and the record of the latter.

    Raises TrainingError for a file that is not among `files`, and for a person without a reason or a reason
    without a person.
    """
    if bool(bad_by.strip()) != bool(reason.strip()):
        raise TrainingError("--bad-by NAME and --bad-reason TEXT go together: give both, or neither")
    if bad_by and not leave_out:
        raise TrainingError("--bad-by is about images that are left out: name them with --leave-out")
    by_path = {file.resolve(): file for file in files}
    missing = [file for file in leave_out if file.resolve() not in by_path]
    if missing:
        raise TrainingError(
            f"{clean_line(str(missing[0]))}: --leave-out names no image of the training folder: give its path"
        )
    gone = {file.resolve() for file in leave_out}
    left = [
        LeftOutImage(file=file.name, mark=file_mark(file), bad_by=bad_by.strip(), reason=reason.strip())
        for path, file in by_path.items()
        if path in gone
    ]
    return [file for path, file in by_path.items() if path not in gone], left


def count_good(left_out: Sequence[LeftOutImage]) -> int:
    """How many of them nobody calls bad."""
    return sum(not image.bad_by for image in left_out)


def explain_left_out(left_out: Sequence[LeftOutImage]) -> Iterator[str]:
    """A line for a person, where images are left out."""
    if not left_out:
        return
    count = f"{len(left_out)} {'image' if len(left_out) == 1 else 'images'}"
    first = left_out[0]
    if first.bad_by:
        yield f"left out: {count}, bad parts, says {clean_line(first.bad_by)}: {clean_line(first.reason)}"
    else:
        yield (
            f"left out: {count}: they count as good parts that are rejected (overkill), unless --bad-by NAME "
            "and --bad-reason TEXT call them bad"
        )
