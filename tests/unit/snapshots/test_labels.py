"""A snapshot's document that could not be read again is not encoded."""

from __future__ import annotations

from typing import Any

import pytest

from monitor.snapshots.labels import encode_document


def test_what_is_too_deep_to_be_read_again_is_not_written() -> None:
    deep: list[Any] = []
    for _ in range(60_000):
        deep = [deep]
    with pytest.raises(ValueError, match="too deep"):
        encode_document({"deep": deep})
