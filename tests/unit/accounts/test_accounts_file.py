"""The accounts' file: private, never half written, and never taken for missing when it can't be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from monitor.accounts import password as passwords
from monitor.accounts.accounts_file import AccountsError, AccountsFile
from monitor.accounts.password import PasswordError, is_password
from monitor.accounts.permissions import Role

UTC = "2026-11-24T06:00:00.000Z"


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_METHOD", "scrypt:1024:8:1")


@pytest.fixture
def accounts(tmp_path: Path) -> AccountsFile:
    return AccountsFile(tmp_path / "accounts.json")


def test_an_account_is_kept_with_its_hash_alone_in_a_private_file(accounts: AccountsFile) -> None:
    assert not accounts.exist()
    assert accounts.session_secret() is None
    accounts.add("anna", Role.ADMIN, "gloves and all", UTC)
    again = AccountsFile(accounts.file)
    account = again.find("anna")
    assert account is not None
    assert is_password("gloves and all", account.password_hash)
    assert not is_password("gloves and al", account.password_hash)
    assert "gloves" not in accounts.file.read_text()
    assert accounts.file.stat().st_mode & 0o777 == 0o600
    assert again.session_secret() == accounts.session_secret() is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_files_of_a_command_of_root_belong_to_the_folders_owner(accounts: AccountsFile) -> None:
    os.chown(accounts.file.parent, 12345, 12345)
    accounts.add("anna", Role.ADMIN, "gloves and all", UTC)
    assert {file.stat().st_uid for file in accounts.file.parent.iterdir()} == {12345}


def test_a_change_by_another_program_counts_at_once(accounts: AccountsFile) -> None:
    accounts.add("anna", Role.ADMIN, "gloves and all", UTC)
    other = AccountsFile(accounts.file)
    before = accounts.find("anna")
    other.set_password("anna", "another one")
    after = accounts.find("anna")
    assert before is not None
    assert after is not None
    assert after.mark != before.mark


def test_the_last_admin_stays_while_there_are_others(accounts: AccountsFile) -> None:
    with pytest.raises(AccountsError, match="first account must be an admin"):
        accounts.add("otto", Role.OPERATOR, "gloves and all", UTC)
    accounts.add("anna", Role.ADMIN, "gloves and all", UTC)
    accounts.add("otto", Role.OPERATOR, "gloves and all", UTC)
    with pytest.raises(AccountsError, match="last admin"):
        accounts.remove("anna")
    accounts.remove("otto")
    accounts.remove("anna")
    assert not accounts.exist()


@pytest.mark.parametrize(
    ("name", "password", "why"),
    [("Anna!", "gloves and all", "can't be an account's name"), ("anna", "short", "8 to 200 characters")],
)
def test_a_name_or_password_against_the_rule_is_refused(
    accounts: AccountsFile, name: str, password: str, why: str
) -> None:
    with pytest.raises((AccountsError, PasswordError), match=why):
        accounts.add(name, Role.ADMIN, password, UTC)
    assert not accounts.exist()


def test_a_damaged_file_is_an_error_and_not_a_line_without_accounts(accounts: AccountsFile) -> None:
    accounts.file.write_text("{")
    with pytest.raises(AccountsError, match="damaged"):
        accounts.exist()
    accounts.file.unlink()
    accounts.file.mkdir()
    with pytest.raises(AccountsError, match="can't be read"):
        accounts.exist()


def test_a_file_that_is_gone_is_an_error_and_not_a_line_without_accounts(accounts: AccountsFile) -> None:
    accounts.add("anna", Role.ADMIN, "gloves and all", UTC)
    accounts.file.unlink()
    with pytest.raises(AccountsError, match=r"are gone: put a copy back, or remove it and \.accounts"):
        AccountsFile(accounts.file).exist()
    with pytest.raises(AccountsError, match="are gone"):
        accounts.add("eve", Role.ADMIN, "gloves and all", UTC)
    (accounts.file.parent / ".accounts.json.lock").unlink()
    accounts.add("anna", Role.ADMIN, "gloves and all", UTC)
    assert accounts.exist()
