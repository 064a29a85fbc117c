"""From a folder of pictures of the empty place to a recipe's presence gate, compared with good parts' images.

Must never give a gate that takes for the empty place a good part at hand, in whatever light, or a picture
without any light or with far too much.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from drivers import image_file
from drivers.image_file import Image
from monitor.errors import LineMonitorError
from monitor.inference import presence
from monitor.inference.presence import Gate
from monitor.model.recipe_document import Presence
from monitor.system.progress import SILENT, Progress
from monitor.training import readable_images


class PresenceError(LineMonitorError):
    """There is no presence gate to be had from these pictures; the message is one line with the fix."""


def learned(
    folder: Path,
    squashed: Callable[[Image], Image],
    *,
    say: Callable[[str], None],
    progress: Progress = SILENT,
) -> Presence:
    """The gate from the pictures in a folder, at any depth, not yet compared with parts.

    `squashed` makes of an image what the recipe's network gets to see. Raises PresenceError.
    """
    try:
        files = image_file.find(folder)
    except image_file.ImageError as error:
        raise PresenceError(f"{folder}: {error}") from None
    found: dict[bytes, tuple[Path, presence.Cells]] = {}
    frame: tuple[int, ...] = ()
    unusable: list[str] = []
    for done, file in enumerate(files, start=1):
        for _, content, image in readable_images.readable([file], unusable.append):
            frame = frame or image.shape
            if image.shape != frame:
                raise PresenceError(
                    f"{file}: {presence.kind(image.shape)}, those before it {presence.kind(frame)}: "
                    "a presence gate is made of pictures of one size, as the camera gives them"
                )
            # A copy is no second witness.
            mark = hashlib.sha256(content).digest()
            found.setdefault(mark, (file, presence.cells(squashed(image))))
        progress.update("empty", done, len(files))
    for line in unusable:
        say(line)
    if len(found) < presence.FEWEST:
        raise PresenceError(
            f"{folder}: {len(found)} different pictures of the empty place: at least {presence.FEWEST} are "
            "needed, better 50, with everything on them that moves or flickers without a part"
        )
    empties = np.stack([cells for _, cells in found.values()])
    departures = presence.left_out(empties)
    if departures.max() > presence.ODD:
        odd, _ = list(found.values())[int(departures.argmax())]
        raise PresenceError(
            f"{odd}: unlike all other pictures of the empty place: if it shows a part, take it out; "
            "if it does not, add more pictures that are like it"
        )
    return presence.learned(empties, frame)


def without_parts(gate: Presence) -> Presence:
    """The gate, where no good part's image is at hand. Raises PresenceError when one might hide in it."""
    if presence.room(gate) > presence.MOST_ROOM:
        raise PresenceError(
            f"the empty pictures differ so much that {presence.room(gate):.0f} grey levels would pass for "
            "empty: look for parts in them, or give good images with --images to compare with"
        )
    _require_light(gate, "have no presence gate")
    return gate


def beside_parts(
    gate: Presence, parts: Iterable[tuple[Path, tuple[int, ...], Image]], otherwise: str
) -> Presence:
    """The gate, compared with images of good parts: each one's file, shape, and itself squashed.

    Raises PresenceError when one is not as the gate's pictures are, so that the two can't be compared, and,
    ending with `otherwise`, when one looks empty, or nearly so, or would in another light, and when anything
    would without light.
    """
    at_work = Gate(gate)
    departures: list[float] = []
    alike: list[Path] = []
    in_light: list[tuple[Path, float]] = []
    for file, shape, picture in parts:
        if not at_work.fits(shape):
            raise PresenceError(
                f"{file}: {presence.kind(shape)}, the empty pictures {at_work.kind}: they can't be compared; "
                "collect both from the same camera"
            )
        departures.append(at_work.departure(picture))
        if not departures[-1] > presence.PARTS_APART:
            alike.append(file)
        elif (light := at_work.nearest_light(picture, presence.LIGHT_APART)) is not None:
            in_light.append((file, light))
    if alike:
        raise PresenceError(
            f"{len(alike)} of {len(departures)} images of good parts look empty, or nearly so: "
            f"{alike[0]}{', ...' if len(alike) > 1 else ''}: take them out of one folder, or {otherwise}"
        )
    _require_light(gate, otherwise)
    if in_light:
        file, light = in_light[0]
        raise PresenceError(
            f"{len(in_light)} of {len(departures)} images of good parts would look empty in another light: "
            f"{file} at {light:.0%} of it{', ...' if len(in_light) > 1 else ''}: show more of the place "
            f"around the part, or a place that differs more from it, keep the light steady, or {otherwise}"
        )
    return presence.beside_parts(gate, departures)


def _require_light(gate: Presence, otherwise: str) -> None:
    """Raises PresenceError when a picture all black or all white, which shows nothing, is not far from empty:
    the lamp that fails, and the one that dazzles, would pass every part."""
    at_work = Gate(gate)
    for grey, why, fix in (
        (0, "black, as when the lamp fails", "light it more"),
        (255, "white, as when far too much light falls on it", "expose it less"),
    ):
        picture = np.full((32, 32, 3) if gate.colour else (32, 32), grey, np.uint8)
        if not at_work.departure(picture) > presence.PARTS_APART:
            raise PresenceError(
                f"the empty place is so near to a picture all {why}, that this would pass for it (up to "
                f"{presence.room(gate):.0f} grey levels do): {fix}, keep the light steady, or {otherwise}"
            )
