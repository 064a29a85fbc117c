"""`line-monitor accounts`: lists, adds and removes the named accounts of a line, and sets their passwords.

It knows nothing of the page.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from monitor.accounts.permissions import Permission, Role
from monitor.commands.arguments import CommandError, as_path, load_settings, print_to_stderr
from monitor.commands.signing import add_signature, read_password, recording, sign

if TYPE_CHECKING:
    from monitor.accounts.accounts_file import AccountsFile
    from monitor.settings import Settings

_MEANING = "accounts managed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Named accounts for the page and for commands that change recipes. The first one must be an admin. "
        f"Roles: {'; '.join(role.text for role in Role)}."
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions")
    actions.add_parser("list", help="each account with its role (default)")
    add = actions.add_parser("add", help="add an account")
    remove = actions.add_parser("remove", help="remove an account; its sessions end")
    password = actions.add_parser("password", help="change a password; by its owner or an admin")
    for action in (add, remove, password):
        action.add_argument("name", metavar="NAME", help="the account")
    add.add_argument(
        "--role", type=Role, choices=tuple(Role), required=True, metavar="ROLE", help=", ".join(Role)
    )
    for action in (add, password):
        action.add_argument(
            "--new-password-file",
            type=as_path,
            metavar="FILE",
            help="the account's password is the first line of FILE (default: asked for, or a line of "
            "standard input)",
        )
    for action in (add, remove, password):
        add_signature(action)
    parser.set_defaults(action="list")


def run(options: argparse.Namespace) -> int:
    from monitor.accounts.accounts_file import AccountsFile

    settings = load_settings(options)
    accounts = AccountsFile.of(settings)
    match options.action:
        case "add":
            _add(options, settings, accounts)
        case "remove":
            _remove(options, settings, accounts)
        case "password":
            _set_password(options, settings, accounts)
        case _:
            _list(accounts)
    return 0


def _list(accounts: AccountsFile) -> None:
    for account in accounts.all():
        print(f"{account.name:32}  {account.role.value:8}  since {account.since}")
    if not accounts.exist():
        print_to_stderr("no accounts: everybody who reaches the page may do everything on it")


def _add(options: argparse.Namespace, settings: Settings, accounts: AccountsFile) -> None:
    import time

    from monitor.audit.entry import Kind
    from monitor.verdict import rfc3339

    signature = sign(options, settings, Permission.ACCOUNTS, _MEANING)
    accounts.check_new(options.name, options.role)
    password = _read_new_password(options)
    subject, after = f"account.{options.name}", options.role.value
    with recording(settings, Kind.ACCOUNT, subject, None, after, signature):
        accounts.add(options.name, options.role, password, rfc3339(time.time_ns()))
    print(f"added {options.name} as {options.role.text}")


def _remove(options: argparse.Namespace, settings: Settings, accounts: AccountsFile) -> None:
    from monitor.audit.entry import Kind

    signature = sign(options, settings, Permission.ACCOUNTS, _MEANING)
    account = accounts.find(options.name)
    before = account.role.value if account else None
    with recording(settings, Kind.ACCOUNT, f"account.{options.name}", before, None, signature):
        accounts.remove(options.name)
    print(f"removed {options.name}")
    if not accounts.exist():
        print_to_stderr("warning: no accounts are left: the page asks for no name any more")


def _set_password(options: argparse.Namespace, settings: Settings, accounts: AccountsFile) -> None:
    """The owner signs with the present password, which needs no permission; another person must be an
    admin."""
    from monitor.audit.entry import Kind

    is_owner = options.account in ("", options.name) and accounts.find(options.name) is not None
    options.account = options.account or options.name
    permission = Permission.OWN_PASSWORD if is_owner else Permission.ACCOUNTS
    signature = sign(options, settings, permission, _MEANING)
    password = _read_new_password(options)
    subject = f"account.{options.name}.password"
    with recording(settings, Kind.ACCOUNT, subject, "(secret)", "(secret, changed)", signature):
        accounts.set_password(options.name, password)
    print(f"changed the password of {options.name}; its sessions on the page have ended")


def _read_new_password(options: argparse.Namespace) -> str:
    """Typed twice on a terminal. Raises CommandError, PasswordError."""
    import sys

    from monitor.accounts.password import check_password

    password = read_password(f"New password of {options.name}: ", options.new_password_file)
    check_password(password)
    if options.new_password_file is None and sys.stdin.isatty():
        again = read_password("Repeat the new password: ", None)
        if again != password:
            raise CommandError("the two passwords differ: run the command again")
    return password
