"""Checks the LZW data of a TIFF before it is decoded: every code is defined, and its length is known.

It decodes no pixel. Where the code after a Clear code is undefined, imagecodecs reads memory that is not its
own, which can end the process. So each strip or tile is checked here first. Section 13 of TIFF 6.0 has the
format.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.image_limits import ImageError

_CLEAR, _END, _FIRST = 256, 257, 258
"""The two codes that stand for no bytes, and the first one that stands for several."""
_MOST_CODES = 5120 - _FIRST
"""Codes between two Clear codes. Encoders write 3,837 at most; decoders take these more."""
_BITS = np.searchsorted([511, 1023, 2047], np.arange(_MOST_CODES + 1) + _CLEAR + 1, side="right") + 9
"""The bits of each code after a Clear code: one more when the table has 511, 1,023 and 2,047 entries."""
_STARTS = np.concatenate([[0], np.cumsum(_BITS)[:-1]])
_FEWEST_CODES = 32
"""Codes for each Clear code on average. Encoders write thousands; damage may cost no minutes."""
_FREE_CLEARS = 16

_Codes = NDArray[np.int64]


def count_decoded_bytes(piece: bytes) -> int:
    """How many bytes the LZW data of one strip or tile stands for. Raises ImageError for damage."""
    if len(piece) > 1 and piece[0] == 0 and piece[1] & 1:
        raise ImageError("a TIFF with the LZW compression of before 1992: save it with Deflate")
    content = np.frombuffer(piece + bytes(2), np.uint8)
    end, size = len(piece) * 8, 0
    codes, place = _read_codes(content, 0, end, 0)
    if len(codes) or place < 9 or place >= end:
        raise _damaged("does not begin with a Clear code")
    most_clears = _FREE_CLEARS + end // (9 * _FEWEST_CODES)
    expected = _MOST_CODES
    while place < end:
        codes, place = _read_codes(content, place, end, expected)
        expected = len(codes)
        size += _count_bytes(codes)
        most_clears -= 1
        if not most_clears:
            raise _damaged("has too many Clear codes")
    return size


def _read_codes(content: NDArray[np.uint8], place: int, end: int, expected: int) -> tuple[_Codes, int]:
    """The codes from the bit at `place` to the next Clear or End code, and the bit behind that code.

    Behind an End code, or where the data ends without one, that bit is `end`.
    """
    count = 2 * expected + 64
    while True:
        count = min(count, len(_BITS))
        starts = place + _STARTS[:count]
        bits = _BITS[:count]
        inside = int(np.searchsorted(starts + bits, end, side="right"))
        starts, bits = starts[:inside], bits[:inside]
        first = starts >> 3
        words = (
            content[first].astype(np.int64) << 16
            | content[first + 1].astype(np.int64) << 8
            | content[first + 2]
        )
        codes = words >> (24 - (starts & 7) - bits) & (1 << bits) - 1
        special = np.flatnonzero((codes == _CLEAR) | (codes == _END))
        if special.size:
            at = int(special[0])
            return codes[:at], int(starts[at] + bits[at]) if codes[at] == _CLEAR else end
        if inside < count:
            return codes, end
        if count == len(_BITS):
            raise _damaged("has too many codes without a Clear code")
        count *= 4


def _count_bytes(codes: _Codes) -> int:
    """How many bytes the codes between two Clear codes stand for. Raises ImageError for an undefined code.

    Each code defines an entry: what the code stands for, and one byte more.
    """
    count = len(codes)
    if not count:
        return 0
    if codes[0] >= _CLEAR or (codes > np.arange(count) + _END).any():
        raise _damaged("has an undefined code")
    # Follow the entry of each code to the code that defined it, twice as far in every turn.
    defined_by = np.append(np.where(codes < _FIRST, count, codes - _FIRST), count)
    sizes = np.append(np.ones(count, np.int64), 0)
    while (defined_by != count).any():
        sizes += sizes[defined_by]
        defined_by = defined_by[defined_by]
    return int(sizes.sum())


def _damaged(what: str) -> ImageError:
    return ImageError(f"the file is damaged (its LZW data {what})")
