"""The accounts in one file, `review.accounts`, which only the service's user can read.

It knows nothing of what an account may do. Before the first account there is no file. A file that can't be
read, or that is gone, must never count as no accounts: the page would be open to everybody. The lock file
beside it has content once there was an account.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec

from monitor import paths
from monitor.accounts.password import hash_password, is_password
from monitor.accounts.permissions import Role
from monitor.errors import LineMonitorError
from monitor.names import NAME, NAME_RULE
from monitor.settings import Settings
from monitor.system.atomic_file import write_whole
from monitor.system.file_owner import give_to_folders_owner

_SCHEMA = 1
_MODE = 0o600
_MAX_BYTES = 1_000_000


class AccountsError(LineMonitorError):
    """The accounts can't be read or changed. The message is one line with the fix."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One person."""

    name: str
    role: Role
    password_hash: str
    since: str
    """RFC 3339: when the account was added."""

    @property
    def mark(self) -> str:
        """Changes with the password and the role: sessions with another mark have ended."""
        text = f"{self.name}\0{self.role.value}\0{self.password_hash}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    schema: int = _SCHEMA
    session_secret: str = ""
    """The key that signs sessions: they outlive a restart of the page."""
    accounts: tuple[Account, ...] = ()


class AccountsFile:
    """The accounts of one line. Safe for several threads; a change by another program counts at once."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock_file = file.with_name(f".{file.name}.lock")
        self._lock = threading.Lock()
        self._read: tuple[tuple[int, int, int], _Document] | None = None

    @classmethod
    def of(cls, settings: Settings) -> AccountsFile:
        return cls(paths.accounts(settings))

    def all(self) -> tuple[Account, ...]:
        """The accounts in order of their names; empty while there is no file. Raises AccountsError."""
        return self._document().accounts

    def exist(self) -> bool:
        """Whether there is an account. Raises AccountsError."""
        return bool(self.all())

    def find(self, name: str) -> Account | None:
        """The account of that name. Raises AccountsError."""
        return next((account for account in self.all() if account.name == name), None)

    def find_by_password(self, name: str, password: str) -> Account | None:
        """The account of that name where the password is right; an unknown name takes as long to refuse as a
        wrong password. Raises AccountsError."""
        account = self.find(name)
        is_right = is_password(password, account.password_hash if account else None)
        return account if is_right else None

    def session_secret(self) -> bytes | None:
        """The key that signs sessions; None while there is no account. Raises AccountsError."""
        document = self._document()
        return document.session_secret.encode() if document.accounts else None

    def check_new(self, name: str, role: Role) -> None:
        """Raises AccountsError where no account of that name and role can be added."""
        if not re.fullmatch(NAME, name):
            raise AccountsError(f"{name!r} can't be an account's name: use {NAME_RULE}")
        self._check_new(self._document(), name, role)

    @staticmethod
    def _check_new(document: _Document, name: str, role: Role) -> None:
        if any(other.name == name for other in document.accounts):
            raise AccountsError(f"there is an account {name} already: remove it first, or choose a name")
        if not document.accounts and role is not Role.ADMIN:
            raise AccountsError("the first account must be an admin, who adds the others: --role admin")

    def add(self, name: str, role: Role, password: str, utc: str) -> None:
        """Adds an account. Raises AccountsError, PasswordError."""
        self.check_new(name, role)
        account = Account(name=name, role=role, password_hash=hash_password(password), since=utc)
        with self._changing() as document:
            self._check_new(document, name, role)
            self._write(document, (*document.accounts, account))

    def remove(self, name: str) -> None:
        """Removes an account. Raises AccountsError, also for the last admin while there are others."""
        with self._changing() as document:
            self._must_find(document, name)
            left = tuple(account for account in document.accounts if account.name != name)
            if left and not any(account.role is Role.ADMIN for account in left):
                raise AccountsError(f"{name} is the last admin: remove the other accounts first")
            self._write(document, left)

    def set_password(self, name: str, password: str) -> None:
        """Changes a password; the account's sessions end. Raises AccountsError, PasswordError."""
        hashed = hash_password(password)
        with self._changing() as document:
            changed = msgspec.structs.replace(self._must_find(document, name), password_hash=hashed)
            others = (account for account in document.accounts if account.name != name)
            self._write(document, (*others, changed))

    @staticmethod
    def _must_find(document: _Document, name: str) -> Account:
        for account in document.accounts:
            if account.name == name:
                return account
        known = ", ".join(account.name for account in document.accounts) or "none"
        raise AccountsError(f"there is no account {name!r}; there are: {known}")

    def _document(self) -> _Document:
        try:
            status = self.file.stat()
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            with self._lock:
                if self._read is None or self._read[0] != stamp:
                    self._read = stamp, self._load()
                return self._read[1]
        except FileNotFoundError:
            self._check_never_made()
            return _Document()
        except OSError as error:
            raise AccountsError(f"accounts {self.file} can't be read: {error.strerror}") from None

    def _check_never_made(self) -> None:
        """Raises AccountsError where there was an account: its file was deleted or not restored."""
        try:
            was_made = self._lock_file.stat().st_size > 0
        except OSError:
            return
        if was_made:
            raise AccountsError(f"accounts {self.file} are gone: {self._fix}")

    @property
    def _fix(self) -> str:
        lock = self._lock_file.name
        return f"put a copy back, or remove it and {lock} beside it and add the accounts again"

    def _load(self) -> _Document:
        """Raises OSError, AccountsError."""
        content = self.file.read_bytes()
        if len(content) > _MAX_BYTES:
            raise AccountsError(f"accounts {self.file}: too large to be a file of this program")
        try:
            return msgspec.json.decode(content, type=_Document)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise AccountsError(f"accounts {self.file} are damaged: {self._fix}") from None

    @contextlib.contextmanager
    def _changing(self) -> Iterator[_Document]:
        """The accounts, while no other program changes them. Raises AccountsError."""
        try:
            handle = os.open(self._lock_file, os.O_RDWR | os.O_CREAT, _MODE)
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield self._document()
        finally:
            os.close(handle)

    def _write(self, document: _Document, accounts: tuple[Account, ...]) -> None:
        written = _Document(
            session_secret=document.session_secret or secrets.token_hex(32),
            accounts=tuple(sorted(accounts, key=lambda account: account.name)),
        )
        try:
            write_whole(self.file, msgspec.json.format(msgspec.json.encode(written)) + b"\n", mode=_MODE)
            for file in (self.file, self._lock_file):
                give_to_folders_owner(file, self.file.parent)
            self._lock_file.write_text("there were accounts\n")
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> AccountsError:
        return AccountsError(
            f"accounts {self.file} can't be written: {error.strerror}: run this as the service's user"
        )
