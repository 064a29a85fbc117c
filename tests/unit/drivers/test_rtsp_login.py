"""The answer to a camera's challenge is the one of the standards."""

from __future__ import annotations

import pytest

from drivers.rtsp_login import authorization


def test_digest_without_qop_as_most_cameras_ask_for_it() -> None:
    """The value was worked out with `md5sum`."""
    said = authorization(
        ['Digest realm="cam", nonce="abc123"'], "u:x", "DESCRIBE", "rtsp://127.0.0.1:8554/live", 1
    )
    assert said is not None
    assert 'username="u"' in said
    assert 'response="a84765acfb69954116bef732c823dbb6"' in said


@pytest.mark.parametrize(
    ("challenges", "login", "expected"),
    [
        (['Basic realm="cam"'], "Aladdin:open%20sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        (["Negotiate"], "u:x", None),
        ([], "u:x", None),
        (['Digest realm="r", nonce="n", algorithm=SHA-512'], "u:x", None),
    ],
)
def test_other_challenges(challenges: list[str], login: str, expected: str | None) -> None:
    assert authorization(challenges, login, "DESCRIBE", "rtsp://h/", 1) == expected


def test_digest_is_preferred_and_quality_of_protection_is_answered() -> None:
    said = authorization(
        [
            'Basic realm="r"',
            'Digest realm="r", nonce="n", qop="auth-int,auth", algorithm=SHA-256, opaque="o"',
        ],
        "u:x",
        "DESCRIBE",
        "rtsp://h/",
        2,
    )
    assert said is not None
    assert said.startswith("Digest ")
    for part in ("qop=auth", "nc=00000002", 'opaque="o"', "algorithm=SHA-256"):
        assert part in said
