"""A signature: who gives it, who may not, and how guessing is slowed down."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.accounts import password as passwords
from monitor.accounts.accounts_file import AccountsFile
from monitor.accounts.permissions import Permission, Role
from monitor.accounts.signature import NOBODY, Refusal, Signature, Signatures, state_meaning

MEANING = "approved for production"
PASSWORD = "gloves and all"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AccountsFile:
    monkeypatch.setattr(passwords, "_METHOD", "scrypt:1024:8:1")
    found = AccountsFile(tmp_path / "accounts.json")
    for name, role in (("anna", Role.ADMIN), ("otto", Role.OPERATOR), ("quinn", Role.QUALITY)):
        found.add(name, role, PASSWORD, "2026-11-24T06:00:00.000Z")
    return found


def test_the_right_role_with_its_password_signs_and_no_other(accounts: AccountsFile, clock: Clock) -> None:
    signatures = Signatures(accounts, clock)
    assert signatures.asks_password
    signed = signatures.check("quinn", PASSWORD, MEANING, Permission.PROMOTE)
    assert signed == Signature("quinn", MEANING, is_proven=True)
    refused = signatures.check("otto", PASSWORD, MEANING, Permission.PROMOTE)
    assert isinstance(refused, Refusal)
    assert refused.why == "otto is operator, which may not promote a version of a recipe: that needs quality."


def test_a_wrong_name_reads_like_a_wrong_password_and_no_role_is_told(
    accounts: AccountsFile, clock: Clock
) -> None:
    signatures = Signatures(accounts, clock)
    guesses = [signatures.check(name, "guessed", MEANING, Permission.PROMOTE) for name in ("otto", "nobody")]
    assert guesses == [Refusal("Wrong name or password.")] * 2


def test_guessing_is_limited_by_address_and_by_name_until_a_minute_is_over(
    accounts: AccountsFile, clock: Clock
) -> None:
    signatures = Signatures(accounts, clock)
    for _ in range(5):
        signatures.check("quinn", "guessed", MEANING, Permission.PROMOTE, "10.0.0.1")
    limited = signatures.check("quinn", PASSWORD, MEANING, Permission.PROMOTE, "10.0.0.1")
    assert isinstance(limited, Refusal)
    assert limited.is_limited
    for number in range(5):
        signatures.check("quinn", "guessed", MEANING, Permission.PROMOTE, f"10.0.1.{number}")
    elsewhere = signatures.check("quinn", PASSWORD, MEANING, Permission.PROMOTE, "10.0.2.1")
    assert isinstance(elsewhere, Refusal)
    clock.now += 61
    assert isinstance(signatures.check("quinn", PASSWORD, MEANING, Permission.PROMOTE), Signature)


def test_without_accounts_the_page_password_signs_and_without_that_a_name_is_not_proven(
    tmp_path: Path, clock: Clock
) -> None:
    none = AccountsFile(tmp_path / "accounts.json")
    shared = Signatures(none, clock, is_shared_password=lambda password: password == PASSWORD)
    assert shared.check("ab", PASSWORD, MEANING, Permission.PROMOTE) == Signature("ab", MEANING, True)
    assert isinstance(shared.check("ab", "guessed", MEANING, Permission.PROMOTE), Refusal)
    assert isinstance(shared.check("", PASSWORD, MEANING, Permission.PROMOTE), Refusal)
    open_line = Signatures(none, clock)
    assert not open_line.asks_password
    assert open_line.check("", "", MEANING, Permission.PROMOTE) == Signature(NOBODY, MEANING, False)
    typed = open_line.check("\x1b[2Jquinn\nquinn" + "x" * 200, "", MEANING, Permission.PROMOTE)
    assert isinstance(typed, Signature)
    assert typed.name.startswith("\\x1b[2Jquinn quinnx")
    assert len(typed.name) == 100


def test_a_reason_is_one_printable_line_of_bounded_length() -> None:
    assert state_meaning(MEANING, " \n ") == MEANING
    stated = state_meaning(MEANING, "new lamp\nplate@9 \udcff\x1b[31m" + "long " * 200)
    assert stated.startswith(f"{MEANING}: new lamp plate@9 \ufffd\\x1b[31mlong")
    assert len(stated) <= len(MEANING) + 2 + 500
    stated.encode()
