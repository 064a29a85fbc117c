"""User and password in a camera's URL are taken as people type them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import drivers
from drivers.credentials import AmbiguousCredentials, escape


@pytest.mark.parametrize(
    ("typed", "escaped"),
    [
        ("rtsp://10.0.0.9:554/live?channel=1", None),
        ("rtsp://cam1/live@2x", None),
        ("rtsp://10.0.0.9:554/user=admin@x/ch1", None),
        ("rtsp://[fe80::1%25eth0]:554/live", None),
        ("rtsp://op:plain-7@10.0.0.9/live", None),
        ("rtsp://op@10.0.0.9/live", None),
        ("rtsp://op:p%23w@10.0.0.9/live", None),
        ("rtsp://op:p#w@10.0.0.9/live", "rtsp://op:p%23w@10.0.0.9/live"),
        ("rtsp://op:p/w@10.0.0.9/live", "rtsp://op:p%2Fw@10.0.0.9/live"),
        ("rtsp://op:p?w@10.0.0.9/live", "rtsp://op:p%3Fw@10.0.0.9/live"),
        ("rtsp://op:p@w@10.0.0.9/live", "rtsp://op:p%40w@10.0.0.9/live"),
        ("rtsp://op:p@ss/w#rd@10.0.0.9/live", "rtsp://op:p%40ss%2Fw%23rd@10.0.0.9/live"),
        ("rtsp://op:50%off@cam1/live", "rtsp://op:50%25off@cam1/live"),
        ("rtsp://op:100%@cam1:554/live", "rtsp://op:100%25@cam1:554/live"),
        ("rtsp://op:12#4@10.0.0.9/live", "rtsp://op:12%234@10.0.0.9/live"),
        ("rtsp://o p:ä@10.0.0.9/live", "rtsp://o%20p:%C3%A4@10.0.0.9/live"),
        ("rtsp://a@plant.com:pw@10.0.0.9/live", "rtsp://a%40plant.com:pw@10.0.0.9/live"),
        ("rtsp://op:pw@10.0.0.9/live@2x?a=b@c", None),
        ("rtsp://op:p:w@10.0.0.9/live", "rtsp://op:p%3Aw@10.0.0.9/live"),
        ("rtsp://op:p#w@[fe80::1]/live", "rtsp://op:p%23w@[fe80::1]/live"),
    ],
)
def test_what_ffmpeg_would_misread_is_escaped(typed: str, escaped: str | None) -> None:
    assert escape(typed) == (escaped or typed)


@pytest.mark.parametrize(
    "typed",
    ["rtsp://op:12#s3cret@cam1/live", "rtsp://op:s3cret@1.2/w@10.0.0.9/live", "rtsp://op:12/s3cret@cam2"],
)
def test_what_can_be_read_in_two_ways_is_refused_with_the_spelling(typed: str) -> None:
    with pytest.raises(AmbiguousCredentials, match="write %23 for a #"):
        escape(typed)
    with pytest.raises(drivers.CameraError, match="write %23 for a #") as refused:
        drivers.open(typed)
    assert "s3cret" not in str(refused.value)


@given(
    st.text(st.characters(exclude_characters="\0%:", exclude_categories=["Cs"]), min_size=1, max_size=12),
    st.text(st.characters(exclude_characters="\0%", exclude_categories=["Cs"]), max_size=12),
)
def test_escaping_twice_changes_nothing(user: str, password: str) -> None:
    try:
        once = escape(f"rtsp://{user}:{password}@10.0.0.9:554/live")
    except AmbiguousCredentials:
        return
    assert escape(once) == once
    assert once.endswith("@10.0.0.9:554/live")
    assert once.count("@") == 1
    assert not set("#?") & set(once)
