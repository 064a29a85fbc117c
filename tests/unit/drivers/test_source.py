"""Sources: the choice of the driver, the options, and the form for messages."""

from __future__ import annotations

import pytest

import drivers
from drivers.source import Options, redacted


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://10.0.0.9:554/live?channel=1", "rtsp://10.0.0.9:554/live?channel=1"),
        ("rtsp://operator:s3cret@10.0.0.9/live", "rtsp://***@10.0.0.9/live"),
        ("rtsp://operator:p@ss/w?rd@10.0.0.9/live", "rtsp://***@10.0.0.9/live"),
        ("rtsp://10.0.0.9/live?user=op&password=s3cret&channel=1", None),
        ("rtsp://10.0.0.9/user=op_password=s3cret_channel=1", None),
        ("rtsp://10.0.0.9/live?pwd=s3cret", None),
        ("rtsp://10.0.0.9/live?token=s3cret", None),
        ("operator:s3cret@10.0.0.9", "***@10.0.0.9"),
        ("file://operator:s3cret@server/clip.mp4", "file://***@server/clip.mp4"),
        ("folder:///data/@line/key=5#2", "folder:///data/@line/key=5#2"),
    ],
)
def test_no_credentials_survive(source: str, shown: str | None) -> None:
    """Logs are sent to other people. No part of a password with an @ or a / may remain."""
    assert "s3cret" not in redacted(source)
    assert "w?rd" not in redacted(source)
    if shown is not None:
        assert redacted(source) == shown


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("http://10.0.0.9/x", ["unknown kind of camera", "rtsp://"]),
        ("nothing", ["unknown kind of camera"]),
        ("simulated://bottle", ["'bottle'", "bottle-top", "plate"]),
        ("simulated://plate?fsp=3", ["'fsp'", "did you mean 'fps'"]),
        ("simulated://plate?zoom=3", ["'zoom'", "fps, defects, seed, count, size"]),
        ("simulated://plate?fps=0", ["fps='0'", "0.01 to 1000"]),
        ("simulated://plate?defects=1.5", ["defects='1.5'"]),
        ("simulated://plate?defects=nan", ["defects='nan'"]),
        ("simulated://plate?seed=-1", ["seed='-1'"]),
        ("simulated://plate?size=1x1", ["size='1x1'", "WIDTHxHEIGHT"]),
        ("simulated://plate?fps=1&fps=2", ["'fps'", "twice"]),
        ("simulated://plate?fps", ["valid"]),
        ("folder://images", ["folder:///path"]),
        ("folder:///images?loop=yes", ["loop='yes'", "0, 1"]),
        ("file://clip.mp4", ["file:///path"]),
        ("rtsp://", ["no address"]),
        ("rtsp://op:s3cret@10.0.0.9/live?transport=sctp", ["transport='sctp'", "tcp or udp"]),
        ("gige://", ["gige://<id>"]),
        ("gige://cam?trigger=sometimes", ["trigger='sometimes'", "free-run"]),
        ("gige://cam?exposure=3", ["'exposure'", "exposure_us"]),
    ],
)
def test_a_wrong_source_is_refused_in_one_line(source: str, words: list[str]) -> None:
    with pytest.raises(drivers.CameraError) as refusal:
        drivers.open(source)
    message = str(refusal.value)
    assert "\n" not in message
    assert "s3cret" not in message
    for word in words:
        assert word in message


def test_rtsp_passes_the_camera_its_own_query_unchanged() -> None:
    """Options such as `channel=1` and characters such as `%20` are for the camera; only `transport` is for
    the driver."""
    from drivers.rtsp import _split

    assert _split("rtsp://h/a%20b?x=%31&transport=udp&y=2") == ("rtsp://h/a%20b?x=%31&y=2", "udp", "stamps")
    assert _split("rtsp://h/live?transport=tcp") == ("rtsp://h/live", "tcp", "stamps")
    assert _split("rtsp://h/live") == ("rtsp://h/live", "tcp", "stamps")


@pytest.mark.parametrize(
    "source",
    [
        "rtsp://u:p?clock=s3cret@h/x",
        "rtsp://u:p?transport=s3cret@h/x",
        "rtsp://u:p?transport=s3cret&clock=more@h/x",
        "rtsp://u:p?clock=tcp&clock=s3cret@h/x",
    ],
)
def test_a_password_that_looks_like_an_option_is_not_shown(source: str) -> None:
    with pytest.raises(drivers.CameraError, match="write %3F for a") as refused:
        drivers.open(source)
    assert "s3cret" not in str(refused.value)


def test_options_decode_the_path() -> None:
    assert Options("folder:///good%20parts/%C3%A4?loop=1").path == "/good parts/ä"
