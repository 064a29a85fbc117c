"""`line-monitor accounts`: each act is signed and recorded, and no password is an argument or is kept."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.accounts import password as passwords
from monitor.accounts.accounts_file import AccountsFile
from monitor.audit.trail import AuditTrail
from monitor.cli import main
from monitor.commands import signing

Command = Callable[..., int]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command of the line in `tmp_path`, with these lines on its standard input."""
    monkeypatch.setattr(passwords, "_METHOD", "scrypt:1024:8:1")
    monkeypatch.setattr(signing, "_WRONG_PASSWORD_S", 0.0)
    config = tmp_path / "line.toml"
    config.write_text(f'[line]\ndata = "{tmp_path}"\n')

    def run(*arguments: str, typed: str = "") -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        return main(["--config", str(config), *arguments])

    return run


@pytest.fixture
def admin(command: Command) -> None:
    assert command("accounts", "add", "anna", "--role", "admin", typed="gloves and all\n") == 0


def test_the_first_account_needs_no_signature_and_every_other_one_an_admins(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("accounts", "add", "otto", "--role", "operator", typed="gloves and all\n") == 1
    assert "must be an admin" in capsys.readouterr().err
    assert command("accounts", "add", "anna", "--role", "admin", typed="gloves and all\n") == 0
    add = ("accounts", "add", "otto", "--role", "operator")
    assert command(*add, typed="gloves and all\n") == 1
    assert "sign with --as NAME" in capsys.readouterr().err
    assert command(*add, "--as", "anna", typed="guessed\nnew password\n") == 1
    assert command(*add, "--as", "anna", typed="gloves and all\nnew password\n") == 0
    capsys.readouterr()
    assert command("accounts") == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["anna", "admin"],
        ["otto", "operator"],
    ]
    trail = AuditTrail(tmp_path / "audit.jsonl")
    assert [(entry.kind, entry.subject, entry.after, entry.signed) for entry in trail.entries()][1:] == [
        ("account", "account.anna", "admin", False),
        ("refused", "manage accounts", None, False),
        ("account", "account.otto", "operator", True),
    ]
    assert trail.verify().is_whole
    assert "gloves" not in trail.file.read_text()


@pytest.mark.usefixtures("admin")
def test_an_operator_changes_the_own_password_and_no_other(command: Command, tmp_path: Path) -> None:
    add = ("accounts", "add", "otto", "--role", "operator", "--as", "anna")
    assert command(*add, typed="gloves and all\nfirst password\n") == 0
    assert command("accounts", "password", "otto", typed="first password\nsecond password\n") == 0
    typed = "second password\nthird password\n"
    assert command("accounts", "password", "anna", "--as", "otto", typed=typed) == 1
    assert command("accounts", "remove", "anna", "--as", "otto", typed=typed) == 1
    accounts = AccountsFile(tmp_path / "accounts.json")
    assert [account.name for account in accounts.all()] == ["anna", "otto"]
    anna = accounts.find("anna")
    assert anna is not None
    assert passwords.is_password("gloves and all", anna.password_hash)


@pytest.mark.usefixtures("admin")
def test_an_account_that_can_not_be_recorded_is_not_added(command: Command, tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").unlink()
    (tmp_path / "audit.jsonl").mkdir()
    add = ("accounts", "add", "otto", "--role", "operator", "--as", "anna")
    assert command(*add, typed="gloves and all\nfirst password\n") == 1
    assert AccountsFile(tmp_path / "accounts.json").find("otto") is None


@pytest.mark.usefixtures("admin")
@pytest.mark.parametrize(
    "arguments",
    [("train", "plate", "--images", "."), ("calibrate", "plate", "--overkill", "0.01")],
    ids=["train", "calibrate"],
)
def test_once_there_are_accounts_a_command_that_changes_recipes_asks_for_one(
    command: Command, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*arguments) == 1
    assert "sign with --as NAME" in capsys.readouterr().err
    assert command(*arguments, "--as", "anna", typed="gloves and all\n") == 1
    assert "anna is admin, which may not" in capsys.readouterr().err
