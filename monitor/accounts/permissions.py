"""The roles, and what each of them may do, as one table.

It knows nothing of names and passwords.
"""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a person does at the line. Each account has one role."""

    OPERATOR = "operator"
    ENGINEER = "engineer"
    QUALITY = "quality"
    ADMIN = "admin"

    @property
    def text(self) -> str:
        """The role with what it may do, in words."""
        return {
            Role.OPERATOR: "operator: labels parts, challenges the line and resets it",
            Role.ENGINEER: "engineer: also teaches and calibrates recipes",
            Role.QUALITY: "quality: labels, challenges, resets, calibrates, and promotes versions of recipes",
            Role.ADMIN: "admin: manages the accounts, and nothing else",
        }[self]


class Permission(StrEnum):
    """What can be permitted."""

    LABEL = "label parts"
    RESET = "reset the line"
    CHALLENGE = "challenge the line with known parts"
    TEACH = "teach a recipe"
    CALIBRATE = "calibrate a recipe"
    USE = "put a promoted version in force"
    PROMOTE = "promote a version of a recipe"
    ACCOUNTS = "manage accounts"
    OWN_PASSWORD = "change the own password"


_AT_THE_LINE = frozenset({Permission.LABEL, Permission.RESET, Permission.CHALLENGE, Permission.OWN_PASSWORD})
_PERMITTED: dict[Role, frozenset[Permission]] = {
    Role.OPERATOR: _AT_THE_LINE | {Permission.USE},
    Role.ENGINEER: _AT_THE_LINE | {Permission.TEACH, Permission.CALIBRATE, Permission.USE},
    Role.QUALITY: _AT_THE_LINE | {Permission.CALIBRATE, Permission.PROMOTE, Permission.USE},
    Role.ADMIN: frozenset({Permission.ACCOUNTS, Permission.OWN_PASSWORD}),
}


def may(role: Role, permission: Permission) -> bool:
    """Whether accounts of that role may do this."""
    return permission in _PERMITTED[role]


def refuse(name: str, role: Role, permission: Permission) -> str | None:
    """Why the account of that name may not do this, in one line; None where it may."""
    if may(role, permission):
        return None
    return f"{name} is {role}, which may not {permission}: that needs {' or '.join(roles_for(permission))}."


def roles_for(permission: Permission) -> tuple[Role, ...]:
    """The roles that may do this, for messages."""
    return tuple(role for role in Role if may(role, permission))
