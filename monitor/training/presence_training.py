"""A recipe's presence gate from a folder of images of the empty place, compared with images of good parts.

It knows nothing of teachers, students or thresholds.

A gate must never call a good part at hand empty, as it is or in weaker or stronger light, and never an image
without any light or with far too much light.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from drivers.image_file import Image
from monitor.errors import LineMonitorError
from monitor.inference import presence
from monitor.inference.presence import PresenceGate
from monitor.model.recipe_json import Presence
from monitor.system.progress import SILENT, Progress
from monitor.training.readable_images import content_mark, find_image_files, read_with_progress


class PresenceError(LineMonitorError):
    """These images give no presence gate. The message is one line with the fix."""


def learn_gate(
    folder: Path,
    resize: Callable[[Image], Image],
    *,
    say: Callable[[str], None],
    progress: Progress = SILENT,
) -> Presence:
    """The gate from the images in a folder, at any depth, not yet compared with parts.

    `resize` brings an image to the size of the recipe's network. Raises PresenceError.
    """
    files = find_image_files(folder, PresenceError)
    found: dict[str, tuple[Path, presence.Cells]] = {}
    frame: tuple[int, ...] = ()
    for file, content, image in read_with_progress(files, "empty", say=say, progress=progress):
        frame = frame or image.shape
        if image.shape != frame:
            raise PresenceError(
                f"{file}: {presence.describe_shape(image.shape)}, those before it "
                f"{presence.describe_shape(frame)}: a presence gate needs images of one size, as the camera "
                "delivers them"
            )
        # A copy counts once, because it does not show how much the empty place varies.
        found.setdefault(content_mark(content), (file, presence.average_cells(resize(image))))
    if len(found) < presence.MIN_EMPTY_IMAGES:
        raise PresenceError(
            f"{folder}: {len(found)} different images of the empty place: at least "
            f"{presence.MIN_EMPTY_IMAGES} are needed, better 50, with everything on them that moves or "
            "flickers without a part"
        )
    empties = np.stack([cells for _, cells in found.values()])
    departures_sd = presence.leave_one_out_departures_sd(empties)
    if departures_sd.max() > presence.OUTLIER_DEPARTURE_SD:
        odd, _ = list(found.values())[int(departures_sd.argmax())]
        raise PresenceError(
            f"{odd}: unlike all other images of the empty place: if it shows a part, take it out; "
            "if it does not, add more images that are like it"
        )
    return presence.learn_gate(empties, frame)


def check_without_parts(gate: Presence) -> Presence:
    """The same gate, checked where no image of a good part is at hand to compare it with.

    Raises PresenceError if the empty images differ so much that a part might pass as empty, or if an image
    all black or all white is near the empty place.
    """
    if presence.largest_tolerance(gate) > presence.MAX_TOLERANCE:
        raise PresenceError(
            f"the empty images differ so much that a difference of {presence.largest_tolerance(gate):.0f} "
            "grey levels would pass for empty: look for parts in them, or give good images with --images to "
            "compare with"
        )
    _require_light(gate, "have no presence gate")
    return gate


def compare_with_parts(
    gate: Presence, parts: Iterable[tuple[Path, tuple[int, ...], Image]], otherwise: str
) -> Presence:
    """The gate, compared with images of good parts: the file, the shape and the resized image of each.

    Raises PresenceError in three cases. An image of a part has another size or colour kind than the empty
    images, so that the two can't be compared. An image of a part looks empty or nearly so, or would in
    another light. An image all black or all white would look empty or nearly so. The message of the last two
    ends with `otherwise`, which names the other way out.
    """
    compared = PresenceGate(gate)
    departures: list[float] = []
    looks_empty: list[Path] = []
    in_light: list[tuple[Path, float]] = []
    for file, shape, picture in parts:
        if not compared.fits(shape):
            raise PresenceError(
                f"{file}: {presence.describe_shape(shape)}, the empty images "
                f"{compared.frame_description}: they can't be compared; collect both from the same camera"
            )
        departures.append(compared.departure(picture))
        # `not >` instead of `<=`, so that a departure that is not a number counts as looking empty.
        if not departures[-1] > presence.MIN_PART_DEPARTURE:
            looks_empty.append(file)
        elif (light := compared.nearest_light_factor(picture, presence.MIN_LIGHT_DEPARTURE)) is not None:
            in_light.append((file, light))
    if looks_empty:
        raise PresenceError(
            f"{len(looks_empty)} of {len(departures)} images of good parts look empty, or nearly so: "
            f"{looks_empty[0]}{', ...' if len(looks_empty) > 1 else ''}: take them out of one folder, or "
            f"{otherwise}"
        )
    _require_light(gate, otherwise)
    if in_light:
        file, light = in_light[0]
        raise PresenceError(
            f"{len(in_light)} of {len(departures)} images of good parts would look empty in another light: "
            f"{file} at {light:.0%} of the light{', ...' if len(in_light) > 1 else ''}: show more of the "
            "place around the part, or a place that differs more from it, keep the light steady, or "
            f"{otherwise}"
        )
    return presence.record_parts(gate, departures)


def _require_light(gate: Presence, otherwise: str) -> None:
    """Raises PresenceError if an image all black or all white would look empty, or nearly so.

    With such a gate every part would pass as empty while the lamp is off or far too bright.
    """
    compared = PresenceGate(gate)
    for grey, why, fix in (
        (0, "black, as when the lamp fails", "light it more"),
        (255, "white, as when far too much light falls on it", "expose it less"),
    ):
        picture = np.full((32, 32, 3) if gate.colour else (32, 32), grey, np.uint8)
        if not compared.departure(picture) > presence.MIN_PART_DEPARTURE:
            raise PresenceError(
                f"the empty place is so near to an image all {why}, that such an image would pass for it (a "
                f"difference of {presence.largest_tolerance(gate):.0f} grey levels passes): {fix}, keep the "
                f"light steady, or {otherwise}"
            )
