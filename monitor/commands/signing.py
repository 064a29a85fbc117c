"""Signatures and recorded changes of commands: who, by which account, with which password.

It knows nothing of what a command does. Without accounts, the name is that of the user who runs the command:
who can write the data folder as this user is trusted by the program.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.commands.arguments import CommandError, as_path, print_to_stderr

if TYPE_CHECKING:
    from monitor.accounts.permissions import Permission
    from monitor.accounts.signature import Signature
    from monitor.audit.entry import Kind
    from monitor.settings import Settings

VIA = "command line"
_WRONG_PASSWORD_S = 2.0
"""How long a refused signature takes: guessing on the command line is slow too."""


def add_signature(parser: argparse.ArgumentParser, *, warns: bool = False) -> None:
    """Add the options by which a person signs; `warns`: also the one that confirms warnings."""
    signature = parser.add_argument_group("signature (once there are accounts)")
    signature.add_argument("--as", dest="account", default="", metavar="NAME", help="the account that signs")
    signature.add_argument(
        "--password-file",
        type=as_path,
        metavar="FILE",
        help="its password is the first line of FILE (default: asked for, or a line of standard input)",
    )
    signature.add_argument("--reason", default="", metavar="TEXT", help="why, for the record of changes")
    if warns:
        signature.add_argument(
            "--understood",
            action="store_true",
            help="I have read the warning: accept a threshold that moves more than twofold or lets known "
            "defects pass",
        )


def sign(options: argparse.Namespace, settings: Settings, permission: Permission, meaning: str) -> Signature:
    """The signature of the person who runs the command, with a password where there are accounts.

    Raises CommandError, AccountsError, and AuditError where a refused signature can't be recorded.
    """
    from monitor.accounts.accounts_file import AccountsFile
    from monitor.accounts.permissions import roles_for
    from monitor.accounts.signature import Refusal, Signature, Signatures, state_meaning, tidy_signer
    from monitor.audit.entry import Kind
    from monitor.system.login_name import login_name

    stated = state_meaning(meaning, options.reason)
    signatures = Signatures(AccountsFile.of(settings), time.monotonic)
    if not signatures.asks_password:
        return Signature(tidy_signer(options.account) or login_name(), stated, is_proven=False)
    if not options.account:
        roles = " or ".join(roles_for(permission))
        raise CommandError(f"there are accounts, and to {permission} needs {roles}: sign with --as NAME")
    password = read_password(f"Password of {options.account}: ", options.password_file)
    result = signatures.check(options.account, password, stated, permission, VIA)
    if isinstance(result, Refusal):
        why = result.explain(meaning)
        record(settings, Kind.REFUSED, login_name(), permission.value, None, None, why)
        time.sleep(_WRONG_PASSWORD_S)
        raise CommandError(result.why.removesuffix("."))
    return result


def confirm(warnings: Sequence[str], signature: Signature, *, understood: bool) -> Signature:
    """Print the warnings, in red on a terminal, and have them confirmed where there are accounts: the
    signature then says so. Raises CommandError.

    Without accounts a warning stops nothing: scripts that calibrate do so without a person.
    """
    red, plain = ("\x1b[1;31m", "\x1b[0m") if sys.stderr.isatty() else ("", "")
    for warning in warnings:
        print_to_stderr(f"{red}WARNING: {warning}{plain}")
    if not warnings or not (understood or signature.is_proven):
        return signature
    confirmed = dataclasses.replace(signature, confirmed=tuple(warnings))
    if understood:
        return confirmed
    if sys.stdin.isatty():
        print_to_stderr("Type YES to accept this nevertheless:")
        if sys.stdin.readline().strip() == "YES":
            return confirmed
    raise CommandError("not accepted, nothing is changed: read the warning, then repeat with --understood")


def read_password(prompt: str, file: Path | None) -> str:
    """The first line of a file, else typed on a terminal, else a line of standard input. Raises
    CommandError."""
    import getpass

    try:
        if file is not None:
            password = file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
        elif sys.stdin.isatty():
            password = getpass.getpass(prompt)
        else:
            password = sys.stdin.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise CommandError(f"no password: {getattr(error, 'strerror', None) or error}") from None
    if not password:
        raise CommandError("no password was given: type one, write it to the command's input, or name a file")
    return password


def hold_version(settings: Settings, folder: Path) -> None:
    """Keeps the present version of the recipe in that folder in force, where there are accounts: the version
    that is made next needs the signature of a person who may promote it.

    Raises RecipeError and AccountsError.
    """
    from monitor.accounts.accounts_file import AccountsFile
    from monitor.model.in_force import hold_in_force
    from monitor.model.version_files import find_newest

    if AccountsFile.of(settings).exist() and find_newest(folder) is not None:
        hold_in_force(folder, _utc())


def record(
    settings: Settings, kind: Kind, who: str, subject: str, before: str | None, after: str | None, why: str
) -> None:
    """Adds a change that nobody signed to the record of changes. Raises AuditError."""
    from monitor.audit.entry import Change
    from monitor.audit.trail import AuditTrail

    AuditTrail.of(settings).append(Change(kind, who, subject, before, after, why, _utc(), via=VIA))


@contextlib.contextmanager
def recording(
    settings: Settings, kind: Kind, subject: str, before: str | None, after: str | None, signature: Signature
) -> Iterator[None]:
    """Records a signed change, then runs the block that does it: what can't be recorded is not done.

    Raises AuditError.
    """
    from monitor.audit.entry import Change
    from monitor.audit.trail import AuditTrail

    change = Change(
        kind,
        signature.name,
        subject,
        before,
        after,
        signature.statement,
        _utc(),
        via=VIA,
        signed=signature.is_proven,
    )
    with AuditTrail.of(settings).recording(change, _utc) as head:
        yield
    print_to_stderr(f"record of changes: head {head}")


def _utc() -> str:
    from monitor.verdict import rfc3339

    return rfc3339(time.time_ns())
