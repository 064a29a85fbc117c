"""Decodes TIFF files by tifffile: which kinds are read, and what their samples mean as pixels.

A kind that no test compares with known values is refused by name: OpenCV 5.0 read some kinds as noise.
tifffile gives the samples as they are stored; this module turns them into grey or BGR values. Depths are
shifted by a fixed number of bits, never stretched.
"""

from __future__ import annotations

import io
import logging
import math
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from drivers import jpeg_file, lzw_codes
from drivers.image_limits import ImageError, check_size, damaged
from drivers.orientation import TAG, upright

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_CHUNKY = 1
_RAW = 1
_LZW = 5
_JPEG = 7
_IN_JPEG = (_BLACK_IS_ZERO, _RGB, _CMYK, _YCBCR)
_COMPRESSIONS = (_RAW, _LZW, _JPEG, 8, 32773, 32946)
"""CCITT is not among them: its decoders fill what is damaged or cut short with black or white."""
_COMPRESSION_WORDS = "none, LZW, Deflate, PackBits or JPEG"
_DIFFERENCES = 2
_PREDICTED = (_LZW, 8, 32946)
"""LZW and Deflate. Decoders disagree on what a predictor means with other compressions."""
_DEPTHS = {
    _WHITE_IS_ZERO: (1, 2, 4, 8, 10, 12, 14, 16),
    _BLACK_IS_ZERO: (1, 2, 4, 8, 10, 12, 14, 16),
    _RGB: (8, 16),
    _PALETTE: (1, 2, 4, 8),
    _CMYK: (8,),
    _YCBCR: (8,),
}
_SAMPLES = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
_PLACES = (273, 279, 324, 325)
"""The tags of the places and lengths of strips and of tiles."""
_FILLED_UP = 3
"""Bytes with which uncompressed strips may be filled up to whole words."""
_PHOTOMETRIC = 262
_FIX = "save it as 8 or 16 bit grey or RGB"

# tifffile logs what it finds odd in a file; the reader of this program's log can do nothing about that.
logging.getLogger("tifffile").addHandler(logging.NullHandler())
logging.getLogger("tifffile").propagate = False


def decode(content: bytes) -> NDArray[Any]:
    """The first page: uint8 or uint16, (H, W, 3) BGR or (H, W) mono. Raises ImageError.

    16-bit colour becomes 8-bit. Grey of 10, 12 or 14 bits is shifted to 16 bits. An alpha channel is dropped.
    """
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            page = file.pages.first
            _check_kind(page)
            check_size(page.imagewidth, page.imagelength)
            _check_pieces(page, content)
            samples = page.asarray(maxworkers=1, squeeze=False)
            colours = page.colormap
    except (tifffile.TiffFileError, ValueError, RuntimeError) as error:
        raise damaged(error) from None
    image = _pixels(_interleaved(samples), page.photometric, _depth(page), colours)
    return upright(image, page.tags.valueof(TAG))


def _check_kind(page: tifffile.TiffPage) -> None:
    """Raises ImageError for a kind of TIFF that is not read, with its name."""
    if not isinstance(page, tifffile.TiffPage) or not page.tags:
        raise ImageError("the file is damaged (it has no image)")
    photometric, depth = page.photometric, _depth(page)
    if _PHOTOMETRIC not in page.tags:
        # tifffile takes such a file for a negative of one channel, other decoders for something else.
        raise ImageError(f"a TIFF that does not say what its samples mean (tag {_PHOTOMETRIC}): {_FIX}")
    if photometric not in _DEPTHS:
        raise ImageError(f"a TIFF of the kind {_name(photometric)}: {_FIX}")
    if page.sampleformat != 1:
        raise ImageError(f"a TIFF whose samples are {_name(page.sampleformat)}: {_FIX}")
    if depth not in _DEPTHS[photometric]:
        raise ImageError(f"a TIFF of the kind {_name(photometric)} with {depth} bits a channel: {_FIX}")
    if page.compression not in _COMPRESSIONS:
        raise ImageError(
            f"a TIFF with {_name(page.compression)} compression: save it with {_COMPRESSION_WORDS}"
        )
    if page.predictor != 1 and (page.predictor != _DIFFERENCES or page.compression not in _PREDICTED):
        raise ImageError(
            f"a TIFF with predictor {_name(page.predictor)} and {_name(page.compression)} compression: "
            "save it without a predictor"
        )
    if page.compression == _JPEG and (
        depth != 8 or photometric not in _IN_JPEG or page.planarconfig != _CHUNKY
    ):
        raise ImageError(f"a TIFF of the kind {_name(photometric)} with JPEG compression: {_FIX}")
    if page.fillorder != 1 and page.compression == _LZW:
        raise ImageError(f"a TIFF with reversed bits and LZW compression: {_FIX}")
    if page.fillorder != 1 and depth != 1:
        raise ImageError(f"a TIFF with reversed bits and {depth} bits a channel: {_FIX}")
    if page.samplesperpixel < _SAMPLES[photometric]:
        raise ImageError(f"the file is damaged ({page.samplesperpixel} channels of {_name(photometric)})")
    if page.samplesperpixel > _SAMPLES[photometric] + _extra_samples(page):
        raise ImageError(
            f"a TIFF of the kind {_name(photometric)} with {page.samplesperpixel} channels: {_FIX}"
        )
    if photometric == _YCBCR and page.compression != _JPEG:
        raise ImageError(f"a TIFF with YCbCr colours without JPEG compression: {_FIX}")
    if page.imagedepth != 1 or page.tiledepth != 1 or page.is_ndpi:
        raise ImageError(f"a TIFF with a volume or of a slide scanner: {_FIX}")


def _extra_samples(page: tifffile.TiffPage) -> int:
    """How many channels may be dropped: one that the file declares as extra, such as alpha.

    Some programs write RGB with alpha and declare nothing. Two undeclared channels of grey may be two images.
    """
    if page.photometric == _YCBCR:
        return 0
    return 1 if page.extrasamples or page.photometric == _RGB else 0


def _check_pieces(page: tifffile.TiffPage, content: bytes) -> None:
    """Raises ImageError where a strip or tile is missing or damaged.

    tifffile fills missing ones with zeros, and its JPEG decoder passes over damage. It also passes over data
    that is left over, which shows that the size in the header is damaged.
    """
    places, sizes = page.dataoffsets, page.databytecounts
    if min(page.chunks[:2]) < 1:
        raise ImageError("the file is damaged (its strips or tiles have no size)")
    wanted = math.prod(page.chunked)
    if any(page.tags[tag].count > wanted for tag in _PLACES if tag in page.tags):
        raise ImageError("the file is damaged (it has more strips or tiles than its size needs)")
    if page.is_contiguous and page.compression == _RAW:
        # These are read in one piece. tifffile checks that the file is long enough.
        if not page.nbytes <= sum(sizes) <= page.nbytes + wanted * _FILLED_UP:
            raise _wrong_size()
        return
    if min(len(places), len(sizes)) < wanted:
        raise ImageError("the file is damaged (strips or tiles are missing)")
    for index, (place, size) in enumerate(zip(places, sizes, strict=False)):
        if place <= 0 or size <= 0:
            raise ImageError("the file is damaged (strips or tiles are missing)")
        if place + size > len(content):
            raise ImageError("the file is cut short")
        _check_piece(page, index, content[place : place + size])


def _check_piece(page: tifffile.TiffPage, index: int, piece: bytes) -> None:
    """Raises ImageError where the strip or tile of that index is damaged."""
    if page.compression == _JPEG:
        tables = page.jpegtables
        image = jpeg_file.decode(piece if tables is None else tables[:-2] + piece[2:])
        if image.ndim == 2 and page.samplesperpixel > 1:
            raise ImageError("the file is damaged (a strip or tile has no colours)")
        rows, columns = _find_extent(page, index)
        if image.shape[0] not in rows or image.shape[1] not in columns:
            raise _wrong_size()
    elif page.compression == _LZW:
        if lzw_codes.count_decoded_bytes(piece) not in _count_bytes(page, index):
            raise _wrong_size()
    elif page.compression == _RAW and len(piece) > _count_bytes(page, index)[1] + _FILLED_UP:
        raise _wrong_size()


def _wrong_size() -> ImageError:
    return ImageError("the file is damaged (a strip or tile has not the size that it needs)")


def _count_bytes(page: tifffile.TiffPage, index: int) -> tuple[int, int]:
    """The bytes that the strip or tile of that index decodes to, and those of a strip that is filled up."""
    rows, columns = _find_extent(page, index)
    samples = page.samplesperpixel if page.planarconfig == _CHUNKY else 1
    row_bytes = -(-columns[1] * samples * _depth(page) // 8)
    left, whole = rows
    return (whole if page.is_tiled else left) * row_bytes, whole * row_bytes


def _find_extent(page: tifffile.TiffPage, index: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The rows and the columns of the strip or tile of that index: those inside the image, and all of them.

    Strips at the end of an image are seldom filled up, and tiles at its edges nearly always.
    """
    rows, columns = page.chunks[0], page.chunks[1]
    rows = rows if page.is_tiled else min(rows, page.imagelength)
    across, down = -(-page.imagewidth // columns), -(-page.imagelength // rows)
    top, left = index // across % down * rows, index % across * columns
    return (min(rows, page.imagelength - top), rows), (min(columns, page.imagewidth - left), columns)


def _interleaved(samples: NDArray[Any]) -> NDArray[Any]:
    """(rows, columns, channels) from tifffile's (planes, 1, rows, columns, channels of a plane)."""
    planes, _, rows, columns, count = samples.shape
    return np.moveaxis(samples[:, 0], 0, 2).reshape(rows, columns, planes * count)


def _pixels(
    samples: NDArray[Any], photometric: int, depth: int, colours: NDArray[Any] | None
) -> NDArray[Any]:
    if photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO):
        grey = samples[:, :, 0]
        white = (1 << depth) - 1
        grey = white - grey if photometric == _WHITE_IS_ZERO else grey
        if depth < 8:
            # 1, 2 and 4 bits: the largest value is white, as in PNG.
            return (grey.astype(np.uint8) * (255 // white)).astype(np.uint8)
        return np.left_shift(grey, 16 - depth) if depth > 8 else grey
    if photometric == _PALETTE:
        return _looked_up(samples[:, :, 0], colours, depth)
    if photometric == _CMYK:
        wide = 255 - samples[:, :, :4].astype(np.int32)
        return (wide[:, :, 2::-1] * wide[:, :, 3:] // 255).astype(np.uint8)
    bgr = samples[:, :, 2::-1]
    return np.right_shift(bgr, 8).astype(np.uint8) if depth == 16 else bgr


def _looked_up(indices: NDArray[Any], colours: NDArray[Any] | None, depth: int) -> NDArray[Any]:
    """The palette's colours, 16 bits each; some programs write 8 bits there."""
    if colours is None or colours.shape[1] < 1 << depth:
        raise ImageError("the file is damaged (its palette is missing)")
    table = colours if colours.max() < 256 else np.right_shift(colours, 8)
    return np.asarray(table.astype(np.uint8)[::-1].T[indices.astype(np.uint8)])


def _depth(page: tifffile.TiffPage) -> int:
    """Bits of a channel; 0 if the channels differ."""
    bits = page.bitspersample
    return bits if isinstance(bits, int) else 0


def _name(value: object) -> str:
    return str(getattr(value, "name", value))
