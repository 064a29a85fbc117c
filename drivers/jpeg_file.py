"""Decodes JPEG files strictly: what the standard allows is read, what is cut short or damaged is refused.

libjpeg-turbo fills what it can't decode with invented pixels and only warns. simplejpeg makes each warning an
error. Some warnings are no damage: bytes between segments, and versions of JFIF. They are taken out before
decoding. A JPEG has no checksums, so damage that gives another valid image is not found. In arithmetic-coded
files, which no camera is known to write, any damage but a cut gives one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from drivers import jpeg_sampling, jpeg_scans
from drivers.image_limits import ImageError, check_size
from drivers.orientation import read_exif, upright

START = b"\xff\xd8"

_BEGIN, _END, _SCAN, _APP0, _APP1, _APP2, _APP14 = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xE2, 0xEE
_FRAMES = jpeg_scans.SEQUENTIAL | jpeg_scans.PROGRESSIVE
"""The markers that begin a frame, whose segment holds the size."""
_UNREADABLE_KINDS = {
    0xC3: "a lossless JPEG",
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "a hierarchical JPEG"),
    0xCB: "a lossless JPEG",
    0xF7: "a JPEG-LS file",
}
_RESTART_INTERVAL = 0xDD
_EXIF, _JFIF, _ICC, _ADOBE = b"Exif\0\0", b"JFIF\0", b"ICC_PROFILE\0", b"Adobe"
_ADOBE_SPACES = {3: (0, 1), 4: (0, 2)}
"""By number of components, the known codes of Adobe's segment. Decoders read any other code as the last."""
_EXTRANEOUS = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0x([0-9a-f]{2})")
_UNKNOWN, _END_MARKER = "unknown", b"\xff\xd9"
_MARKER = re.compile(rb"\xff+[^\0\xff]")
_RESTART = re.compile(rb"(\xff+[\xd0-\xd7])")
_MOST_PADDINGS = 4
_LONGEST_PADDING = 1 << 16
_READ_AHEAD = 8
"""Bytes that libjpeg may have read ahead and does not count, and one zero after 0xFF."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says before its first scan."""

    cleaned: bytes
    """The whole file, with nothing but segments before the first scan."""
    exif: bytes
    """Its EXIF data; empty if there is none."""
    rows: int
    columns: int
    frame: bytes
    """The segment that begins the frame."""
    start: int
    """Where the image data begins in the cleaned file."""
    has_one_scan: bool
    """Whether all image data stands in one sequential scan."""
    has_restarts: bool
    """Whether there are restart markers in the image data."""


def decode(content: bytes) -> NDArray[Any]:
    """The image of a JPEG file's bytes: uint8, (H, W, 3) BGR or (H, W) mono. Raises ImageError."""
    header = clean_header(content)
    check_size(header.columns, header.rows)
    space = _colour_space(header.cleaned)
    if space == "CMYK":
        image = _cmyk_to_bgr(decode_strictly(header.cleaned, "CMYK"))
    elif space == "Gray":
        image = decode_strictly(header.cleaned, "GRAY")[:, :, 0]
    elif space == _UNKNOWN:
        image = _decode_unusual(header)
    else:
        image = decode_strictly(header.cleaned, "BGR")
    if not header.has_one_scan:
        jpeg_scans.check_scans(header.cleaned, header.frame)
    if header.frame[1] in jpeg_scans.ARITHMETIC and space != _UNKNOWN:
        samples = "CMYK" if space == "CMYK" else "GRAY"
        jpeg_scans.check_arithmetic(header.cleaned, lambda file: _find_complaint(file, samples))
    return upright(image, read_exif(header.exif))


def _decode_unusual(header: Header) -> NDArray[Any]:
    """The image of a file with a subsampling that simplejpeg can't decode. Raises ImageError."""
    if not header.has_one_scan or header.has_restarts:
        raise ImageError(
            "its colour subsampling is unusual: save it with 4:4:4, 4:2:2 or 4:2:0, as PNG, "
            "or as a baseline JPEG without restart markers"
        )
    end = _MARKER.search(header.cleaned, header.start)
    if end is None or _END_MARKER not in header.cleaned[end.start() :]:
        raise ImageError("the file is cut short")
    return jpeg_sampling.decode(header.cleaned[: header.start], header.cleaned[header.start : end.start()])


def decode_strictly(content: bytes, space: str, paddings: int = _MOST_PADDINGS) -> NDArray[Any]:
    """The samples in simplejpeg's colour space of that name. Raises ImageError for any damage.

    Zeros before up to `paddings` markers are no damage: some cameras fill image data up to whole words.
    """
    try:
        return np.asarray(simplejpeg.decode_jpeg(content, space, strict=True))
    except ValueError as error:
        message = str(error)
    if paddings:
        for shorter in _without_padding(content, message):
            with suppress(ImageError):
                return decode_strictly(shorter, space, paddings - 1)
    raise _refusal(message)


def _find_complaint(content: bytes, space: str) -> str:
    """What libjpeg says of damage in the file; empty if it says nothing."""
    try:
        simplejpeg.decode_jpeg(content, space, strict=True)
    except ValueError as error:
        return str(error)
    return ""


def clean_header(content: bytes) -> Header:
    """What a file says before its first scan, and the file with nothing but segments there.

    The standard allows fill bytes (0xFF) before a marker (ITU T.81, B.1.1.2). Other bytes between segments
    are left by some network cameras, and every decoder passes over them. Raises ImageError for a kind of JPEG
    that is not read.
    """
    segments, exif, frame, place = [START], b"", b"", len(START)
    while True:
        place = content.find(b"\xff", place)
        if not 0 <= place < len(content) - 1:
            raise ImageError("the file is cut short")
        marker = content[place + 1]
        if marker in (0x00, 0xFF):
            place += 1
            continue
        if marker in _UNREADABLE_KINDS:
            raise ImageError(f"{_UNREADABLE_KINDS[marker]}: save it as a baseline JPEG or as PNG")
        if marker == _END:
            raise ImageError("the file is damaged (it has no image data)")
        if marker == _BEGIN:
            raise ImageError("the file is damaged (it begins twice)")
        end = place + 2
        if marker not in jpeg_scans.WITHOUT_LENGTH:
            end += max(2, int.from_bytes(content[place + 2 : place + 4], "big"))
        segment = content[place:end]
        if marker == _SCAN and end < len(content):
            return _make_header([*segments, segment], content, end, frame, exif)
        body = segment[4:]
        if marker == _APP1 and body.startswith(_EXIF) and not exif:
            exif = body
        elif marker in _FRAMES and len(body) > 5:
            frame = segment
        segments.append(segment)
        place = end


def _make_header(segments: list[bytes], content: bytes, end: int, frame: bytes, exif: bytes) -> Header:
    """`segments` are those before the image data, which begins at `end`; the last one begins the scan."""
    if not frame or not segments[-1][4:5]:
        raise ImageError("the file is damaged (its header can't be read)")
    data = content[end:]
    if frame[5:7] == b"\0\0":
        rows, place = jpeg_scans.find_height(content, end)
        segments = [_set_rows(one, rows) if one is frame else one for one in segments]
        frame = _set_rows(frame, rows)
        data = content[end : place.start] + content[place.stop :] if rows else data
    before = b"".join(_normalised(one, frame) for one in segments)
    rows, columns = int.from_bytes(frame[5:7], "big"), int.from_bytes(frame[7:9], "big")
    has_one_scan = frame[1] in jpeg_scans.SEQUENTIAL and frame[9:10] == segments[-1][4:5]
    restarts = any(one[1] == _RESTART_INTERVAL and one[4:6] != b"\0\0" for one in segments)
    return Header(before + data, exif, rows, columns, frame, len(before), has_one_scan, restarts)


def _set_rows(frame: bytes, rows: int) -> bytes:
    return frame[:5] + rows.to_bytes(2, "big") + frame[7:]


def _normalised(segment: bytes, frame: bytes) -> bytes:
    """The segment without what libjpeg warns of although it changes no pixel.

    `frame` is the segment that begins the frame.
    """
    marker, body = segment[1], segment[4:]
    if marker == _APP0 and body.startswith(_JFIF) and len(body) > 6:
        return segment[:9] + b"\1\2" + segment[11:]
    if marker == _APP2 and body.startswith(_ICC):
        # Colour profiles are not applied.
        return b""
    known = _ADOBE_SPACES.get(frame[9])
    if marker == _APP14 and body.startswith(_ADOBE) and len(body) > 11 and known and body[11] not in known:
        return segment[:15] + bytes([known[-1]]) + segment[16:]
    if marker == _SCAN and len(body) > 3 and frame[1] in jpeg_scans.SEQUENTIAL:
        # Spectral selection and approximation have a meaning only in a progressive JPEG.
        return segment[:-3] + b"\0\x3f\0"
    return segment


def _colour_space(content: bytes) -> str:
    """simplejpeg's name of the colour space that the file is in; _UNKNOWN for an unusual subsampling."""
    try:
        return str(simplejpeg.decode_jpeg_header(content, strict=True)[2])
    except ValueError as error:
        if "determine subsampling" in str(error):
            return _UNKNOWN
        raise _refusal(str(error)) from None
    except KeyError:
        # simplejpeg has no name for 4:4:1 subsampling, but decodes it. Only YCbCr is subsampled.
        return "YCbCr"


def _without_padding(content: bytes, message: str) -> Iterator[bytes]:
    """The file without the zeros before the marker at which libjpeg found bytes that it had no use for.

    Nothing, where these bytes are not zeros. More zeros than libjpeg counted and had read ahead stand in the
    place of image data. The last byte of image data may be a zero too, and is one after 0xFF.
    """
    found = _EXTRANEOUS.match(message)
    if found is None or (count := int(found[1])) > _LONGEST_PADDING:
        return
    if 0xD0 <= int(found[2], 16) <= 0xD7 and (shorter := _without_restart_padding(content)) != content:
        yield shorter
    marker = b"\xff" + bytes([int(found[2], 16)])
    place = content.find(marker)
    while place >= 0:
        fill = place
        while content[fill - 1] == 0xFF:
            fill -= 1
        if content.endswith(bytes(count), 0, fill):
            start = len(content[:fill].rstrip(b"\0"))
            if fill - start <= count + _READ_AHEAD:
                yield content[:start] + content[fill:]
                yield content[: start + 1] + content[fill:]
                return
        place = content.find(marker, place + 1)


def _without_restart_padding(content: bytes) -> bytes:
    """The file without zeros before any restart marker: who pads one interval to whole words pads them all.

    Image data may end with 0xFF, which is followed by a zero that belongs to it.
    """
    start = jpeg_scans.find_data(content)
    pieces = _RESTART.split(content[start:])
    for place in range(0, len(pieces) - 1, 2):
        data = pieces[place].rstrip(b"\0")
        pieces[place] = data + b"\0" if data.endswith(b"\xff") else data
    return content[:start] + b"".join(pieces)


def _refusal(message: str) -> ImageError:
    if "Premature end of JPEG" in message:
        return ImageError("the file is cut short")
    if "precision" in message:
        return ImageError(f"a JPEG with more than 8 bits a channel: save it as PNG ({message})")
    return ImageError(f"the file is damaged ({message})")


def _cmyk_to_bgr(cmyk: NDArray[Any]) -> NDArray[Any]:
    """Adobe's inverted CMYK, as OpenCV computes it."""
    wide = cmyk.astype(np.int32)
    key = wide[:, :, 3:]
    bgr = key - ((255 - wide[:, :, 2::-1]) * key >> 8)
    return np.asarray(bgr.astype(np.uint8))
