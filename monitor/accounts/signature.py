"""A signature: name and password given again for one act, with its meaning.

It knows nothing of pages and commands. A refused signature says no more than a guesser may know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from monitor.accounts.accounts_file import AccountsFile
from monitor.accounts.attempts import PasswordAttempts
from monitor.accounts.permissions import Permission, refuse
from monitor.system.printable import clean_line

NOBODY = "a person without a name"
_ATTEMPTS_FROM_ONE_ADDRESS, _ATTEMPTS_FOR_ONE_NAME = 5, 10
"""Wrong passwords a minute; those for one name are from all addresses together."""
_LONGEST_NAME, _LONGEST_REASON = 100, 500


@dataclass(frozen=True, slots=True)
class Signature:
    """Who signed, and what for."""

    name: str
    meaning: str
    """What the signature states, as `approved for production`."""
    is_proven: bool
    """Whether a password proved the name. It can't while there are neither accounts nor a page password."""
    confirmed: tuple[str, ...] = ()
    """The warnings that the person was shown and confirmed."""

    @property
    def statement(self) -> str:
        """The meaning with the warnings, for the record of changes."""
        return "; warning read and confirmed: ".join((self.meaning, *self.confirmed))


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no signature, in one line."""

    why: str
    is_limited: bool = False
    """Too many wrong passwords: the next one is looked at only later."""
    account: str = field(default="", compare=False)
    """The account whose name was given; empty where there is none of that name: what was typed may be a
    password. It goes into the record of changes only: an answer with it would tell which accounts exist."""

    def explain(self, meaning: str) -> str:
        """What was to be signed, as whom, and why it was refused, for the record of changes."""
        signer = f" as {self.account}" if self.account else ""
        return f"not signed{signer}: {meaning}. {self.why}"


def tidy_signer(name: str) -> str:
    """A name that no account vouches for, in one printable line."""
    return clean_line(" ".join(name.split()))[:_LONGEST_NAME]


def state_meaning(meaning: str, reason: str) -> str:
    """What a signature states: the meaning, and the reason that the person typed, if any, in one printable
    line."""
    tidy = clean_line(" ".join(reason.split()))[:_LONGEST_REASON]
    return f"{meaning}: {tidy}" if tidy else meaning


class Signatures:
    """Checks signatures. Safe for several threads.

    `is_shared_password` checks the one password of a line without accounts; None where it has none. `clock`
    is in seconds.
    """

    def __init__(
        self,
        accounts: AccountsFile,
        clock: Callable[[], float],
        is_shared_password: Callable[[str], bool] | None = None,
    ) -> None:
        self._accounts, self._is_shared_password = accounts, is_shared_password
        self._attempts = PasswordAttempts(clock)

    @property
    def asks_password(self) -> bool:
        """Whether a signature needs a password. Raises AccountsError."""
        return self._accounts.exist() or self._is_shared_password is not None

    def check(
        self, name: str, password: str, meaning: str, permission: Permission, origin: str = ""
    ) -> Signature | Refusal:
        """The signature, or why it is refused. `origin` is the address that it came from.

        Raises AccountsError.
        """
        name = name.strip()
        if not self.asks_password:
            return Signature(tidy_signer(name) or NOBODY, meaning, is_proven=False)
        if not name:
            return Refusal("Give your name: a signature needs name and password.")
        keys = {f"address {origin}": _ATTEMPTS_FROM_ONE_ADDRESS, f"name {name}": _ATTEMPTS_FOR_ONE_NAME}
        if not all([self._attempts.may_try(key, most) for key, most in keys.items()]):
            return Refusal("Too many wrong passwords: wait one minute, then try again.", is_limited=True)
        if not self._accounts.exist():
            if self._is_shared_password is None or not self._is_shared_password(password):
                return Refusal("Wrong password.")
            name = tidy_signer(name)
        else:
            account = self._accounts.find_by_password(name, password)
            if account is None:
                return Refusal("Wrong name or password.", account=name if self._accounts.find(name) else "")
            if (why := refuse(name, account.role, permission)) is not None:
                return Refusal(why, account=name)
        for key in keys:
            self._attempts.forget(key)
        return Signature(name, meaning, is_proven=True)
