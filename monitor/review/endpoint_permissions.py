"""Which permission each form of the page needs, once there are accounts.

It knows nothing of requests. A form that this table lacks is refused: a new one must be added here.
"""

from __future__ import annotations

from collections.abc import Mapping

from monitor.accounts.permissions import Permission, Role, refuse

EVERYBODY = frozenset({"enter", "logout"})
"""Forms that need no account."""
READING = frozenset({"record_verify"})
"""Forms that change nothing: every account may send them."""
SIGNED = frozenset({"recalibrate_accept", "version_use", "recipe_set_use"})
"""Forms with a signature of their own: who signs may be another person than the one who is signed in."""
REQUIRED: Mapping[str, Permission] = {
    "label": Permission.LABEL,
    "reset_line": Permission.RESET,
    "challenge_step": Permission.CHALLENGE,
    "version_compare": Permission.USE,
    "recalibrate_start": Permission.CALIBRATE,
    "recalibrate_discard": Permission.CALIBRATE,
    "teach_collect": Permission.TEACH,
    "teach_stop": Permission.TEACH,
    "teach_remove": Permission.TEACH,
    "teach_restore": Permission.TEACH,
    "teach_count": Permission.TEACH,
    "teach_defects": Permission.TEACH,
    "teach_known_defect": Permission.TEACH,
    "teach_start": Permission.TEACH,
    "teach_cancel": Permission.TEACH,
    "teach_resume": Permission.TEACH,
}


def refuse_form(endpoint: str, name: str, role: Role) -> str | None:
    """Why that account may not send the form, in one line; None where it may."""
    if endpoint in EVERYBODY | READING | SIGNED:
        return None
    permission = REQUIRED.get(endpoint)
    if permission is None:
        return "Refused: the name is that of your account, and can't be changed here."
    return refuse(name, role, permission)
