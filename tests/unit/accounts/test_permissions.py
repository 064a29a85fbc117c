"""The table of roles: what each may do."""

from __future__ import annotations

from monitor.accounts.permissions import Permission, Role, may, roles_for


def test_each_act_is_for_the_roles_that_answer_for_it() -> None:
    operator, engineer, quality, admin = Role
    assert {permission: roles_for(permission) for permission in Permission} == {
        Permission.LABEL: (operator, engineer, quality),
        Permission.RESET: (operator, engineer, quality),
        Permission.CHALLENGE: (operator, engineer, quality),
        Permission.TEACH: (engineer,),
        Permission.CALIBRATE: (engineer, quality),
        Permission.USE: (operator, engineer, quality),
        Permission.PROMOTE: (quality,),
        Permission.ACCOUNTS: (admin,),
        Permission.OWN_PASSWORD: (operator, engineer, quality, admin),
    }


def test_who_manages_accounts_can_not_promote_by_himself() -> None:
    assert not any(may(role, Permission.ACCOUNTS) and may(role, Permission.PROMOTE) for role in Role)
