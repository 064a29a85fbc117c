"""Access to the page: password hashes, sessions, form tokens, host names, and the limit of attempts."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from monitor.review.access import (
    SESSION_S,
    Sessions,
    hash_password,
    is_hash,
    is_local_name,
    refusal,
    secret_of,
    verify,
)
from monitor.settings import ReviewSettings

HASH = hash_password("correct horse")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_hash_knows_its_password_and_no_other() -> None:
    assert verify("correct horse", HASH)
    assert not verify("correct horsf", HASH)
    assert not verify("", HASH)
    assert hash_password("correct horse") != HASH
    assert "horse" not in HASH


def test_a_short_password_is_refused() -> None:
    with pytest.raises(ValueError, match="8 characters"):
        hash_password("short")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "correct horse",
        "scrypt:1:8:1:" + "A" * 24 + ":" + "A" * 44,
        "scrypt:99999999:8:1:" + "A" * 24 + ":" + "A" * 44,
        # Named: processes that run tests side by side must find the same ones, and its salt is drawn anew.
        pytest.param(HASH.replace("scrypt", "plain"), id="another method"),
    ],
)
def test_what_is_no_hash_is_none(text: str) -> None:
    assert not is_hash(text)
    assert not verify("correct horse", text)


def test_the_page_is_not_served_to_others_without_a_password() -> None:
    assert refusal(ReviewSettings()) is None
    assert refusal(ReviewSettings(host="::1")) is None
    for host in ("0.0.0.0", "::", "10.0.0.5", "line-pc"):
        why = refusal(ReviewSettings(host=host))
        assert why is not None
        assert host in why
        assert "--hash-password" in why
        assert refusal(ReviewSettings(host=host, password_hash=SecretStr(HASH))) is None
    assert "not a password hash" in (refusal(ReviewSettings(password_hash=SecretStr("letmein"))) or "")


@pytest.mark.parametrize("bound", ["127.0.0.1", "::1", "127.0.0.2", "localhost"])
@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:80"])
def test_this_machine_s_names_are_known(host: str, bound: str) -> None:
    assert is_local_name(host, bound)


@pytest.mark.parametrize(
    ("host", "bound"),
    [
        ("127.0.0.2:8080", "127.0.0.2"),
        ("[0:0:0:0:0:0:0:1]:80", "0:0:0:0:0:0:0:1"),
        ("127.9.9.9", "127.9.9.9"),
    ],
)
def test_the_address_that_the_page_is_served_on_is_one_of_them(host: str, bound: str) -> None:
    assert is_local_name(host, bound)
    assert not is_local_name(host, "127.0.0.1")


@pytest.mark.parametrize(
    "host", ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.5"]
)
def test_another_name_for_this_machine_is_refused(host: str) -> None:
    assert not is_local_name(host, "127.0.0.1")
    assert not is_local_name(host, "127.0.0.2")


def test_a_session_is_who_it_was_issued_to_until_it_is_too_old() -> None:
    clock = Clock()
    sessions = Sessions(secret_of(HASH), clock)
    cookie = sessions.issue(known=True, by="  Änne\n B. ")
    session = sessions.read(cookie)
    assert session is not None
    assert session.known
    assert session.by == "Änne B."
    clock.now += SESSION_S + 1
    assert sessions.read(cookie) is None


def test_a_forged_or_changed_session_is_none() -> None:
    sessions = Sessions(secret_of(HASH), Clock())
    cookie = sessions.issue(known=False, by="x")
    for forged in ("", "1", cookie[1:], "1" + cookie[1:], cookie + "0", cookie.replace(".", "..", 1), "é.ß"):
        assert sessions.read(forged) is None


def test_a_session_outlives_a_restart_but_not_the_password() -> None:
    cookie = Sessions(secret_of(HASH), Clock()).issue(known=True, by="")
    assert Sessions(secret_of(HASH), Clock()).read(cookie) is not None
    assert Sessions(secret_of(hash_password("another one")), Clock()).read(cookie) is None


def test_a_form_token_belongs_to_one_session() -> None:
    sessions = Sessions(secret_of(None), Clock())
    one, other = (sessions.read(sessions.issue(known=False, by="")) for _ in range(2))
    assert one is not None
    assert other is not None
    assert sessions.is_token(one, sessions.token(one))
    assert not sessions.is_token(one, sessions.token(other))
    assert not sessions.is_token(one, "")
